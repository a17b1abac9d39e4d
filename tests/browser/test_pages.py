"""Every page: it loads, fits a phone, is accessible, speaks both languages, and asks nobody else."""

import re
import time
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from webui.pages import ORDER

PAGES = [name for name in ORDER if (Path(__file__).parents[2] / "webui" / "pages" / f"{name}.py").exists()]
PATHS = {name: "" if name == ORDER[0] else name for name in PAGES}
SETTLED = 1500
"""Milliseconds after the heading: tables and pictures come by events of their own."""

FRAME = {"scrollable-region-focusable", "aria-prohibited-attr"}
"""Rules that Gradio's own markup breaks (tabs that overflow, empty uploads); ours does not."""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_without_a_fault(visit, name):
    page = visit.open(f"/en/{PATHS[name]}")
    page.wait_for_timeout(SETTLED)
    assert page.locator("h1").count() == 1
    assert page.locator(".toast-wrap .toast-body").count() == 0


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_breaks_no_serious_rule_of_accessibility(browser, server, name, scheme):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{server.address}/en/{PATHS[name]}")
    page.locator("h1").first.wait_for()
    page.wait_for_timeout(SETTLED)
    found = Axe().run(page).response["violations"]
    context.close()
    serious = {
        f"{each['id']}: {node['html'][:160]}"
        for each in found
        if each["impact"] in ("serious", "critical") and each["id"] not in FRAME
        for node in each["nodes"]
    }
    assert serious == set()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone_in_german(browser, server, name):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, locale="de-DE", is_mobile=True, has_touch=True
    )
    page = context.new_page()
    page.goto(f"{server.address}/de/{PATHS[name]}")
    page.locator("h1").first.wait_for()
    page.wait_for_timeout(SETTLED)
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    language = page.evaluate("document.documentElement.lang")
    context.close()
    assert wider <= 0
    assert language == "de"


def test_the_language_is_that_of_the_browser(browser, server):
    for locale, language in (("de-DE", "de"), ("en-US", "en"), ("fr-FR", "en")):
        context = browser.new_context(locale=locale)
        page = context.new_page()
        page.goto(server.address)
        page.locator("h1").first.wait_for()
        assert re.search(rf"/{language}/", page.url)
        context.close()


def test_a_message_is_in_the_language_of_the_page_with_its_heading(visit):
    page = visit.open("/de/settings")
    visit.tab("Personen")
    page.get_by_text("Niemand muss sich anmelden").wait_for()  # and the role of the first is chosen
    page.get_by_label("Name").first.fill("Ann")
    page.get_by_label("Passwort").first.fill("kurz")
    page.get_by_role("button", name="Hinzufügen").click()
    said = page.locator(".toast-wrap .toast-body")
    said.get_by_text("Das Passwort ist zu kurz oder zu lang.").wait_for()
    assert said.locator(".toast-title").inner_text().strip() == "Bitte beachten"
    assert said.get_by_role("button", name="Schließen", exact=True).count() == 1


def test_pages_load_in_about_a_second(visit):
    visit.open("/en/")
    began = time.monotonic()
    visit.open("/en/create")
    assert time.monotonic() - began < 15  # 1.5 s alone; the bound tells a hang from a busy machine


def test_the_tour_is_closed_and_opened_again_with_the_keyboard_and_leads_to_real_pages(visit):
    page = visit.open("/en/")
    tour = page.get_by_role("region", name="Four steps to begin with")
    tour.wait_for()
    doors = [link.get_attribute("href") for link in tour.get_by_role("link").all()]
    page.get_by_role("button", name="Close the tour").press("Enter")
    tour.wait_for(state="hidden")
    page = visit.open("/en/")
    again = page.get_by_role("button", name="Show the tour")
    again.wait_for()
    assert not tour.is_visible()
    again.press("Enter")
    tour.wait_for()
    assert len(doors) == 4
    for door in doors:
        visit.open(door)


def test_a_page_is_walked_with_the_keyboard_alone(visit):
    page = visit.open("/en/create")
    page.wait_for_timeout(SETTLED)
    reached: set[str] = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.innerText?.trim() || ''"))
    assert {"Create pictures", "Stop"} <= reached


def test_a_phone_names_the_step_of_a_training(browser, server):
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.goto(f"{server.address}/de/train?dataset=demo:papercut")
    page.get_by_text("Schritt 1 von 5: Bilder").wait_for()
    page.locator("[data-pick='demo:papercut'][aria-pressed=true]").wait_for()
    page.locator("#next-0").click()
    page.get_by_text("Schritt 2 von 5: Rechte").wait_for()
    assert page.locator(".step-title").is_hidden()
    context.close()


def test_a_style_in_the_library_has_the_page_to_itself_and_a_way_back(visit):
    page = visit.open("/en/library?ref=papercut%401")
    page.get_by_role("heading", name="papercut v1", level=1).wait_for()
    assert page.locator(".cards").count() == 0
    assert page.get_by_text("offered in Create and Blend").is_visible()
    page.get_by_role("link", name="All styles").click()
    page.locator(".cards .card", has_text="papercut").wait_for()
    page = visit.open("/en/library?ref=nothing%407")
    page.get_by_text("There is no style nothing@7 here").wait_for()
    page.locator(".cards .card", has_text="papercut").wait_for()


def test_the_picture_of_a_mix_is_as_wide_as_its_column(visit):
    page = visit.open("/en/blend")
    page.locator(".row-title").nth(1).wait_for()
    page.locator("#mix").click()
    page.locator("#mixed img").wait_for()
    column, picture = page.locator("#mixed").bounding_box(), page.locator("#mixed img").bounding_box()
    assert picture["width"] > 400
    assert picture["width"] > 0.95 * column["width"]


def test_what_is_written_about_a_style_stays_when_its_samples_are_drawn(visit):
    page = visit.open("/en/library?ref=papercut@1")
    page.get_by_role("button", name="Draw samples").click()
    visit.tab("Details")
    page.get_by_label("Notes").fill("warm paper")
    page.get_by_text("a penguin icon").first.wait_for()
    page.get_by_role("progressbar").first.wait_for(state="hidden")
    assert page.get_by_label("Notes").input_value() == "warm paper"


def test_samples_that_are_drawn_move_no_tab_from_under_the_pointer(visit):
    page = visit.open("/en/library?ref=papercut@1")
    tab = page.get_by_role("tab", name="Details")
    tab.wait_for()
    page.wait_for_timeout(SETTLED)
    before = tab.bounding_box()
    page.get_by_role("button", name="Draw samples").click()
    page.get_by_role("progressbar").first.wait_for()
    assert tab.bounding_box() == before


def test_the_progress_of_a_picture_is_in_sight_of_the_button_on_a_small_laptop(visit):
    visit.page.set_viewport_size({"width": 1280, "height": 800})
    page = visit.open("/en/create?style=papercut@1")
    page.get_by_label("papercut, strength in %").first.wait_for()
    page.locator("#prompt textarea").fill("papercut, a crown icon")
    page.mouse.wheel(0, 2000)
    page.locator("#go").click()
    page.locator("#drawing [role=status]").first.wait_for()
    assert 0 <= page.locator("#drawing").bounding_box()["y"] < 800
