"""What one person reaches of another's, what leaves the studio, and what an answer tells of the machine."""

import io
import json
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.testclient import TestClient

from tests.webui.conftest import HOST, PASSWORD, WHEN, signed_in
from webui.actions import act
from webui.archives import read_archive
from webui.errors import BadRequest, NotAllowed, NotFound, TooMany
from webui.guard import Guard
from webui.jobs import MAX_WAITING, Jobs
from webui.users import User

ANN, BEN = User(name="Ann", role="creator"), User(name="Ben", role="creator")
TOM = User(name="Tom", role="trainer")


@pytest.fixture
def waiting(studio):
    """A studio whose jobs wait, as no keeper runs."""
    studio.__dict__["jobs"] = Jobs(studio.home / "jobs.db", keeper=(sys.executable, "-c", "pass"))
    return studio


@pytest.fixture
def draft(waiting, shipped) -> str:
    return waiting.library.add(shipped / "papercut.safetensors", name="secret", by="Tom", when=WHEN).ref


def sent(studio, user: User, data: bytes, name: str = "a.png") -> str:
    """Put a file where an upload lies, as one that a user sent; return its name."""
    folder = studio.home / "uploads" / ("a" * 64)
    folder.mkdir()
    (folder / name).write_bytes(data)
    studio.uploads.came([str(folder / name)], user.name)
    return f"{folder.name}/{name}"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("pictures.reuse", {"upload": "{}"}),
        ("pictures.draw", {"settings": {"start": "{}"}}),
        ("blend.open_recipe", {"upload": "{}"}),
        ("datasets.add_pictures", {"id": "{set}", "uploads": ["{}"]}),
    ],
)
def test_no_action_takes_what_somebody_else_sent(studio, name, arguments):
    upload = sent(studio, ANN, b"of Ann alone")
    own = studio.datasets.create("mine", owner="Ben", when=WHEN).id
    values = {"{}": upload, "{set}": own}
    given = {key: values.get(each, each) if isinstance(each, str) else each for key, each in arguments.items()}
    given = {key: [upload] if each == ["{}"] else each for key, each in given.items()}
    given = {key: {"start": upload} if each == {"start": "{}"} else each for key, each in given.items()}
    with pytest.raises(NotFound, match="no such upload"):
        act(studio, BEN, name, **given)


@pytest.mark.parametrize("whole", [False, True], ids=["as a script names it", "as a page names it"])
def test_the_audit_does_not_say_where_an_upload_lies(studio, whole):
    upload = sent(studio, ANN, b"no picture")
    own = studio.datasets.create("mine", owner="Ann", when=WHEN).id
    named = str(studio.home / "uploads" / upload) if whole else upload
    act(studio, ANN, "datasets.add_pictures", id=own, uploads=[named])
    (entry, *_) = act(studio, BEN, "system.audit", limit=1)
    assert "a.png" in entry.reason
    assert "aaaa" not in entry.reason
    assert str(studio.home) not in entry.reason


def test_a_style_that_one_may_not_export_leaves_in_no_checkpoint_either(draft, waiting):
    merged = {"name": "mix", "styles": [{"ref": draft, "weight": 1.0}], "kind": "merged"}
    with pytest.raises(NotAllowed, match="not approved"):
        act(waiting, ANN, "blend.freeze", **merged)
    assert act(waiting, TOM, "blend.freeze", **merged).state == "queued"


def test_a_blocked_style_leaves_in_no_checkpoint(waiting, shipped):
    from lora_diffusion import Lineage

    lineage = Lineage(method="train", manifest=(("0" * 64, "a.png"),))
    waiting.library.add(shipped / "papercut.safetensors", name="own", by="Tom", when=WHEN, lineage=lineage)
    waiting.library.withdraw("0" * 64, by="Ana", when=WHEN, reason="the owner asked")
    with pytest.raises(NotAllowed, match="is blocked"):
        act(waiting, TOM, "blend.freeze", name="mix", styles=[{"ref": "own", "weight": 1.0}], kind="merged")


def test_a_frozen_mix_is_for_who_froze_it(draft, waiting):
    made = act(waiting, ANN, "blend.freeze", name="mix", styles=[{"ref": draft, "weight": 1.0}])
    assert act(waiting, ANN, "blend.result", id=made.id)["job"].id == made.id
    with pytest.raises(NotFound, match="no such mix"):
        act(waiting, BEN, "blend.result", id=made.id)


def test_nobody_has_more_jobs_waiting_than_may_be(waiting):
    for number in range(MAX_WAITING):
        waiting.jobs.submit(kind="export", title=str(number), owner="Ann", commands=[["version"]], folder="x")
    with pytest.raises(TooMany, match="are waiting"):
        waiting.jobs.submit(kind="export", title="more", owner="Ann", commands=[["version"]], folder="x")
    waiting.jobs.submit(kind="export", title="his", owner="Ben", commands=[["version"]], folder="x")


