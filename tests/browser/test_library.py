"""What somebody writes about a style stays while something else is done with it."""

from playwright.sync_api import expect

from lora_diffusion import Library, Lineage
from lora_diffusion.library.seeding import SHIPPED

WHEN = "2026-01-02T03:04:05+00:00"


def test_what_is_being_written_stays_when_a_style_is_handed_in_and_a_withdrawal_is_asked_again(visit):
    lineage = Lineage(manifest=(("a" * 64, "a.png"), ("b" * 64, "b.png")), method="train")
    with Library.open(visit.server.home) as library:
        library.add(SHIPPED / "papercut.safetensors", name="Autumn", by="Mia", when=WHEN, lineage=lineage)
    page = visit.open("/en/library?ref=Autumn%401")
    page.get_by_role("tab", name="Details").click()
    notes = page.get_by_label("Notes")
    expect(page.get_by_label("Usual strength in %")).to_have_value("100")
    notes.fill("only for the autumn campaign")
    page.get_by_role("button", name="Hand in for approval").click()
    expect(page.locator("h1 .badge")).to_have_text("In review")
    expect(notes).to_have_value("only for the autumn campaign")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("table.facts")).to_contain_text("only for the autumn campaign")

    page.get_by_role("tab", name="Where it comes from").click()
    picture, sure = page.get_by_label("Training picture"), page.get_by_label("I mean it")
    picture.click()
    page.get_by_role("option", name="a.png").click()
    sure.check()
    withdraw = page.get_by_role("button", name="Withdraw this picture")
    withdraw.click()
    page.get_by_text("Pick the picture, say why").wait_for()
    expect(picture).to_have_value("a.png")
    page.get_by_label("Why").locator("visible=true").fill("consent was taken back")
    withdraw.click()
    expect(page.locator("h1 .badge")).to_have_text("Blocked")
    expect(sure).not_to_be_checked()
