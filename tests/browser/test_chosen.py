"""What is done with a picture is done with the one that is chosen, whatever the fields say by then."""

from playwright.sync_api import expect

PATIENCE = 120_000
"""Milliseconds for what starts a process on a busy machine; 10 s alone."""


def test_four_more_are_like_the_chosen_picture_and_a_reason_stays_with_its_own(visit):
    page = visit.create()
    page.get_by_role("spinbutton", name="How many").fill("1")
    page.locator("button.label-wrap", has_text="More settings").click()
    seed, kept = page.get_by_label("Start number (seed)"), page.get_by_label("Keep the start number")
    seed.fill("42")
    expect(kept).to_be_checked(timeout=PATIENCE)
    prompt, chosen = page.locator("#prompt textarea"), page.locator("#chosen")
    prompt.fill("a rocket icon")
    page.locator("#go").click()
    expect(chosen).to_contain_text("Start number 42 ", timeout=PATIENCE)

    page.locator("button.label-wrap", has_text="May it be used?").click()
    reason = page.get_by_label("Why not, if not")
    reason.fill("too dark")
    page.get_by_role("button", name="Off brand").click()
    expect(chosen).to_contain_text("too dark", timeout=PATIENCE)
    prompt.fill("a crown icon")
    page.locator("#go").click()
    expect(chosen).to_contain_text("a crown icon", timeout=PATIENCE)
    expect(reason).to_have_value("", timeout=PATIENCE)

    page.locator("#results .pick").last.click()
    expect(chosen).to_contain_text("a rocket icon", timeout=PATIENCE)
    page.get_by_role("button", name="Four more like it").click()
    expect(page.get_by_text("4 new.")).to_be_visible(timeout=PATIENCE)
    expect(prompt).to_have_value("a rocket icon")
    expect(kept).not_to_be_checked()
    expect(page.locator("#results img[alt='a rocket icon']")).to_have_count(5)

    page.get_by_role("link", name="Blend from here").first.click()
    number = page.get_by_label("Start number (seed)")
    expect(number).not_to_have_value("7", timeout=PATIENCE)


def test_that_nothing_is_stopped_is_told_on_every_tab(visit):
    page = visit.open("/en/create")
    visit.tab("Compare")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text("Nothing is being drawn for you.")).to_be_visible(timeout=PATIENCE)


def test_the_picture_of_a_mix_follows_a_slot(visit):
    page, strengths = visit.blend()
    page.get_by_role("button", name="Keep as A").click()
    expect(page.get_by_text("Kept as A.")).to_be_visible(timeout=PATIENCE)
    strengths.first.fill("150")
    strengths.first.press("Tab")
    picture = page.locator("#mixed img")
    picture.wait_for(timeout=PATIENCE)
    before = str(picture.get_attribute("src"))
    page.get_by_role("button", name="Use A").click()
    expect(picture).not_to_have_attribute("src", before, timeout=PATIENCE)


def test_the_picture_of_a_mix_follows_a_slider_that_is_moved_by_keys(visit):
    page, strengths = visit.blend()
    before, picture = int(strengths.first.input_value()), page.locator("#mixed img")
    page.locator("input[type=range]").first.press("ArrowRight")
    expect(strengths.first).to_have_value(str(before + 5))
    picture.wait_for(timeout=PATIENCE)


def test_stars_and_the_search_of_the_history_show_what_there_is(visit):
    page = visit.create()
    page.get_by_role("spinbutton", name="How many").fill("1")
    page.locator("#prompt textarea").fill("a quokka icon")
    page.locator("#go").click()
    page.get_by_role("button", name="Star it").click(timeout=PATIENCE)
    visit.tab("History")
    page.get_by_label("Only stars").check()
    starred = page.locator(".pick:visible")
    expect(starred).to_have_count(1, timeout=PATIENCE)
    starred.click()
    page.get_by_role("button", name="Star or unstar").click()
    expect(page.get_by_text("No picture fits what you look for.")).to_be_visible(timeout=PATIENCE)
