"""Teaching a style in the browser: five steps, a training that outlives its server, a style in the library."""

import json
import re

from playwright.sync_api import expect

PATIENCE = 240_000
"""Milliseconds for what takes 20 s on an idle machine: measuring, checking, training."""


def test_a_training_is_taught_in_five_steps_and_outlives_the_server(visit, server):
    page = visit.open("/en/train?dataset=demo:papercut")
    page.locator("[data-pick='demo:papercut'][aria-pressed=true]").wait_for()
    page.locator("#next-0").click()
    expect(page.get_by_text("For all 24 pictures it is recorded")).to_be_visible(timeout=PATIENCE)
    page.locator("#next-1").click()
    page.get_by_label("Name of the style").fill("Paper One")
    page.get_by_label("Trigger word").fill("papyro")
    page.locator("#next-2").click()
    expect(page.get_by_text("Takes", exact=False)).to_have_count(3, timeout=PATIENCE)

    page.get_by_text("For experts").click()
    visit.tab("Text (TOML)")
    plan = page.get_by_label("Plan", exact=True)
    text = plan.input_value()
    assert 'trigger = "papyro"' in text
    plan.fill(re.sub(r"(?m)^steps = 420$", "steps = 24", text).replace("every = 70", "every = 12"))
    visit.tab("Form")
    page.get_by_role("button", name=re.compile("^Run")).click()
    expect(page.get_by_label("run.steps")).to_have_value("24")

    page.locator("#next-3").click()
    expect(page.get_by_text("3 more are put aside")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#teach")).to_be_enabled(timeout=PATIENCE)
    page.locator("#teach").click()
    page.wait_for_url(re.compile(r"job=[0-9a-f]{16}"))
    address = page.url.removeprefix(server.address)
    expect(page.get_by_text(re.compile(r"Step \d+ of 24"))).to_be_visible(timeout=PATIENCE)

    page.goto("about:blank")
    server.kill()
    server.start()

    page = visit.open(address)
    expect(page.get_by_text("Paper One is in the library.")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".film li")).to_have_count(2)
    expect(page.get_by_role("img", name=re.compile("The average"))).to_be_visible()
    expect(page.locator("#steps")).to_contain_text("kept after step 6, 12, 18")
    expect(page.locator("#compare-steps")).to_be_visible()
    page.locator("#take-step").click()
    expect(page.get_by_text("Step 18 is now Paper One@2.")).to_be_visible(timeout=PATIENCE)
    page.get_by_text("The numbers as a table").click()
    expect(page.locator("table.losses tbody tr")).to_have_count(12)
    answer = page.request.post(
        f"{server.address}/api/library.show",
        data=json.dumps({"ref": "Paper One@1"}),
        headers={"content-type": "application/json", **csrf(page)},
    )
    assert answer.ok, answer.text()
    assert answer.json()["details"]["trigger"] == "papyro"


def test_a_plan_that_changed_is_looked_at_again_before_it_is_trained(visit, server):
    page = visit.open("/en/train?dataset=demo:papercut")
    page.locator("[data-pick='demo:papercut'][aria-pressed=true]").wait_for()
    page.locator("#next-0").click()
    expect(page.get_by_text("For all 24 pictures it is recorded")).to_be_visible(timeout=PATIENCE)
    page.locator("#next-1").click()
    page.get_by_label("Name of the style").fill("Paper Two")
    page.get_by_label("Trigger word").fill("papyro")
    page.locator("#next-2").click()
    page.locator("#next-3").click()
    expect(page.locator("#teach")).to_be_enabled(timeout=PATIENCE)
    page.get_by_text("For experts").click()
    visit.tab("Text (TOML)")
    plan = page.get_by_label("Plan", exact=True)
    text = plan.input_value()
    plan.fill("steps =")
    expect(page.locator("#teach")).to_be_disabled()
    page.locator("#look-again").click()
    expect(page.get_by_text("Plan is not readable as TOML")).to_have_count(2)
    expect(page.get_by_text("Looking for what could go wrong")).to_have_count(0)
    plan.fill(text.replace("steps = 420", "steps = 240"))
    page.locator("#look-again").click()
    expect(page.get_by_text("240 steps at 128 pixels")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#teach")).to_be_enabled()


def test_rights_that_change_meanwhile_are_told_anew(visit, server):
    page = visit.open("/en/train")

    def act(name, **arguments):
        address, headers = f"{server.address}/api/{name}", {"content-type": "application/json", **csrf(page)}
        answer = page.request.post(address, data=json.dumps(arguments), headers=headers)
        assert answer.ok, answer.text()
        return answer.json()

    set = act("datasets.copy_demo", style="papercut")["id"]
    page = visit.open(f"/en/train?dataset={set}")
    page.locator(f"[data-pick='{set}'][aria-pressed=true]").wait_for()
    page.locator("#next-0").click()
    expect(page.get_by_text("For all 24 pictures it is recorded")).to_be_visible(timeout=PATIENCE)
    act("datasets.rights", id=set, owner="", licence="", consent="")
    page.locator("#back-1").click()
    page.locator("#next-0").click()
    expect(page.get_by_text("For 24 of 24 pictures it is not recorded")).to_be_visible()


def test_a_training_that_is_not_there_is_told_once(visit):
    page = visit.open(f"/en/train?job={'f' * 16}")
    expect(page.get_by_text("There is no job ffffffffffffffff.")).to_be_visible()
    for _ in range(4):  # both parts of the page ask every 2 or 3 seconds
        with page.expect_response("**/queue/join*"):
            pass
    expect(page.get_by_text("There is no job ffffffffffffffff.")).to_have_count(1)


def csrf(page):
    """The header that the pages send with every change."""
    from webui.guard import CSRF_COOKIE, CSRF_HEADER

    return {CSRF_HEADER: next(each["value"] for each in page.context.cookies() if each["name"] == CSRF_COOKIE)}
