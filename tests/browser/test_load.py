"""Many people at once, and processes that are killed: each gets their own, is told what is, nothing stays behind."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.browser.conftest import Server
from webui.studio import Studio
from webui.users import User

WHEN = "2026-01-02T03:04:05+00:00"
PEOPLE = 50
SMALL = {"width": 64, "height": 64, "steps": 1, "guidance": 1}
LONG = {**SMALL, "steps": 100, "count": 8}
WAITS = 120.0
"""Seconds for what takes two to ten alone."""


@pytest.fixture(scope="module")
def tokens(server) -> list[str]:
    """Return a token for each of fifty people."""
    studio = Studio(server.home)
    studio.users.add("user 0", "admin", "correct horse battery", when=WHEN)
    for number in range(1, PEOPLE):  # with the password of the first: hashing fifty would take as long as the test
        studio.store.write(
            "insert into users (name, role, password, created) select ?, 'creator', password, created from users"
            " where name = 'user 0'",
            (f"user {number}",),
        )
    users = [User(name=f"user {number}", role="creator") for number in range(PEOPLE)]
    return [studio.sessions.issue(user, "test", when=WHEN) for user in users]


def draw(server: Server, token: str, prompt: str, **settings: Any) -> tuple[int, Any]:
    """Ask for a picture as a script does; returns the status and what came."""
    answer = httpx.post(
        f"{server.address}/api/pictures.draw",
        json={"settings": {**SMALL, "prompt": prompt, **settings}},
        headers={"authorization": f"Bearer {token}"},
        timeout=WAITS,
    )
    return answer.status_code, answer.json()


def drawn(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each["picture"] for each in events if each["event"] == "picture"]


def until(holds: Callable[[], Any], seconds: float = WAITS) -> Any:
    """Wait for something to hold and return it."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come"
        threading.Event().wait(0.05)
    return found


def drawing(server: Server) -> psutil.Process | None:
    """Return the process that draws."""
    assert server.process is not None
    found = psutil.Process(server.process.pid).children()
    return next((each for each in found if "serve" in each.cmdline()), None)


def at_work(server: Server) -> bool:
    """Say whether a picture is being drawn: then it has a folder of its own."""
    return any(path.is_dir() for path in (server.home / "pictures").iterdir())


def test_fifty_people_at_once_each_get_exactly_their_own(server, tokens):
    draw(server, tokens[0], "the first one loads the model")
    with ThreadPoolExecutor(PEOPLE) as pool:
        began = time.monotonic()
        asked = [pool.submit(draw, server, token, f"picture of {n}", seed=1000 + n) for n, token in enumerate(tokens)]
        got = [each.result() for each in asked]
        took = time.monotonic() - began
    assert [status for status, _ in got] == [200] * PEOPLE
    for number, (_, events) in enumerate(got):
        (picture,) = drawn(events)
        assert events[-1]["event"] == "done"
        said = picture["settings"]
        assert (said["prompt"], said["seed"]) == (f"picture of {number}", 1000 + number)
        assert picture["by"] == f"user {number}"
    assert took < WAITS


def test_one_who_asks_for_much_does_not_hold_up_another(server, tokens):
    order: list[str] = []

    def ask(who: str, token: str) -> None:
        assert draw(server, token, who, steps=20)[0] == 200
        order.append(who)

    with ThreadPoolExecutor(9) as pool:
        many = [pool.submit(ask, "many", tokens[1]) for _ in range(8)]
        until(lambda: at_work(server))
        one = pool.submit(ask, "one", tokens[2])
        for each in (*many, one):
            each.result()
    assert order.index("one") <= 3


def test_too_much_is_said_at_once_and_the_rest_is_drawn(server, tokens):
    with ThreadPoolExecutor(14) as pool:
        got = [each.result() for each in [pool.submit(draw, server, tokens[3], "x", steps=10) for _ in range(14)]]
    refused = [said for status, said in got if status == 429]
    assert {status for status, _ in got} == {200, 429}
    assert 14 - len(refused) in (8, 9, 10)  # eight wait while one or two are drawn
    assert all("too many pictures are waiting" in said["error"] and said["hint"] for said in refused)


def test_a_connection_that_closes_stops_its_drawing_and_frees_the_place(server, tokens):
    body = json.dumps({"settings": {**LONG, "width": 512, "height": 512, "prompt": "nobody waits"}}).encode()
    head = (
        f"POST /api/pictures.draw HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {tokens[4]}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.sendall(head.encode() + body)
        until(lambda: at_work(server))
    status, events = draw(server, tokens[5], "somebody waits")
    assert status == 200
    assert len(drawn(events)) == 1
    assert len(drawn_by(server, tokens[4])) < 8
    until(lambda: not at_work(server))


def drawn_by(server: Server, token: str) -> list[Any]:
    answer = httpx.post(
        f"{server.address}/api/pictures.list",
        json={"mine": True},
        headers={"authorization": f"Bearer {token}"},
        timeout=WAITS,
    )
    found: list[Any] = answer.json()
    return found


def test_a_drawing_process_that_is_killed_is_told_in_a_sentence_and_the_next_picture_works(server, tokens):
    draw(server, tokens[6], "so that the process is there")
    process = drawing(server)
    assert process is not None
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(draw, server, tokens[6], "it breaks off", **{**LONG, "width": 512, "height": 512})
        until(lambda: at_work(server))
        process.kill()
        status, events = asked.result()
    assert status == 200
    assert events[-1]["event"] == "failed"
    assert events[-1]["reason"] == "memory ran out while drawing, or it was ended from outside"
    assert events[-1]["hint"]
    status, events = draw(server, tokens[6], "the next one")
    assert len(drawn(events)) == 1


@pytest.mark.slow
def test_a_thousand_small_requests_leave_no_memory_behind(server, tokens):
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    with httpx.Client(headers={"authorization": f"Bearer {tokens[7]}"}, timeout=WAITS) as caller:

        def ask(times: int) -> None:
            for number in range(times):
                name, given = (("bases.current", {}), ("library.list", {}), ("jobs.list", {"active": True}))[number % 3]
                assert caller.post(f"{server.address}/api/{name}", json=given).status_code == 200

        ask(300)
        before = process.memory_info().rss
        ask(1000)
        assert process.memory_info().rss - before < 20 * 2**20


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server that a test may kill."""
    started = Server(tmp_path / "home")
    started.start()
    yield started
    started.stop()


def test_nothing_goes_on_drawing_when_the_server_was_killed(own):
    with httpx.Client(base_url=own.address, timeout=WAITS) as caller:
        caller.get("/")
        caller.headers["x-csrf-token"] = caller.cookies["studio_csrf"]
        caller.post("/api/pictures.draw", json={"settings": SMALL})
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(caller.post, "/api/pictures.draw", json={"settings": {**LONG, "width": 512}})
            until(lambda: at_work(own))
            process = drawing(own)
            assert process is not None
            own.kill()
            assert isinstance(asked.exception(), httpx.HTTPError)
    assert psutil.wait_procs([process], timeout=WAITS)[1] == []
