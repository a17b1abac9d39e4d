"""What sessions and tokens survive, what they leave behind, and how much one person may ask at once."""

import gc
import hashlib
import sqlite3
import threading
import time

import psutil
import pytest
from starlette.testclient import TestClient

from tests.webui.conftest import HOST, PASSWORD, WHEN, opened, signed_in
from webui.actions import _TABLE, Action, _arguments, act, actions
from webui.errors import NotFound, TooMany
from webui.guard import MAX_BODY
from webui.painter import PROGRAM
from webui.sessions import LONGEST_SECONDS, MOST_EACH, Sessions
from webui.store import _MIGRATIONS, Store
from webui.users import LOCAL, User, Users


def test_requests_without_a_cookie_leave_nothing_behind(visitor, studio):
    for _ in range(100):
        visitor.cookies.clear()
        assert visitor.get("/api").status_code == 200
    assert studio.store.rows("select * from sessions") == []


def test_the_cookie_of_the_local_person_cannot_be_made_up_and_ends(studio):
    now = time.time()
    secret = studio.sessions.begin(LOCAL, now=now)
    begun, middle, signature = secret.split(".")
    assert studio.sessions.find(secret, now=now).user == LOCAL
    for forged in (
        f"{begun}.{middle}.{'0' * 64}",
        f"{int(begun) + 1}.{middle}.{signature}",
        f"nan.{middle}.{signature}",
        "..",
        "a.b.c",
        "é.é.é",
        "\udcff.a.b",
    ):
        assert studio.sessions.find(forged, now=now) is None
    assert studio.sessions.find(secret, now=now + LONGEST_SECONDS + 1) is None


def test_a_session_that_was_there_before_signing_in_is_not_the_one_after(app, studio):
    studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    browser = signed_in(app, "ana")
    before = browser.cookies["studio"]
    browser.post("/login", data={"name": "ana", "password": PASSWORD})
    assert browser.cookies["studio"] != before
    assert studio.sessions.find(before) is None
    planted = TestClient(app, base_url=HOST, follow_redirects=False, cookies={"studio": "planted"})
    assert planted.post("/login", data={"name": "ana", "password": PASSWORD}).cookies["studio"] != "planted"
    assert studio.sessions.find("planted") is None


def test_a_new_password_ends_tokens_too(app, studio):
    studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    token = studio.sessions.issue(studio.users.find("ana"), "stolen", when=WHEN)
    studio.users.change("ana", password="another good password")
    assert studio.sessions.bearer(token) is None


def test_a_token_says_what_it_is_for_and_when_it_was_last_used(app, studio):
    ana = studio.users.add("ana", "viewer", PASSWORD, when=WHEN)
    secret = studio.sessions.issue(ana, "nightly report", when=WHEN)
    (before,) = studio.sessions.tokens(ana)
    assert (before.label, before.created, before.used) == ("nightly report", WHEN, "")
    assert studio.sessions.bearer(secret, now=1_700_000_000.0) == ana
    (after,) = studio.sessions.tokens(ana)
    assert (after.id, after.used) == (before.id, "2023-11-14T22:13:00+00:00")
    listed = TestClient(app, base_url=HOST, headers={"authorization": f"Bearer {secret}"}).post("/api/users.tokens")
    assert [each["label"] for each in listed.json()] == ["nightly report"]
    assert secret not in listed.text


def test_a_revoked_token_lets_nobody_in_and_nobody_revokes_anothers(app, studio):
    ana, ben = (studio.users.add(name, "admin", PASSWORD, when=WHEN) for name in ("ana", "ben"))
    lost, kept = (studio.sessions.issue(ana, label, when=WHEN) for label in ("lost", "kept"))
    id = next(each.id for each in studio.sessions.tokens(ana) if each.label == "lost")
    with pytest.raises(NotFound):
        act(studio, ben, "users.revoke", id=id)
    assert studio.sessions.bearer(lost) == ana
    act(studio, ana, "users.revoke", id=id)
    assert (studio.sessions.bearer(lost), studio.sessions.bearer(kept)) == (None, ana)
    with pytest.raises(NotFound, match="no such token of yours"):
        act(studio, ana, "users.revoke", id=id)


def test_tokens_of_an_older_studio_go_on_working(tmp_path):
    path = tmp_path / "studio.db"
    with sqlite3.connect(path) as old:
        for statement in filter(str.strip, _MIGRATIONS[0].split(";")):
            old.execute(statement)
        old.execute("pragma user_version = 1")
        old.execute("insert into users (name, role, password, created) values ('ana', 'viewer', '', '')")
        old.execute("insert into tokens values (?, 'ana', 'old', '')", (hashlib.sha256(b"secret").hexdigest(),))
    old.close()
    store = Store(path)
    sessions = Sessions(store, Users(store))
    ana = sessions.bearer("secret")
    assert ana == User(name="ana", role="viewer")
    assert sessions.tokens(ana)[0].used


