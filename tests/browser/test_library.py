"""What was written, chosen or asked for stays what it was while something else happens on the page."""

from playwright.sync_api import expect

from lora_diffusion import Library, Lineage
from lora_diffusion.library.seeding import SHIPPED
from webui.studio import Studio

WHEN = "2026-01-02T03:04:05+00:00"


def test_what_is_being_written_stays_when_a_style_is_handed_in_and_a_withdrawal_is_asked_again(visit):
    lineage = Lineage(manifest=(("a" * 64, "a.png"), ("b" * 64, "b.png")), method="train")
    with Library.open(visit.server.home) as library:
        library.add(SHIPPED / "papercut.safetensors", name="Autumn", by="Mia", when=WHEN, lineage=lineage)
    page = visit.open("/en/library?ref=Autumn%401")
    visit.tab("Details")
    notes = page.get_by_label("Notes")
    expect(page.get_by_label("Usual strength in %")).to_have_value("100")
    notes.fill("only for the autumn campaign")
    page.get_by_role("button", name="Hand in for approval").click()
    expect(page.locator("h1 .badge")).to_have_text("In review")
    expect(notes).to_have_value("only for the autumn campaign")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("table.facts")).to_contain_text("only for the autumn campaign")

    visit.tab("Where it comes from")
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


def test_a_second_version_that_waits_is_found_by_its_stage_and_a_second_file_is_no_version_of_the_first(visit):
    with Library.open(visit.server.home) as library:
        for file in ("papercut", "blueprint"):
            library.add(SHIPPED / f"{file}.safetensors", name="Winter", by="Mia", when=WHEN)
        for ref, stage in (("Winter@1", "in_review"), ("Winter@1", "approved"), ("Winter@2", "in_review")):
            library.promote(ref, stage, by="Mia", when=WHEN)
    page = visit.open("/en/library")
    page.get_by_label("Stage").click()
    page.get_by_role("option", name="In review").click()
    page.locator(".card", has_text="Winter v2").wait_for()
    page.get_by_text("Add a style from a file").click()
    add, name = page.get_by_role("button", name="Add as a draft"), page.get_by_label("Name (left empty")
    add.click()
    page.get_by_text("Choose a file first.").wait_for()
    page.locator("input[type=file]").set_input_files(SHIPPED / "blueprint.safetensors")
    page.locator(".file-preview", has_text="blueprint").wait_for()
    name.fill("Spring")
    add.click()
    page.get_by_text("Spring@1 is in the library.").wait_for()
    expect(name).to_have_value("")


def test_a_job_that_ended_offers_what_can_be_done_then_and_the_record_ends_where_it_begins(visit):
    jobs = Studio(visit.server.home).jobs
    job = jobs.submit(kind="export", title="wait.zip", owner="you", commands=[["--help"]], folder=visit.server.home)
    page = visit.open("/en/activity")
    page.get_by_label("Job", exact=True).click()
    page.get_by_role("option", name="wait.zip").click()
    page.get_by_role("button", name="Stop").wait_for()
    jobs.stop(job.id)
    page.get_by_role("button", name="Remove from the list").wait_for()
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    visit.tab("Who did what")
    page.locator("table:visible", has_text="added a style").wait_for()
    expect(page.get_by_role("button", name="Show earlier ones")).to_be_hidden()


def test_a_new_person_does_not_get_the_role_of_one_whose_name_begins_alike(browser, server, visit):
    Studio(server.home).users.add("ann", "admin", "correct horse battery", when=WHEN)
    page = visit.open("/login")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    page.locator("h1", has_text="What would you like").wait_for()
    page = visit.open("/en/settings")
    visit.tab("People")
    page.locator("table:visible", has_text="ann").wait_for()
    name, role = page.get_by_label("Name", exact=True), page.get_by_label("May", exact=True)
    name.press_sequentially("ann")
    expect(role).to_have_value("may do everything")
    name.press_sequentially("abel")
    expect(role).to_have_value("may make pictures")
