"""Signing in, and what it does to those who guess."""

import threading

import pytest

from tests.webui.conftest import PASSWORD, WHEN, signed_in
from webui.errors import BadRequest, NotAllowed, StudioError, TooMany
from webui.users import FREE_TRIES, ROLES, User, allows


@pytest.fixture
def users(studio):
    studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    return studio.users


def test_the_right_password_and_no_other_lets_in(users):
    assert users.sign_in("ana", PASSWORD, address="a") == User(name="ana", role="admin")
    for name, password in (("ana", PASSWORD + " "), ("ana", ""), ("nobody", PASSWORD), ("ana", "x" * 5000)):
        with pytest.raises(NotAllowed, match="the name or the password is wrong"):
            users.sign_in(name, password, address=f"b{password[:9]}{name}")


def test_passwords_are_not_kept(users, studio):
    users._store.rows("select 1")
    row = studio.store.row("select password from users")
    assert row["password"].startswith("scrypt$")
    assert PASSWORD not in row["password"]


def test_guessing_is_slowed_down_and_the_right_password_waits_too(users):
    for _ in range(FREE_TRIES):
        with pytest.raises(NotAllowed):
            users.sign_in("ana", "a wrong guess", address="a", now=1000.0)
    with pytest.raises(TooMany):
        users.sign_in("ana", PASSWORD, address="a", now=1000.5)
    assert users.sign_in("ana", PASSWORD, address="a", now=1003.0).name == "ana"


def test_many_guesses_at_once_count_each(users):
    outcomes: list[type] = []

    def guess() -> None:
        try:
            users.sign_in("ana", "a wrong guess", address="a", now=1000.0)
        except StudioError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(NotAllowed) == FREE_TRIES
    assert outcomes.count(TooMany) == 20 - FREE_TRIES


def test_guessing_names_from_one_address_is_slowed_down(users):
    for number in range(FREE_TRIES):
        with pytest.raises(NotAllowed):
            users.sign_in(f"user{number}", "a wrong guess", address="a", now=1000.0)
    with pytest.raises(TooMany):
        users.sign_in("somebody else", "a wrong guess", address="a", now=1000.0)


def test_each_role_may_do_what_those_before_it_may():
    for number, role in enumerate(ROLES):
        allowed = [allows(User(name="x", role=role), needed) for needed in ROLES]
        assert allowed == [True] * (number + 1) + [False] * (len(ROLES) - number - 1)


def test_a_new_password_ends_the_sessions_of_the_old_one(app, users):
    browser = signed_in(app, "ana")
    users.change("ana", password="another good password")
    assert browser.get("/api").status_code == 401


def test_a_role_changes_at_once(app, users):
    users.add("ben", "creator", PASSWORD, when=WHEN)
    browser = signed_in(app, "ben")
    assert browser.post("/api/users.list").status_code == 403
    users.change("ben", role="admin")
    assert browser.post("/api/users.list").status_code == 200


def test_the_only_admin_stays(users):
    for change in (lambda: users.remove("ana"), lambda: users.change("ana", role="viewer")):
        with pytest.raises(BadRequest, match="only admin"):
            change()


@pytest.mark.parametrize("password", ["short", "x" * 201])
def test_a_bad_password_is_refused_with_the_limits(users, password):
    with pytest.raises(BadRequest) as caught:
        users.add("ben", "viewer", password, when=WHEN)
    assert caught.value.hint == "use 10 to 200 characters"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 65, "\u202eana", "you"])
def test_a_bad_name_is_refused(users, name):
    with pytest.raises(BadRequest):
        users.add(name, "viewer", PASSWORD, when=WHEN)


def test_names_that_differ_in_case_alone_are_one(users):
    with pytest.raises(BadRequest, match="already"):
        users.add("Ana", "viewer", PASSWORD, when=WHEN)


def test_signing_out_ends_the_session(app, users):
    browser = signed_in(app, "ana")
    assert browser.post("/logout").status_code == 200
    assert browser.get("/api").status_code == 401


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nx: y"]
)
def test_signing_in_leads_to_this_site_alone(app, users, target):
    from starlette.testclient import TestClient

    client = TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=False)
    answer = client.post("/login", params={"next": target}, data={"name": "ana", "password": PASSWORD})
    assert answer.headers["location"] == "/"
