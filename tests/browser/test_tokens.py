"""Tokens of one's own: made, seen, used and revoked."""

import httpx
import pytest
from playwright.sync_api import Page, expect

from webui.studio import Studio

PASSWORD = "correct horse battery"


@pytest.fixture
def page(visit) -> Page:
    Studio(visit.server.home).users.add("ana", "admin", PASSWORD, when="2026-01-02T03:04:05+00:00")
    page: Page = visit.page
    page.goto(f"{visit.server.address}/login?next=/en/settings")
    page.get_by_label("Name").fill("ana")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    return page


def asked(visit, token):
    return httpx.post(f"{visit.server.address}/api/users.tokens", headers={"authorization": f"Bearer {token}"})


def test_a_token_is_made_seen_used_and_revoked(visit, page):
    expect(page.get_by_text("You have no tokens.")).to_be_visible()
    page.get_by_label("What the token is for").fill("nightly report")
    page.get_by_role("button", name="Make a token").click()
    row = page.get_by_role("row", name="nightly report")
    expect(row).to_contain_text("never")
    token = page.locator("label", has_text="The new token, shown once").locator("textarea").input_value()
    assert asked(visit, token).status_code == 200
    page.reload()
    expect(row).not_to_contain_text("never")
    expect(page.get_by_role("button", name="Revoke")).to_be_hidden()
    page.get_by_label("Token", exact=True).click()
    page.get_by_role("option", name="nightly report").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("You have no tokens.")).to_be_visible()
    assert asked(visit, token).status_code == 401
