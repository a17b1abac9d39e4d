"""Stop stops: what is drawn is given up within a step, and the next picture is drawn."""

import re

from playwright.sync_api import expect

PATIENCE = 120_000
"""Milliseconds for what starts a process on a busy machine; 10 s alone."""


def test_stop_ends_what_is_drawn_and_the_next_is_drawn_as_ever(visit):
    page = visit.open("/en/create")
    page.get_by_label("What should the picture show?").fill("a rocket icon")
    many = page.get_by_role("spinbutton", name=re.compile("How many"))
    many.fill("8")
    many.press("Tab")
    page.locator("#go").click()
    expect(page.locator("#drawing")).to_contain_text(re.compile(r"\d+ of \d+"), timeout=PATIENCE)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#drawing")).to_contain_text("Stopped", timeout=PATIENCE)
    assert page.locator("#results img").count() < 8
    many.fill("1")
    many.press("Tab")
    page.locator("#go").click()
    expect(page.get_by_text("1 new.")).to_be_visible(timeout=PATIENCE)
