"""Attacks on the whole app, pages included: what was abused in Gradio apps and studios before is tried here."""

import inspect
import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import gradio
import pytest
from starlette.testclient import TestClient

import webui
from tests.webui.conftest import HOST, PASSWORD, WHEN, opened
from webui.server import create_app

ROOT = "/en"
KEPT = ("users", "sessions", "tokens", "settings", "datasets", "files")


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[Any]:
    """The app with its pages, running, and one person of each kind."""
    app = create_app(tmp_path_factory.mktemp("attacked") / "home")
    for name, role in (("ana", "admin"), ("vic", "viewer"), ("cid", "creator")):
        app.state.studio.users.add(name, role, PASSWORD, when=WHEN)
    with TestClient(app, base_url=HOST) as running:
        app.state.portal = running.portal
        assert app.state.studio.files
        yield app


@pytest.fixture(scope="module")
def studio(app) -> Any:
    return app.state.studio


def client(app: Any, name: str = "") -> TestClient:
    """Return a browser of somebody; without a password, which would take a tenth of a second each time."""
    found = TestClient(app, base_url=HOST, follow_redirects=False, raise_server_exceptions=False)
    found.portal = app.state.portal  # all in one loop, as on a server
    if name:
        studio = app.state.studio
        found.cookies.set("studio", studio.sessions.begin(studio.users.find(name)), domain="127.0.0.1", path="/")
        opened(found)
    return found


@pytest.fixture
def creator(app, studio) -> TestClient:
    return client(app, "cid")