def test_a_transaction_that_cannot_be_ended_leaves_nothing_in_the_way_of_the_next(tmp_path):
    store = Store(tmp_path / "studio.db")
    store.row("pragma foreign_keys = on")
    with store.writing() as connection:
        connection.execute("create table a (id primary key)")
        connection.execute("create table b (a references a (id) deferrable initially deferred)")
    with pytest.raises(sqlite3.IntegrityError):
        store.write("insert into b values (1)")
    assert store.write("insert into a values (1)") == 1


def test_threads_that_have_ended_leave_no_file_open(studio):
    def look():
        studio.users.all()
        studio.jobs.list()

    def after(count):
        threads = [threading.Thread(target=look) for _ in range(count)]
        for each in threads:
            each.start()
            each.join()
        return len(psutil.Process().open_files())

    gc.collect()
    gc.disable()  # it would close them, but nobody knows when
    try:
        few, many = after(2), after(50)
        assert many <= few + 6
    finally:
        gc.enable()


def test_a_user_has_so_many_sessions_and_tokens(studio):
    ana = studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    secrets = [studio.sessions.begin(ana, now=time.time() + n / 100) for n in range(MOST_EACH + 5)]
    assert [bool(studio.sessions.find(each)) for each in secrets] == [False] * 5 + [True] * MOST_EACH
    for _ in range(MOST_EACH):
        studio.sessions.issue(ana, "t", when=WHEN)
    with pytest.raises(TooMany, match="tokens"):
        studio.sessions.issue(ana, "t", when=WHEN)


def test_no_user_can_be_called_like_the_local_person(local, studio):
    for name in ("you", "You", "YOU"):
        answer = local.post("/api/users.add", json={"name": name, "role": "admin", "password": PASSWORD})
        assert answer.status_code == 422


def test_tries_that_are_over_leave_nothing_behind(studio):
    for number in range(3):
        with pytest.raises(Exception, match=r"wrong|too many"):
            studio.users.sign_in(f"guess {number}", "x" * 12, address=f"{number}", now=1000.0 + 2000 * number)
    assert len(studio.store.rows("select * from tries")) == 2


def test_a_token_in_an_address_is_none(app, studio):
    ana = studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    token = studio.sessions.issue(ana, "t", when=WHEN)
    stranger = TestClient(app, base_url=HOST)
    for key in ("token", "access_token", "session", "studio", "authorization"):
        assert stranger.get("/api", params={key: token}).status_code == 401


def test_a_body_without_a_length_is_bounded_too(local):
    def endless():
        for _ in range(MAX_BODY // 2**16 + 2):
            yield b" " * 2**16

    answer = local.post("/api/users.prefer", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code in (400, 413)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860/evil", "x@127.0.0.1", "[::1", "127.0.0.1 ", "127.0.0.1:99999999", "é"]
)
def test_a_host_that_no_browser_sends_is_refused_and_breaks_nothing(visitor, host):
    assert visitor.get("/api", headers={"host": host.encode()}).status_code == 403


def test_one_person_cannot_take_every_thread(local, studio):
    """Sixteen wait for an answer; the next is told so, and others are served."""
    gate, inside = threading.Event(), threading.Semaphore(0)

    def slow(at):
        inside.release()
        gate.wait(30)

    slow_action = Action(
        name="x.slow", role="viewer", says="", same_as="", writes=False, function=slow, arguments=_arguments("x", slow)
    )
    actions.cache_clear()
    _TABLE["x.slow"] = slow_action
    try:
        waiting = [threading.Thread(target=local.post, args=("/api/x.slow",)) for _ in range(16)]
        for each in waiting:
            each.start()
        for _ in waiting:
            assert inside.acquire(timeout=30)
        answer = local.post("/api/bases.current")
        assert (answer.status_code, answer.json()["error"]) == (429, "too much at once")
    finally:
        gate.set()
        for each in waiting:
            each.join()
        del _TABLE["x.slow"]
        actions.cache_clear()
    assert local.post("/api/bases.current").status_code == 200


def test_no_module_is_taken_from_the_folder_in_which_the_studio_was_started():
    assert "-P" in PROGRAM


def test_only_the_folders_of_what_is_shown_hold_files_that_may_be_shown(studio):
    for name in ("studio.db", "jobs.db", "uploads/a.png", "tmp/a.png"):
        (studio.home / name).touch()
        with pytest.raises(NotFound):
            studio.files.share(studio.home / name)


def test_the_page_of_the_local_person_keeps_its_token_between_requests(visitor):
    browser = opened(visitor)
    for _ in range(3):
        assert browser.post("/api/users.prefer", json={"tour": False}).status_code == 200
