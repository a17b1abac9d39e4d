"""Every argument of every action with values that nobody means: a sentence is the answer, at once, never a fault."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from tests.webui.conftest import HOST, PASSWORD, WHEN, opened
from webui.actions import _recorded, actions
from webui.server import MAKES_TOKENS

SOON = 5.0
"""Seconds on a busy machine; the slowest takes 0.1 alone."""

WORKS = {
    "bases.list",
    "library.draw_samples",
    "library.verify",
    "pictures.draw",
    "pictures.sketch",
    "pictures.warm",
    "series.compare",
    "series.grid",
}
"""These begin work with arguments that are fine, so only what is refused is tried on them."""


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE: list[Any] = [
    10**9, -(10**9), 2**63, -(2**63) - 1, 10**300, -1, 0, 0.5, float("nan"), float("inf"), "NaN", "1e999", "",
    "x" * 100_000, "\ud800", "\x00", "../../etc/passwd", "/etc/passwd", "-h", "--home=/tmp", "'\"*) OR 1 --",
    "%s{0}{x.__class__}", None, [], {}, [None] * 5000, nested(300), {"a": nested(300)}, {"path": "/etc/passwd"}, True,
]  # fmt: skip


@pytest.fixture
def local(app) -> TestClient:
    return opened(TestClient(app, base_url=HOST, follow_redirects=False, raise_server_exceptions=False))


def tried(browser: TestClient, name: str, arguments: Any) -> tuple[int, float, str]:
    began = time.perf_counter()
    answer = browser.post(f"/api/{name}", content=json.dumps(arguments), headers={"content-type": "application/json"})
    return answer.status_code, time.perf_counter() - began, answer.text


def usual(schema: dict[str, Any], whole: dict[str, Any]) -> Any:
    """Return a value that a schema allows, of the kind that finds nothing."""
    if "$ref" in schema:
        return usual(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return usual(schema["anyOf"][0], whole)
    if schema.get("pattern"):
        return "a" * (16 if "16" in schema["pattern"] else 64 if "64" in schema["pattern"] else 32)
    match schema.get("type"):
        case "object":
            return {key: usual(each, whole) for key, each in schema.get("properties", {}).items()}
        case "array":
            return [usual(schema.get("items", {}), whole)] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMaximum", 1))
        case "boolean":
            return False
        case _:
            return "x" * max(1, schema.get("minLength", 1))


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every part of a value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*at, key)
        yield from places(part, (*at, key))


def with_part(value: Any, at: tuple[Any, ...], part: Any) -> Any:
    if not at:
        return part
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = with_part(value[at[0]], at[1:], part)
    return copy


@pytest.mark.parametrize("name", sorted(actions()))
def test_no_argument_of_an_action_breaks_it_or_holds_it_up(local, name):
    model = actions()[name].arguments
    schema = model.model_json_schema()
    fine = usual({**schema, "type": "object"}, schema)
    asked = [{}, {"no_such_argument": 1}]
    asked += [with_part(fine, place, value) for place in places(fine) for value in HOSTILE]
    faults = []
    for arguments in asked:
        try:
            model(**arguments)
            refused = False
        except ValidationError:
            refused = True
        if name in WORKS and not refused:
            continue
        status, seconds, text = tried(local, name, arguments)
        wrong = status >= 500 or seconds > SOON or (refused and status not in (400, 422))
        if wrong:
            faults.append((json.dumps(arguments)[:200], status, round(seconds, 1), text[:200]))
    assert faults == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '"x"',
        "NaN",
        "[" * 100_000,
        '{"a":' * 100_000,
        f'{{"a": {"9" * 5000}}}',
        "\udcff",
        "{}{}",
    ],
    ids=range(12),
)
def test_a_body_that_is_no_object_is_refused_in_a_sentence(local, body):
    answer = local.post(
        "/api/users.prefer",
        content=body.encode("utf-8", "surrogateescape"),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in (200, 400, 422)
    assert answer.status_code == (200 if body in ("", "null") else answer.status_code)


def test_a_number_is_bounded_in_every_action():
    """A number without a largest value is a promise to do that much."""
    missing = []
    for name, found in actions().items():
        for field, schema in _numbers(found.arguments.model_json_schema()):
            if not {"maximum", "exclusiveMaximum"} & set(schema) or not {"minimum", "exclusiveMinimum"} & set(schema):
                missing.append(f"{name}: {field}")
    assert missing == []


def test_a_text_or_a_list_is_bounded_in_every_action():
    missing = []
    for name, found in actions().items():
        for field, schema in _texts(found.arguments.model_json_schema()):
            if not {"maxLength", "maxItems", "enum", "const", "pattern"} & set(schema):
                missing.append(f"{name}: {field}")
    assert missing == []


def _numbers(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    return ((where, each) for where, each in _schemas(schema, at) if each.get("type") in ("integer", "number"))


def _texts(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    fixed = ("prefixItems",)
    return (
        (where, each)
        for where, each in _schemas(schema, at)
        if each.get("type") in ("string", "array") and not any(key in each for key in fixed)
    )


def _schemas(value: Any, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield at, value
        for key, each in value.items():
            yield from _schemas(each, f"{at}.{key}")
    elif isinstance(value, list):
        for each in value:
            yield from _schemas(each, at)


def test_the_audit_keeps_the_beginning_of_what_is_long_and_says_how_much_there_was():
    given = {"id": "a" * 16, "files": [f"{number}.png" for number in range(3000)], "owner": "x" * 1000}
    recorded = _recorded(actions()["datasets.rights"].arguments(**given))
    assert recorded["files"][0] == "0.png"
    assert recorded["files"][-1] == "… 3000 in all"
    assert len(json.dumps(recorded)) < 2000
    short = _recorded(actions()["datasets.rights"].arguments(id="a" * 16, files=["a.png"], owner="Acme"))
    assert (short["files"], short["owner"]) == (["a.png"], "Acme")


ROLES = ("viewer", "creator", "trainer", "approver", "admin")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_is_its_own_and_nothing_above(app, studio, role):
    studio.users.add("boss", "admin", PASSWORD, when=WHEN)
    found = studio.users.find("boss") if role == "admin" else studio.users.add("x", role, PASSWORD, when=WHEN)
    token = studio.sessions.issue(found, "t", when=WHEN)
    browser = TestClient(
        app, base_url=HOST, headers={"authorization": f"Bearer {token}"}, raise_server_exceptions=False
    )
    for name, each in actions().items():
        status = browser.post(f"/api/{name}", json={"no_such_argument": 1}).status_code
        may = ROLES.index(role) >= ROLES.index(each.role) and name != MAKES_TOKENS  # which tokens may not
        assert status == (422 if may else 403), name
