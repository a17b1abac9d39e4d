"""What no request gets past: other hosts, other sites, no session, no token, too much."""

import re

import pytest
from starlette.testclient import TestClient

from tests.webui.conftest import HOST, PASSWORD, WHEN, opened, signed_in
from webui.guard import CSRF_COOKIE, CSRF_HEADER, MAX_BODY
from webui.server import create_app

CHANGE = "/api/users.prefer"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::2]:7860"]
)
def test_a_host_that_is_not_ours_is_refused(visitor, host):
    assert visitor.get("/api", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "LOCALHOST"])
def test_our_own_hosts_are_served(visitor, host):
    assert visitor.get("/api", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"origin": "http://127.0.0.1:7861"},
        {"origin": "https://127.0.0.1:7860"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_changes_nothing(local, studio, headers):
    answer = local.post(CHANGE, json={"language": "de"}, headers=headers)
    assert answer.status_code == 403
    assert local.post("/api/users.preferences").json()["language"] == ""


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_of_another_site_changes_nothing_either(local, media):
    local.headers.pop(CSRF_HEADER)
    answer = local.post(CHANGE, content='{"language": "de"}', headers={"content-type": media})
    assert answer.status_code == 403


def test_the_own_site_with_its_token_may_change(local):
    answer = local.post(CHANGE, json={"language": "de"}, headers={"origin": HOST, "sec-fetch-site": "same-origin"})
    assert answer.status_code == 200
    assert local.post("/api/users.preferences").json()["language"] == "de"


@pytest.mark.parametrize("token", ["", "wrong", "é"])
def test_a_wrong_token_is_refused(local, token):
    assert local.post(CHANGE, json={}, headers={CSRF_HEADER: token.encode()}).status_code == 403


def test_the_token_of_another_session_is_refused(app):
    first = opened(TestClient(app, base_url=HOST, follow_redirects=False))
    second = opened(TestClient(app, base_url=HOST, follow_redirects=False))
    assert first.post(CHANGE, json={}, headers={CSRF_HEADER: second.cookies[CSRF_COOKIE]}).status_code == 403


def test_nothing_is_answered_without_signing_in_once_there_are_users(app, studio, visitor):
    studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    for path in (
        "/api",
        "/en/",
        "/en/config",
        "/en/gradio_api/info",
        "/files/00",
        "/en/theme.css",
        "/en/manifest.json",
    ):
        assert visitor.get(path).status_code == 401, path
    assert visitor.post(CHANGE, json={}).status_code == 401
    page = visitor.get("/en/create", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/en/create")


def test_the_session_of_a_machine_without_users_ends_with_the_first_user(local, studio):
    studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    assert local.get("/api").status_code == 401


def test_a_body_that_is_too_long_is_refused_before_it_is_read(local):
    assert local.post(CHANGE, content=b"", headers={"content-length": str(MAX_BODY + 1)}).status_code == 413
    assert local.post(CHANGE, content=b"", headers={"content-length": "9" * 400}).status_code == 413


def test_every_answer_says_how_it_may_be_used(visitor):
    for answer in (visitor.get("/api"), visitor.get("/nothing"), visitor.post("/api/x")):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"


def test_cookies_are_out_of_reach_of_scripts_and_of_other_sites(visitor):
    cookies = visitor.get("/").headers.get_list("set-cookie")
    session = next(each for each in cookies if each.startswith("studio="))
    assert "HttpOnly" in session
    assert all("SameSite=Strict" in each for each in cookies)


def test_with_tls_cookies_are_bound_to_the_host_and_sent_over_tls_alone(tmp_path):
    client = TestClient(create_app(tmp_path, secure=True, pages=False), base_url="https://localhost")
    answer = client.get("/", follow_redirects=False)
    cookies = answer.headers.get_list("set-cookie")
    assert any(re.match(r"__Host-studio=.*; Secure", each) for each in cookies)
    assert all("; Secure" in each and "; Path=/" in each for each in cookies)
    assert "strict-transport-security" in answer.headers


def test_a_token_does_what_its_user_may_and_needs_no_cookie(app, studio):
    studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    token = signed_in(app, "ana").post("/api/users.token", json={"label": "nightly"}).json()["token"]
    script = TestClient(app, base_url=HOST, headers={"authorization": f"Bearer {token}"})
    assert script.post("/api/users.list").json() == [{"name": "ana", "role": "admin"}]
    wrong = {"authorization": "Bearer wrong"}
    assert TestClient(app, base_url=HOST, headers=wrong).post("/api/users.list").status_code == 401
    studio.users.add("ben", "admin", PASSWORD, when=WHEN)
    studio.users.remove("ana")
    assert script.post("/api/users.list").status_code == 401
