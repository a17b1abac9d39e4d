"""A studio in a folder of its own, and browser-like clients."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import lora_diffusion
from lora_diffusion import read_adapter, write_adapter
from webui.guard import CSRF_COOKIE, CSRF_HEADER
from webui.server import create_app
from webui.studio import Studio

HOST = "http://127.0.0.1:7860"
PASSWORD = "correct horse battery"
WHEN = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def app(tmp_path) -> FastAPI:
    """REST and sign-in without the pages, which take seconds to build."""
    return create_app(tmp_path / "home", pages=False)


@pytest.fixture
def studio(app) -> Studio:
    return app.state.studio


@pytest.fixture
def visitor(app) -> TestClient:
    """A browser that was never here. It begins no background work: the app's life span is not entered."""
    return TestClient(app, base_url=HOST, follow_redirects=False)


@pytest.fixture
def local(visitor) -> TestClient:
    """A browser of the person at this machine, with a page open."""
    return opened(visitor)


def opened(client: TestClient) -> TestClient:
    """Load a page and send its CSRF token from then on, as the pages do."""
    client.get("/")
    client.headers[CSRF_HEADER] = client.cookies[CSRF_COOKIE]
    return client


def signed_in(app: FastAPI, name: str, password: str = PASSWORD) -> TestClient:
    client = TestClient(app, base_url=HOST, follow_redirects=False)
    answer = client.post("/login", data={"name": name, "password": password})
    assert answer.status_code == 303, answer.text
    return opened(client)


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The folder of the adapters that come with the package."""
    return Path(lora_diffusion.__file__).parent / "demo" / "adapters"


@pytest.fixture(scope="session")
def private(shipped, tmp_path_factory) -> Path:
    """A shipped adapter whose metadata gives somebody away."""
    adapter = read_adapter(shipped / "papercut.safetensors", name="papercut")
    path = tmp_path_factory.mktemp("private") / "papercut.safetensors"
    write_adapter(adapter, path, metadata={**adapter.metadata, "ss_training_comment": "by ann.lee@example.com"})
    return path
