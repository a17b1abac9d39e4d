"""A real server over a home folder of its own, and a real browser in front of it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
STARTS = 90.0
"""Seconds that a server may take on a busy machine; 8 alone."""
expect.set_options(timeout=60_000)  # what takes a second alone


class Server:
    """`lora-diffusion ui` as a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = home.parent / f"{home.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "lora_diffusion", "ui", "--no-open", "--home", str(self.home)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + STARTS
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                with urllib.request.urlopen(f"{self.address}/favicon.ico", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"the studio did not start: {self.log.read_text()}")

    def kill(self) -> None:
        """End it as a power cut would; what it started in sessions of their own goes on."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """One server for the tests of a file; they share its home."""
    started = Server(tmp_path_factory.mktemp("studio") / "home")
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


class Visit:
    """A page of a browser, and everything that went wrong on it or went elsewhere."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server
        self.faults: list[str] = []
        self.elsewhere: list[str] = []
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("response", lambda got: got.status >= 400 and self.faults.append(f"{got.status} {got.url}"))
        page.on("request", self._request)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.server.address, "data:", "blob:", "about:")):
            self.elsewhere.append(request.url)

    def open(self, path: str) -> Page:
        """Go to a page and wait until its heading is there."""
        self.page.goto(f"{self.server.address}{path}")
        self.page.locator("h1").first.wait_for()
        return self.page

    def tab(self, name: str) -> None:
        """Choose a tab by the keyboard: a click misses one that moves between the press and its end."""
        self.page.get_by_role("tab", name=name).press("Enter")

    def create(self) -> Page:
        """Go to Create and wait until it has filled itself: what is written sooner may be written over."""
        page = self.open("/en/create")
        page.get_by_role("combobox", name="Styles").click()
        page.get_by_role("option").first.wait_for()
        page.keyboard.press("Escape")
        return page

    def blend(self) -> tuple[Page, Locator]:
        """Go to Blend and wait until it shows its suggestion; return the page and the strengths of the mix."""
        page = self.open("/en/blend")
        strengths = page.get_by_role("spinbutton", name="Strength in %")
        expect(strengths).to_have_count(2)
        return page, strengths


@pytest.fixture
def visit(browser, server) -> Iterator[Visit]:
    """A laptop's browser; nothing may break and nothing may be asked of another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    found = Visit(context.new_page(), server)
    yield found
    context.close()
    assert found.faults == []
    assert found.elsewhere == []