def test_a_long_list_of_files_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "long.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"")
    data = path.read_bytes()
    entry = data[data.index(b"PK\x01\x02") : data.index(b"PK\x05\x06")]
    begins, count = data.index(b"PK\x01\x02"), 60_000
    size = (len(entry) * count).to_bytes(4, "little")
    end = b"PK\x05\x06" + b"\0" * 4 + b"\1\0\1\0" + size + begins.to_bytes(4, "little") + b"\0\0"  # it says one file
    path.write_bytes(data[:begins] + entry * count + end)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(BadRequest, match="list of files"):
        list(read_archive(path))


def test_a_large_archive_s_own_form_of_the_list_is_refused_too(tmp_path):
    path = tmp_path / "large.zip"
    end = b"PK\x06\x07" + b"\0" * 16 + b"PK\x05\x06" + b"\0" * 18
    path.write_bytes(b"PK\x03\x04" + b"\0" * 26 + end)
    with pytest.raises(BadRequest, match="list of files"):
        list(read_archive(path))


WRITTEN = {"prompt": "a", "seed": 1, "width": 64, "height": 64, "steps": 5, "guidance": 7.0, "sampler": "", "base": ""}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 200_000,
        json.dumps({**WRITTEN, "adapters": ["a"]}),
        json.dumps({**WRITTEN, "adapters": 5}),
        json.dumps({**WRITTEN, "adapters": {"a": "b"}}),
        json.dumps({**WRITTEN, "guidance": float("inf")}),
        json.dumps({**WRITTEN, "prompt": {"a": 1}}),
    ],
)
def test_a_picture_with_settings_that_nobody_here_wrote_is_refused(script, studio, text):
    inside, file = PngInfo(), io.BytesIO()
    inside.add_text("lora_diffusion", text, zip=True)
    Image.new("RGB", (64, 64)).save(file, "PNG", pnginfo=inside)
    upload = sent(studio, User(name="Ann", role="admin"), file.getvalue())
    answer = script.post("/api/pictures.reuse", json={"upload": upload})
    assert (answer.status_code, answer.json()["error"]) == (422, "a.png holds no settings of a picture")


@pytest.fixture
def script(app, studio) -> TestClient:
    """A script with the token of somebody."""
    ann = studio.users.add("Ann", "admin", PASSWORD, when=WHEN)
    token = studio.sessions.issue(ann, "nightly", when=WHEN)
    return TestClient(app, base_url=HOST, headers={"authorization": f"Bearer {token}"})


def test_a_token_makes_no_other_that_would_outlive_it(app, script, studio):
    refused = script.post("/api/users.token", json={"label": "another"})
    assert (refused.status_code, refused.json()["error"]) == (403, "a token makes no other token")
    assert len(studio.sessions.tokens(studio.users.find("Ann"))) == 1
    assert signed_in(app, "Ann").post("/api/users.token", json={}).status_code == 200


def test_no_answer_says_where_the_studio_lies(script, studio):
    upload = sent(studio, User(name="Ann", role="admin"), b"no picture")
    answer = script.post("/api/pictures.reuse", json={"upload": upload})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("a.png holds no settings")
    studio.library.record("note", by="Ann", when=WHEN, said={"file": f"{studio.home}/runs/a.toml"})
    assert str(studio.home) not in script.post("/api/system.audit", json={}).text


def test_no_answer_says_where_base_models_lie(script, studio, tmp_path):
    studio.remember_models([tmp_path])
    studio.library.record("note", by="Ann", when=WHEN, said={"file": f"{tmp_path}/sdxl"})
    told = script.post("/api/system.audit", json={}).text
    assert "sdxl" in told
    assert str(Path(tmp_path)) not in told


def test_behind_a_proxy_with_tls_one_signs_in_with_cookies_for_tls_alone(app, studio):
    studio.users.add("Ann", "admin", PASSWORD, when=WHEN)
    browser = TestClient(app, base_url="https://localhost", follow_redirects=False)  # the scheme that the proxy says
    said = {"name": "Ann", "password": PASSWORD}
    answer = browser.post("/login", data=said, headers={"origin": "https://localhost"})
    assert answer.status_code == 303
    assert all("; Secure" in each for each in answer.headers.get_list("set-cookie"))
    assert browser.get("/api").status_code == 200
    assert browser.post("/login", data=said, headers={"origin": "http://localhost"}).status_code == 403


@pytest.mark.parametrize("name", ["x-forwarded-host", "x-gradio-server"])
def test_nobody_says_by_a_header_where_the_studio_is(studio, name):
    seen: list[bytes] = []

    async def app(scope, receive, send):
        seen.extend(key for key, _ in scope["headers"])

    guard = Guard(app, sessions=studio.sessions, users=studio.users, hosts=("127.0.0.1",), secure=False)
    with pytest.raises(AssertionError):  # nothing answers
        TestClient(guard, base_url=HOST).get("/", headers={name: "https://evil.example"})
    assert b"host" in seen
    assert name.encode() not in seen
