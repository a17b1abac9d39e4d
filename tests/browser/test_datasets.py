"""Picture sets in a real browser: drop pictures, see what is wrong, write captions and rights, take it back."""

import re

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import expect

HOSTILE = "<img src=x onerror=window.ran=1> {{7*7}} ${window.ran=2} <script>window.ran=3</script>"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Four pictures with hostile captions, one of a very wide shape, and a web page that claims to be a picture."""
    folder = tmp_path_factory.mktemp("files")
    for number in range(4):
        size = (2000, 160) if number == 3 else (400, 300 + 20 * number)
        image = Image.new("RGB", size, (60 * number, 90, 160))
        ImageDraw.Draw(image).ellipse([40, 20, 160 + 30 * number, 140], fill="white")
        image.save(folder / f"moon{number}.jpg", quality=95)
        (folder / f"moon{number}.txt").write_text(f"moon {number} {HOSTILE}")
    (folder / "page.png").write_text(f"<html>{HOSTILE}</html>")
    return sorted(folder.iterdir())


@pytest.fixture
def page(visit, files):
    """A new set with the four pictures in it."""
    page = visit.open("/en/datasets")
    page.get_by_label("Name of a new set").fill(f"Moons {HOSTILE}"[:80])
    page.get_by_role("button", name="Create set").click()
    page.wait_for_url(re.compile(r"datasets\?id=[0-9a-f]{16}"))
    page.get_by_text("No pictures yet. Drop 10 to 50").wait_for()
    page.set_input_files("input[type=file]", files)
    page.get_by_text("Pictures added: 4. Captions written: 4.").wait_for()
    page.get_by_role("heading", name=re.compile(r"Health: \d+ of 100")).wait_for()
    return page


def test_what_is_dropped_is_shown_and_what_is_refused_is_named_as_text(page):
    refused = page.get_by_role("row").filter(has_text="page.png")
    assert "web page (HTML)" in refused.inner_text()
    assert page.locator(".pick").count() == 4
    assert HOSTILE in page.get_by_label("What the picture shows").input_value()
    wide = page.locator(".pick", has_text="moon3.png")
    wide.locator(".badge", has_text="Much is cut off").wait_for()
    box, frame = wide.locator(".crop").bounding_box(), wide.locator(".frame").bounding_box()
    assert box["width"] < 0.8 * frame["width"]
    assert page.get_by_role("link", name="Train a style with it").get_attribute("href").startswith("/en/train?dataset=")
    page.get_by_role("link", name="All sets").click()
    page.locator("a.set-card", has_text="Moons <img src=x").first.wait_for()
    assert page.evaluate("window.ran") is None


def test_a_caption_is_written_and_taken_back(page):
    page.locator(".pick", has_text="moon2.png").focus()
    page.keyboard.press("Enter")
    page.locator(".pick[aria-pressed=true]", has_text="moon2.png").wait_for()
    caption = page.get_by_label("What the picture shows")
    caption.fill("a white <b>moon</b>")
    page.get_by_role("button", name="Save caption").click()
    page.locator(".pick-caption", has_text="a white <b>moon</b>").wait_for()
    page.locator("button.label-wrap", has_text="Changes").click()
    page.get_by_role("button", name="Undo the last change").click()
    page.locator(".pick-caption", has_text="a white <b>moon</b>").wait_for(state="detached")
    assert "moon 2" in page.get_by_label("What the picture shows").input_value()


def test_a_caption_that_was_typed_is_kept_on_the_way_to_another_picture(page):
    caption = page.get_by_label("What the picture shows")
    for leave, text in (
        (lambda: page.get_by_role("button", name="Next").click(), "a small moon"),
        (lambda: page.locator(".pick", has_text="moon3.png").click(), "a pale moon"),
    ):
        shown = page.locator(".pick[aria-pressed=true] .pick-name").inner_text()
        caption.fill(text)
        leave()
        kept = page.locator(".pick", has_text=shown).and_(page.locator("[aria-pressed=false]"))
        kept.locator(".pick-caption", has_text=text).wait_for()
        assert text not in caption.input_value()
    page.locator(".pick", has_text="moon3.png").locator(".badge", has_text="Much is cut off").wait_for()
    page.locator("button.label-wrap", has_text="Changes").click()
    made = page.locator("table", has_text="When").locator("tbody tr")
    expect(made).to_have_count(3)  # the pictures that came, and two captions
    page.get_by_role("button", name="Previous").click()
    page.locator(".pick[aria-pressed=true]", has_text="moon2.png").wait_for()
    expect(made).to_have_count(3)
    assert page.get_by_text("common.complete").count() == 0


def test_many_captions_are_changed_as_the_preview_said(page):
    page.locator("button.label-wrap", has_text="Edit many captions").click()
    page.get_by_label("Text", exact=True).fill("night")
    apply = page.get_by_role("button", name="Change captions")
    assert apply.is_disabled()
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("Captions that would change: 4").wait_for()
    row = page.get_by_role("row").filter(has_text="night, moon 1")
    assert HOSTILE in row.inner_text()
    page.get_by_role("button", name="Change these captions (4)").click()
    page.locator(".pick-caption", has_text="night, moon 3").wait_for()
    assert page.evaluate("window.ran") is None


def test_captions_that_changed_since_the_preview_are_shown_anew_before_they_are_changed(page):
    page.locator("button.label-wrap", has_text="Edit many captions").click()
    page.get_by_label("Text", exact=True).fill("night")
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("Captions that would change: 4").wait_for()
    page.get_by_label("What the picture shows").fill("a new moon")
    page.get_by_role("button", name="Change these captions (4)").click()
    page.get_by_role("row").filter(has_text="night, a new moon").wait_for()
    expect(page.locator(".pick-caption", has_text="night")).to_have_count(0)
    page.get_by_role("button", name="Change these captions (4)").dblclick()
    expect(page.locator(".pick-caption", has_text="night, a new moon")).to_have_count(1)
    expect(page.get_by_role("button", name="Change captions")).to_be_disabled()
    expect(page.locator(".pick-caption", has_text="night, night")).to_have_count(0)


def test_undo_leaves_what_is_being_typed(page):
    caption = page.get_by_label("What the picture shows")
    caption.fill("a full moon")
    page.get_by_role("button", name="Save caption").click()
    page.locator(".pick-caption", has_text="a full moon").wait_for()
    caption.fill("a moon that is not saved yet")
    page.locator("button.label-wrap", has_text="Changes").click()
    page.get_by_role("button", name="Undo the last change").click()
    page.locator(".pick-caption", has_text="a full moon").wait_for(state="detached")
    assert caption.input_value() == "a moon that is not saved yet"


def test_rights_are_stated_for_all_and_expire_for_one(page):
    page.get_by_text("Pictures without stated rights: 4 of 4.").wait_for()
    page.locator("button.label-wrap", has_text=re.compile(r"^\s*Rights")).click()
    page.get_by_label("Owner").fill(HOSTILE)
    page.get_by_role("button", name="State rights").click()
    page.get_by_text("Rights are stated for all pictures.").wait_for()
    page.get_by_label("Expires").fill("2020-01-31")
    page.get_by_label("the picture shown above").check()
    page.get_by_role("button", name="State rights").click()
    page.get_by_text("Pictures whose rights have expired: 1 of 4.").wait_for()
    assert HOSTILE in page.locator("dl.rights").inner_text()
    assert page.evaluate("window.ran") is None


def test_a_set_of_the_package_is_looked_at_and_copied(visit):
    page = visit.open("/en/datasets?id=demo:papercut")
    page.get_by_text("comes with the studio and stays as it is").wait_for()
    page.locator(".pick").nth(23).wait_for()
    assert page.locator("input[type=file]").count() == 0
    assert page.get_by_role("button", name="Save caption").count() == 0
    page.get_by_role("button", name="Make a copy to change").click()
    page.wait_for_url(re.compile(r"datasets\?id=[0-9a-f]{16}"))
    page.get_by_role("button", name="Save caption").wait_for()
    page.get_by_role("button", name="Remove set").click()
    page.get_by_role("button", name="Yes, take it off the list").click()
    page.wait_for_url(re.compile(r"datasets$"))
    page.locator("a.set-card", has_text="Papercut").first.wait_for()
    assert page.locator("a.set-card", has_text="Papercut").count() == 1
