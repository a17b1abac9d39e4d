"""Pages, REST and the command line share one table of actions; pages hold no decision, no string and no markup."""

import ast
import re
import string
from pathlib import Path

import pytest
import typer
from jinja2 import Environment, PackageLoader, meta, nodes

from lora_diffusion.cli import app as command_line
from lora_diffusion.library import MOVES
from webui.actions import actions
from webui.text import LANGUAGES, catalogue

WEBUI = Path(__file__).parents[2] / "webui"
PAGES = sorted((WEBUI / "pages").glob("*.py"))
ASK = {"act", "do"}
SHOWN = {"label", "info", "placeholder", "title", "value", "description", "submit_btn", "stop_btn", "caption"}
"""Keywords of components whose strings people read."""


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]


def constants(path: Path) -> list[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def commands() -> set[str]:
    """Every command of the command line, such as `library promote`."""
    found: set[str] = set()

    def walk(group: object, words: tuple[str, ...]) -> None:
        for name, each in getattr(group, "commands", {}).items():
            found.add(" ".join([*words, name]))
            walk(each, (*words, name))

    walk(typer.main.get_command(command_line), ())
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_a_page_does_is_an_action(path):
    asked = [
        call.args[1].value
        for call in calls(path)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ASK
        and len(call.args) > 1
        and isinstance(call.args[1], ast.Constant)
    ]
    assert [name for name in asked if name not in actions()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_reaches_the_studio_through_actions_alone(path):
    source = path.read_text("utf-8")
    assert not re.search(r"\bstudio\.\w+", source), "ask an action"
    assert not re.search(r"^\s*(from|import) (lora_diffusion|subprocess|os|shutil|sqlite3)\b", source, re.M)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_is_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_holds_no_string_that_people_read_and_no_markup(path):
    literal = [
        f"{keyword.arg}={keyword.value.value!r}"
        for call in calls(path)
        for keyword in call.keywords
        if keyword.arg in SHOWN
        and isinstance(keyword.value, ast.Constant)
        and isinstance(keyword.value.value, str)
        and re.search(r"[A-Za-z]{3}", keyword.value.value)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "gr"
        and call.func.attr[0].isupper()
        and keyword.arg != "value"
    ]
    assert literal == []
    assert [text for text in constants(path) if re.search(r"</?[a-z]+[ >]", text)] == []


def keys_used() -> set[str]:
    pattern = re.compile(r"""\bt\(\s*f?["']([a-z_]+\.[a-z0-9_]+)["'][,)]""")
    files = [*WEBUI.rglob("*.py"), *WEBUI.rglob("*.j2")]
    return {key for path in files for key in pattern.findall(path.read_text("utf-8"))}


def test_every_string_that_is_asked_for_is_in_the_catalogue():
    assert sorted(key for key in keys_used() if key not in catalogue()) == []


@pytest.mark.parametrize("key", sorted(catalogue()))
def test_a_string_is_there_in_every_language_with_the_same_places_to_fill(key):
    strings = catalogue()[key]
    assert set(strings) == set(LANGUAGES)
    assert strings["de"], key
    assert strings["en"] or key.startswith("datasets.r_"), "advice on a finding is written in English where it is found"
    places = [
        {name for _, name, _, _ in string.Formatter().parse(text) if name is not None} for text in strings.values()
    ]
    assert all(each == places[0] for each in places)


def test_every_event_that_is_recorded_is_told_in_words():
    acts = [each.name.replace(".", "_") for each in actions().values() if each.writes]
    moves = [f"{stage}_to_{after}" for stage, then in MOVES.items() for after in then]
    assert [each for each in (*acts, *moves) if f"activity.did_{each}" not in catalogue()] == []


def test_no_template_takes_markup_from_outside():
    environment = Environment(loader=PackageLoader("webui"), autoescape=True)
    for path in sorted((WEBUI / "templates").glob("*.j2")):
        source = path.read_text("utf-8")
        tree = environment.parse(source)
        assert not list(tree.find_all(nodes.Filter)) or "|safe" not in source.replace(" ", ""), path.name
        assert "autoescape false" not in source
        assert not re.search(r"""\s[a-z-]+=\{\{""", source), f"{path.name}: an attribute without quotation marks"
        assert not re.search(r"<script|\son[a-z]+=", source), f"{path.name}: script in a template"
        meta.find_undeclared_variables(tree)


def test_an_action_names_a_command_that_exists():
    there = commands()
    missing = {
        each.name: each.same_as for each in actions().values() if each.same_as and not spelt_out(each.same_as) <= there
    }
    assert missing == {}


def spelt_out(words: str) -> set[str]:
    """`caption prepend|append` are two commands, and so are `export --preview, library pack`."""
    found = set()
    for command in words.split(","):
        *group, last = [word for word in command.split() if not word.startswith("--")]
        found |= {" ".join([*group, each]) for each in last.split("|")}
    return found


def test_rest_and_the_command_line_offer_every_action(tmp_path):
    from starlette.testclient import TestClient

    from lora_diffusion.cli import run
    from webui.server import create_app

    client = TestClient(create_app(tmp_path, pages=False), base_url="http://localhost")
    listed = client.get("/api").json()
    assert [each["name"] for each in listed] == list(actions())
    for each in listed:
        assert set(each["arguments"].get("properties", {})) == set(actions()[each["name"]].arguments.model_fields)
    assert run(["studio", "list", "--json"]) == 0


def test_every_action_says_what_it_does_and_bounds_what_it_takes():
    for each in actions().values():
        assert each.says.endswith("."), each.name
        unbounded = [path for path, schema in walk(each.arguments.model_json_schema()) if not bounded(schema)]
        assert unbounded == [], each.name


def walk(schema: dict, path: str = "") -> list[tuple[str, dict]]:
    """Every part of a JSON schema that holds a number, a string or a list."""
    found = [(path, schema)] if schema.get("type") in ("integer", "number", "string", "array") else []
    for key in ("properties", "$defs"):
        for name, each in schema.get(key, {}).items():
            found += walk(each, f"{path}.{name}")
    for key in ("anyOf", "prefixItems"):
        for each in schema.get(key, []):
            found += walk(each, path)
    if isinstance(schema.get("items"), dict):
        found += walk(schema["items"], f"{path}[]")
    return found


def bounded(schema: dict) -> bool:
    if "enum" in schema or "const" in schema:
        return True
    match schema["type"]:
        case "integer" | "number":
            return (
                {"minimum", "exclusiveMinimum"} & set(schema) and {"maximum", "exclusiveMaximum"} & set(schema)
            ) != set()
        case "string":
            return "maxLength" in schema or "pattern" in schema
        case _:
            return "maxItems" in schema