def sent(browser: TestClient, name: str, data: bytes) -> str:
    """Upload a file as the pages do and return its path."""
    answer = browser.post(f"{ROOT}/gradio_api/upload", files={"files": (name, data)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()[0])


def named(path: object, url: str | None = None) -> dict[str, Any]:
    return {"path": path, "url": url, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}


def called(browser: TestClient, calls: dict[int, list[Any]], event_data: Any = None) -> dict[int, dict[str, Any]]:
    """Call handlers by number, as anybody can who has a session, and return what the browser is told of each."""
    numbers: dict[str, int] = {}
    for number, data in calls.items():
        body = {"data": data, "fn_index": number, "session_hash": "attacker", "event_data": event_data}
        answer = browser.post(f"{ROOT}/gradio_api/queue/join", json=body)
        if answer.status_code == 200:
            numbers[answer.json()["event_id"]] = number
    if not numbers:
        return {}
    told = browser.get(f"{ROOT}/gradio_api/queue/data", params={"session_hash": "attacker"}).text
    events = [json.loads(line[5:]) for line in told.splitlines() if line.startswith("data:")]
    return {numbers[each["event_id"]]: each for each in events if each["msg"] == "process_completed"}


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server that notes who asks."""
    hits: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"secret")

        def log_message(self, format: str, *args: Any) -> None:
            return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/secret.png", hits
        server.shutdown()


READS = [
    "gradio_api/file=/etc/passwd",
    "gradio_api/file=%2Fetc%2Fpasswd",
    "gradio_api/file=//etc/passwd",
    "gradio_api/file=HOME/studio.db",
    "gradio_api/file=HOME/uploads/../studio.db",
    "gradio_api/file=HOME/uploads/..%2fstudio.db",
    "gradio_api/file=HOME/uploads/%2e%2e/library.db",
    "gradio_api/file=HOME/uploads/..%5cstudio.db",
    "gradio_api/file=HOME/UPLOADS/../Studio.db",
    "gradio_api/file=HOME/uploads",
    "gradio_api/file=../../../../etc/passwd",
    "gradio_api/file=CODE/server.py",
    "gradio_api/file=file:///etc/passwd",
    "gradio_api/file=~/.bashrc",
    "gradio_api/file=/proc/self/environ",
    "gradio_api/file/etc/passwd",
    "file=/etc/passwd",
    "file/etc/passwd",
    "gradio_api/custom_component/1/client/component/..%2f..%2f..%2fetc%2fpasswd",
    "gradio_api/stream/a/1/1/playlist-file",
    "gradio_api/stream/..%2f..%2fetc/1/1/passwd.ts",
    "gradio_api/deep_link?session_hash=a",
    "gradio_api/openapi.json",
    "gradio_api/runs",
    "gradio_api/vibe-code",
    "gradio_api/profiling/traces",
    "gradio_api/token",
    "gradio_api/dev/reload",
    "gradio_api/mcp/schema",
    "monitoring",
    "monitoring/summary",
    "static/..%2f..%2f..%2fserver.py",
    "static/../../webui/server.py",
    "assets/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "assets/%2e%2e/%2e%2e/routes.py",
    "svelte/..%2f..%2froutes.py",
    "openapi.json",
    "docs",
    "logout",
]


@pytest.mark.parametrize("path", READS)
def test_no_route_of_the_pages_reads_a_file_that_was_not_uploaded(creator, studio, path):
    path = path.replace("HOME", str(studio.home)).replace("CODE", str(Path(webui.__file__).parent))
    for method in ("GET", "HEAD"):
        answer = creator.request(method, f"{ROOT}/{path}")
        assert answer.status_code in (400, 403, 404, 405), (method, answer.text[:100])


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/component_server", "gradio_api/process_recording", "gradio_api/vibe-edit", "gradio_api/vibe-code",
        "gradio_api/undo-vibe-edit", "gradio_api/vibe-starter-queries", "gradio_api/run/draw", "gradio_api/api/draw",
        "gradio_api/call/draw", "gradio_api/call/v2/draw", "gradio_api/stream/a", "gradio_api/run-history/connect",
        "gradio_api/mcp/", "gradio_api/profiling/clear", "login", "upload", "queue/join",
    ],
)  # fmt: skip
def test_no_route_that_the_pages_do_not_need_takes_anything(creator, path):
    body = {"data": [], "fn_name": "ls", "component_id": 1, "session_hash": "a"}
    assert creator.post(f"{ROOT}/{path}", json=body).status_code in (404, 405)


@pytest.mark.parametrize("route", ["file=", "proxy=", "file/", "static/"])
def test_the_server_fetches_no_address_that_a_route_names(creator, route):
    with listening() as (address, hits):
        assert creator.get(f"{ROOT}/gradio_api/{route}{address}").status_code == 404
        assert creator.get(f"{ROOT}/{route}{address}").status_code in (403, 404)
    assert hits == []


FILES = [
    "/etc/passwd", "HOME/studio.db", "HOME/uploads/../studio.db", "ADDRESS", "http://example.com/a.png", "a.png", "",
    None, 7, "\x00", "x" * 100_000, {"path": "/etc/passwd"}, ["/etc/passwd"], "file:///etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=range(len(FILES)))
def test_a_call_names_no_file_and_no_address_that_was_not_uploaded(creator, studio, path):
    with listening() as (address, hits):
        if isinstance(path, str):
            path = path.replace("HOME", str(studio.home)).replace("ADDRESS", address)
        for data in ([named(path)], [[[named(path, address)]]], [{"value": {"image": named(path)}}]):
            body = {"data": data, "fn_index": 0, "session_hash": "attacker"}
            assert creator.post(f"{ROOT}/gradio_api/queue/join", json=body).status_code == 422
        event = {"data": [], "event_data": named(path), "fn_index": 0, "session_hash": "attacker"}
        assert creator.post(f"{ROOT}/gradio_api/queue/join", json=event).status_code == 422
    assert hits == []


def test_an_address_beside_an_uploaded_file_is_not_fetched(creator):
    path = sent(creator, "a.png", b"no picture")
    config = creator.get(f"{ROOT}/config").json()
    takes = {each["id"] for each in config["components"] if each["type"] in ("file", "image")}
    with listening() as (address, hits):
        calls = {
            each["id"]: [named(path, address) if id in takes else None for id in each["inputs"]]
            for each in config["dependencies"]
            if takes & set(each["inputs"])
        }
        assert len(called(creator, calls)) == len(calls) > 0
    assert hits == []


@pytest.mark.parametrize("body", ["{", "[" * 100_000, '{"data": ' + "[" * 5000 + "]" * 5000 + "}", "\xff\xfe", "null"])
def test_a_call_that_is_no_call_is_refused(creator, body):
    answer = creator.post(f"{ROOT}/gradio_api/queue/join", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "name", ["page.html", "drawing.svg", "a.png", "model.pt", "run.exe", "../../../x.html", "a.xml"]
)
def test_an_upload_comes_back_as_a_download_that_runs_nothing(creator, studio, name):
    path = sent(creator, name, b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    assert Path(path).is_relative_to(studio.home / "uploads")
    answer = creator.get(f"{ROOT}/gradio_api/file={path}")
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    if not name.endswith(".png"):
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment")


def test_an_upload_larger_than_the_limit_is_refused(creator, studio):
    before = studio.uploads.sweep(now=0)
    answer = creator.post(f"{ROOT}/gradio_api/upload", files={"files": ("a.png", b"\0" * (33 * 2**20))})
    assert (before, answer.status_code) == (0, 413)


def test_an_upload_of_one_is_not_there_for_another(app, studio):
    first, second = client(app, "cid"), client(app, "vic")
    path = sent(first, "a.png", b"of cid alone")
    assert first.get(f"{ROOT}/gradio_api/file={path}").status_code == 200
    assert second.get(f"{ROOT}/gradio_api/file={path}").status_code == 404
    body = {"data": [named(path)], "fn_index": 0, "session_hash": "attacker"}
    assert second.post(f"{ROOT}/gradio_api/queue/join", json=body).status_code == 422


def test_more_uploads_than_there_is_room_for_are_refused_in_a_sentence(creator, studio, monkeypatch):
    monkeypatch.setattr(studio.uploads, "_quota", 100)
    answer = creator.post(f"{ROOT}/gradio_api/upload", files={"files": ("a.png", b"x" * 200)})
    assert answer.status_code == 413
    assert answer.text.startswith("There is no room for more uploads. ")


def test_nobody_without_a_session_reaches_a_page_a_call_or_a_file(app, studio):
    stranger = client(app)
    for path in ("", "/create", "/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=a", "/assets/a.js"):
        assert stranger.get(f"{ROOT}{path}").status_code == 401, path
    body = {"data": [], "fn_index": 0, "session_hash": "a"}
    assert stranger.post(f"{ROOT}/gradio_api/queue/join", json=body).status_code == 401
    assert stranger.post(f"{ROOT}/gradio_api/upload", files={"files": ("a", b"a")}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:7860"},
        {"sec-fetch-site": "cross-site"},
        {"host": "evil.example"},
        {"host": "127.0.0.1:7860@evil.example"},
        {"host": "[::1"},
        {"x-csrf-token": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["queue/join", "upload", "cancel", "reset"])
def test_a_call_that_another_site_makes_is_refused(creator, headers, path):
    assert creator.post(f"{ROOT}/gradio_api/{path}", json={}, headers=headers).status_code == 403


def state(studio: Any) -> dict[str, list[Any]]:
    kept = {name: [tuple(row) for row in studio.store.rows(f"select * from {name}")] for name in KEPT}
    kept["settings"] = [row for row in kept["settings"] if row[0] != "vic"]  # one's own language and tour
    kept["sessions"] = [row[:4] for row in kept["sessions"]]
    kept["files"] = []
    return {
        **kept,
        "jobs": [each.id for each in studio.jobs.list()],
        "library": [(each.ref, each.stage, each.details) for each in studio.library.versions(every=True)],
        "pictures": [each.id for each in studio.library.pictures()],
    }


def test_a_viewer_who_calls_every_handler_of_every_page_changes_nothing(app, studio):
    viewer, done = client(app, "vic"), 0
    before = state(studio)
    config = viewer.get(f"{ROOT}/config").json()
    shown = {each["id"]: each["props"].get("value") for each in config["components"]}
    bound = [each for each in config["dependencies"] if each["backend_fn"]]
    for number in range(0, len(bound), 16):
        calls = {each["id"]: [shown[id] for id in each["inputs"]] for each in bound[number : number + 16]}
        done += len(called(viewer, calls, event_data={"pick": "x", "file": "x", "value": "x", "index": 0}))
    assert done == len(bound) > 100
    assert state(studio) == before


def test_the_settings_of_the_mounted_pages_are_the_safe_ones(app):
    mounts = [each.app for each in app.routes if getattr(each, "path", "") in ("/en", "/de")]
    assert len(mounts) == 2
    for mounted in mounts:
        blocks = mounted.get_blocks()
        assert blocks.max_file_size == 32 * 2**20
        assert not blocks.allowed_paths
        assert {Path(each).name for each in blocks.blocked_paths} == {"studio.db", "library.db", "jobs.db"}
        assert not blocks.show_error
        assert not blocks.analytics_enabled
        assert not blocks.enable_monitoring
        assert not blocks.mcp_server
        assert not blocks.vibe_mode
        assert not blocks.share
        assert blocks.delete_cache == (3600, 86400)
        assert blocks._queue.max_size == 64
        assert blocks._queue.ANALYTICS_MAX_EVENTS == 1
        assert all(each.api_visibility == "private" for each in blocks.fns.values() if each.fn)
        assert mounted.openapi_url is None


def test_gradio_is_not_older_than_the_release_that_was_looked_at():
    project = (Path(webui.__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    found = re.search(r'"gradio>=(\d+)\.(\d+)', project)
    assert found is not None
    assert (int(found[1]), int(found[2])) >= (6, 31)
    assert tuple(map(int, gradio.__version__.split(".")[:2])) >= (6, 31)


SOURCES = sorted(Path(webui.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_source_of_the_studio_does_what_studios_were_broken_by(path):
    text = path.read_text("utf-8")
    for word in (
        r"share\s*=\s*True", r"shell\s*=\s*True", r"os\.system", r"\beval\(", r"\bexec\(", r"pickle", r"__import__",
        r"gr\.load\b", r"gr\.Interface", r"FileExplorer", r"set_static_paths", r"\bpip\b.*install", r"blocks\.launch",
        r"yaml\.load", r"urlopen|requests\.get|httpx", r"torch\.load",
    ):  # fmt: skip
        assert re.search(word, text) is None, word


PAGES = [path for path in SOURCES if path.parent.name == "pages"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_opens_a_file_or_starts_a_process(path):
    text = path.read_text("utf-8")
    assert re.search(r"\bopen\(|\.read_text|\.read_bytes|\.write_|subprocess|shutil|unlink|mkdir|os\.", text) is None


def test_templates_mark_nothing_as_safe():
    for path in (Path(webui.__file__).parent / "templates").glob("*.j2"):
        text = path.read_text("utf-8")
        assert re.search(r"\|\s*safe|autoescape|<script|javascript:|\son[a-z]+\s*=", text) is None, path.name


def test_a_secret_is_in_no_address(app):
    for route in app.routes:
        taken = inspect.signature(route.endpoint).parameters if hasattr(route, "endpoint") else {}
        assert not {"token", "password", "secret", "key"} & set(taken) or "POST" in route.methods
