"""Who may only look: every control that is shown works, and what would be refused is not shown."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from webui.pages import ORDER
from webui.studio import Studio

PASSWORD = "correct horse battery"
WHEN = "2026-01-02T03:04:05+00:00"
ROLES = ("viewer", "creator", "trainer", "approver", "admin")
SETTLED = 1500
"""Milliseconds after the heading: tables and pictures come by events of their own."""

BUTTONS = "main button:enabled:visible:not([role=tab], .label-wrap, .visually-hidden *)"
TABS = ".tab-container:not(.visually-hidden) button[role=tab]:enabled:visible"
"""Gradio keeps a second row of tabs, to measure."""

PATHS = [
    *("" if name == ORDER[0] else name for name in ORDER),
    "library?ref=papercut%401", "review?ref=papercut%401", "export?ref=papercut%401", "datasets?id=demo:papercut",
    "create?style=papercut%401",
]  # fmt: skip


@pytest.fixture(scope="module")
def people(server) -> Server:
    """One person of each role."""
    studio = Studio(server.home)
    for role in reversed(ROLES):
        studio.users.add(role, role, PASSWORD, when=WHEN)
    return server


@pytest.fixture
def entered(browser, people):
    """Sign somebody in, in a browser of their own."""
    contexts = []

    def enter(name: str) -> Page:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB"))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.goto(f"{people.address}/login")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.locator("h1").first.wait_for()
        return page

    yield enter
    for context in contexts:
        context.close()


def look(page: Page, server: Server, path: str) -> None:
    page.goto(f"{server.address}/en/{path}")
    page.locator("h1").first.wait_for()
    page.wait_for_timeout(SETTLED)


def buttons(page: Page) -> Iterator[str]:
    """Press each button that is shown, on every tab, and yield its name."""
    for tab in page.locator(TABS).all() or [None]:
        if tab is not None:
            tab.click()
            page.wait_for_timeout(300)
        for accordion in page.locator("button.label-wrap:not(.open):visible").all():
            accordion.click()
        for button in page.locator(
            "main button:enabled:visible:not([role=tab], .label-wrap, .visually-hidden *)"
        ).all():
            if button.is_visible() and button.is_enabled():
                name = button.inner_text().strip() or button.get_attribute("aria-label") or ""
                button.click()
                page.wait_for_timeout(400)
                yield name


@pytest.mark.parametrize("path", PATHS)
def test_nothing_that_a_viewer_can_press_is_refused(entered, people, path):
    page = entered("viewer")
    look(page, people, path)
    pressed = []
    for name in buttons(page):
        pressed.append(name)
        if "Sign out" in name:
            return
        assert page.locator(".toast-body.warning, .toast-body.error, .error-note").count() == 0, pressed
    assert page.get_by_text("Signed in as viewer (may look)").is_visible()


@pytest.mark.parametrize(
    ("path", "button", "least"),
    [
        ("create", "Create pictures", "creator"),
        ("blend", "Freeze", "creator"),
        ("train", "Next", "trainer"),
        ("library?ref=papercut%401", "Move to this stage", "approver"),
        ("settings", "Sign out", "viewer"),
    ],
)
def test_a_control_is_shown_from_its_role_on(entered, people, path, button, least):
    below = ROLES[: ROLES.index(least)][-1:]
    for role in (*below, least):
        page = entered(role)
        look(page, people, path)
        found = page.get_by_role("button", name=button, exact=True)
        expect(found).to_have_count(1 if role == least else 0)
