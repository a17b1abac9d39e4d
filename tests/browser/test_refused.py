"""What cannot be done leaves the page as it was: nothing is emptied, and no progress is shown that never ends."""

from playwright.sync_api import expect

from lora_diffusion import Library
from lora_diffusion.library.seeding import SHIPPED

PATIENCE = 30_000
"""Milliseconds for what takes a second on an idle machine."""

WHEN = "2026-01-02T03:04:05+00:00"
NO_PICTURE = "0" * 32


def test_a_page_opens_as_ever_where_its_address_names_no_picture(visit):
    for name in ("create", "blend"):
        page = visit.open(f"/en/{name}?from={NO_PICTURE}")
        expect(page.get_by_text("has no picture")).to_be_visible(timeout=PATIENCE)
        page.get_by_role("combobox", name="Styles").click()
        expect(page.get_by_role("option", name="papercut")).to_be_visible(timeout=PATIENCE)


def test_a_style_of_an_address_that_is_not_there_is_named(visit):
    page = visit.open("/en/create?style=nobody@1")
    expect(page.get_by_text("so left out: nobody@1")).to_be_visible(timeout=PATIENCE)


def test_a_retired_style_of_an_address_is_named_and_brings_no_trigger(visit):
    with Library.open(visit.server.home) as library:
        ref = library.add(SHIPPED / "blueprint.safetensors", name="Faded", by="Mia", when=WHEN).ref
        library.describe(ref, by="Mia", when=WHEN, trigger="fadedlook")
        for stage in ("in_review", "approved", "retired"):
            library.promote(ref, stage, by="Mia", when=WHEN)
    page = visit.open(f"/en/create?style={ref}")
    expect(page.get_by_text(f"so left out: {ref}")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#prompt textarea")).to_have_value("")


def test_a_comparison_that_is_refused_shows_no_progress(visit):
    page = visit.create()
    page.locator("#prompt textarea").fill("a crown")
    visit.tab("Compare")
    page.locator("button.label-wrap", has_text="Grid").click()
    for button, said in (("#compare", "no style to compare with"), ("#grid", "varies a style that is not there")):
        page.locator(button).click()
        expect(page.get_by_text(said)).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Getting ready")).to_have_count(0)


def test_a_grid_of_nothing_and_a_style_as_text_are_refused_with_what_to_do(visit):
    page = visit.create()
    page.locator("#prompt textarea").fill("a crown <lora:papercut:0.8>")
    page.locator("#go").click()
    expect(page.get_by_text("in this field adds no style")).to_be_visible(timeout=PATIENCE)
    page.locator("#prompt textarea").fill("a crown")
    visit.tab("Compare")
    page.locator("button.label-wrap", has_text="Grid").click()
    page.get_by_label("Values").first.fill(" , ")
    page.locator("#grid").click()
    expect(page.get_by_text("Choose what the grid varies")).to_be_visible(timeout=PATIENCE)


def test_an_empty_slot_leaves_the_mix_as_it_is(visit):
    page, strengths = visit.blend()
    page.get_by_role("button", name="Use B").click()
    expect(page.get_by_text("Nothing is kept as B yet.")).to_be_visible(timeout=PATIENCE)
    expect(strengths).to_have_count(2)
