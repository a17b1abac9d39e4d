"""Files by id, REST, and what the pages' server answers."""

import os

import pytest
from PIL import Image

from tests.webui.conftest import PASSWORD, WHEN, signed_in
from webui.errors import NotFound
from webui.users import LOCAL, User


@pytest.fixture
def picture(studio):
    path = studio.home / "pictures" / "a.png"
    Image.new("RGB", (300, 200), "red").save(path)
    return path


def test_a_shown_picture_is_fetched_by_an_id_that_does_not_tell_where_it_lies(local, studio, picture):
    address = studio.files.share(picture)
    assert "a.png" not in address
    answer = local.get(address)
    assert answer.content == picture.read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert studio.files.share(picture) == address


def test_a_small_copy_is_made_on_request(local, studio, picture):
    answer = local.get(studio.files.share(picture), params={"side": 100})
    assert answer.headers["content-type"] == "image/webp"
    assert len(answer.content) < len(picture.read_bytes())


@pytest.mark.parametrize("side", ["-5", "1000000000", "x"])
def test_a_small_copy_has_limits(local, studio, picture, side):
    assert local.get(studio.files.share(picture), params={"side": side}).status_code in (200, 422)


@pytest.mark.parametrize(
    "number", ["0" * 32, "../studio.db", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "a.png", "studio.db"]
)
def test_what_no_page_has_shown_cannot_be_fetched(local, number):
    assert local.get(f"/files/{number}").status_code == 404


@pytest.mark.parametrize(("language", "said"), [("de", "Diese Datei gibt es nicht"), ("en", "There is no such file")])
def test_a_person_reads_in_their_language_that_a_file_is_gone(local, language, said):
    headers = {"accept": "text/html", "accept-language": language}
    answer = local.get(f"/files/{'0' * 32}", headers=headers)
    assert answer.status_code == 404
    assert said in answer.text


def test_the_page_to_sign_in_says_in_the_language_of_the_browser_what_is_wrong(visitor, studio):
    studio.users.add("ann", "admin", PASSWORD, when=WHEN)
    given = {"name": "ann", "password": "not this one"}
    answer = visitor.post("/login", data=given, headers={"accept-language": "de"})
    assert answer.status_code == 403
    assert "Der Name oder das Passwort stimmt nicht." in answer.text


@pytest.mark.parametrize("name", ["page.html", "drawing.svg", "script.js", "style.safetensors"])
def test_what_is_no_picture_is_a_download_that_runs_nothing(local, studio, name):
    path = studio.home / "exports" / name
    path.write_text("<script>alert(1)</script>")
    answer = local.get(studio.files.share(path))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]


def test_files_elsewhere_are_never_shared(studio, tmp_path):
    outside = tmp_path / "secret.png"
    outside.write_bytes(b"x")
    link = studio.home / "pictures" / "link.png"
    os.symlink(outside, link)
    for path in (outside, link, studio.home / ".." / "secret.png", studio.home / "pictures", studio.home / "none.png"):
        with pytest.raises(NotFound):
            studio.files.share(path)


def test_a_file_that_became_a_link_is_not_served(local, studio, picture, tmp_path):
    address = studio.files.share(picture)
    (tmp_path / "secret.png").write_bytes(b"x")
    picture.unlink()
    os.symlink(tmp_path / "secret.png", picture)
    assert local.get(address).status_code == 404


def test_a_file_of_one_user_is_not_there_for_another(app, studio, picture):
    for name in ("ana", "ben", "cleo"):
        studio.users.add(name, "admin" if name == "cleo" else "creator", PASSWORD, when=WHEN)
    address = studio.files.share(picture, owner="ana")
    assert signed_in(app, "ana").get(address).status_code == 200
    assert signed_in(app, "ben").get(address).status_code == 404
    assert signed_in(app, "cleo").get(address).status_code == 200


def test_uploads_are_named_below_their_folder_alone(studio, tmp_path):
    (tmp_path / "secret").write_text("x")
    (studio.home / "uploads" / "a.png").write_text("x")
    assert studio.upload("a.png", LOCAL).read_text() == "x"
    for name in ("../studio.db", str(tmp_path / "secret"), "", ".", "none.png"):
        with pytest.raises(NotFound):
            studio.upload(name, LOCAL)


def test_an_unknown_action_and_wrong_arguments_are_told_in_a_sentence(local):
    assert local.post("/api/nothing.here").status_code == 404
    answer = local.post("/api/users.prefer", json={"language": "fr"})
    assert answer.status_code == 422
    assert "language" in answer.json()["error"]
    assert local.post("/api/users.prefer", json={"tongue": "de"}).status_code == 422
    assert local.post("/api/users.prefer", content="{", headers={"content-type": "application/json"}).status_code == 422


def test_no_schema_or_documentation_is_served_without_need(local):
    for path in ("/openapi.json", "/docs", "/redoc"):
        assert local.get(path).status_code == 404


def test_the_home_folder_is_for_its_owner_alone(studio):
    assert studio.home.stat().st_mode & 0o077 == 0


def test_the_local_person_is_nobody_once_there_are_users(studio):
    secret = studio.sessions.begin(LOCAL)
    studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    assert studio.sessions.find(secret) is None
    assert studio.sessions.find(studio.sessions.begin(User(name="ana", role="admin"))).user.role == "admin"


def test_a_person_who_goes_astray_gets_a_page_that_leads_home_and_a_script_json(local):
    person = local.get("/nowhere", headers={"accept": "text/html", "accept-language": "de"})
    assert person.status_code == 404
    assert person.headers["content-type"].startswith("text/html")
    assert 'href="/de/"' in person.text
    script = local.get("/nowhere")
    assert script.status_code == 404
    assert script.json()["error"]


def test_signing_in_leads_back_to_the_address_with_its_query(visitor, studio):
    studio.users.add("ana", "admin", PASSWORD, when=WHEN)
    answer = visitor.get("/en/create?from=1&x=2", headers={"accept": "text/html"})
    assert answer.headers["location"] == "/login?next=/en/create%3Ffrom%3D1%26x%3D2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "", "password": PASSWORD}, "name is empty"),
        ({"password": PASSWORD}, "name is missing"),
        ({"name": "x" * 65, "password": PASSWORD}, "name is longer than 64 characters"),
        ({"name": "ana", "password": PASSWORD, "role": "king"}, "role has to be 'viewer', "),
    ],
)
def test_a_wrong_argument_is_named_in_plain_words(local, arguments, said):
    assert local.post("/api/users.add", json=arguments).json()["error"].startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"limit": 0}, "limit has to be at least 1"),
        ({"limit": 201}, "limit has to be at most 200"),
        ({"limit": "x"}, "limit has to be a whole number"),
        ({"before": "x"}, "before is not written as it has to be"),
    ],
)
def test_a_number_out_of_bounds_is_told_with_its_bound(local, arguments, said):
    assert local.post("/api/pictures.list", json=arguments).json()["error"] == said


def test_a_script_makes_a_set_and_lists_it_without_its_folder(local, studio):
    made = local.post("/api/datasets.create", json={"name": "Autumn"}).json()
    assert made["name"] == "Autumn"
    assert made["id"] in {each["id"] for each in local.post("/api/datasets.list", json={}).json()}
    assert str(studio.home) not in str(made)
