"""The whole path on a fresh machine, in the browser alone, from the first page to a file that diffusers loads."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import Visit

PATIENCE = 240_000
"""Milliseconds for what takes 20 s on an idle machine."""

STEPS = 24
"""Of the training: the path is tested here, not the style."""


def test_the_whole_path_from_the_first_page_to_a_file_that_diffusers_loads(visit, tmp_path):
    page = visit.open("/")
    page.get_by_role("link", name=re.compile("Train a style")).first.click()
    page.wait_for_url(re.compile("/en/train"))
    teach(visit, style="paper", trigger="papyro")

    visit.open("/en/create?style=paper@1")
    expect(page.get_by_label("papyro")).to_be_checked()
    page.get_by_label("What should the picture show?").fill("papyro, a rocket icon")
    page.locator("#go").click()
    expect(page.get_by_text("2 new.")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#results img")).to_have_count(2)

    visit.open("/en/blend")
    expect(page.locator(".row-title")).to_have_count(2)
    page.get_by_label("Name of the mix").fill("blue paper")
    page.locator("#freeze").click()
    expect(page.get_by_text("blue paper is frozen.")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Exactly the mix")).to_be_visible()
    page.get_by_role("link", name=re.compile("blue paper@1")).click()

    page.wait_for_url(re.compile("/en/library"))
    expect(page.get_by_role("heading", name=re.compile("blue paper v1"), level=1)).to_be_visible()
    page.get_by_role("button", name="Hand in for approval").click()
    page.locator("a[href*='review?ref']").first.click()

    page.wait_for_url(re.compile("/en/review"))
    page.get_by_role("button", name="Draw samples").click()
    expect(page.get_by_text("3 are shown above")).to_be_visible(timeout=PATIENCE)
    for box in page.get_by_role("checkbox").all():
        box.check()
    expect(page.locator("#approve")).to_be_enabled()
    page.locator("#approve").click()
    expect(page.locator("#said")).to_contain_text("approved it", timeout=PATIENCE)

    visit.open("/en/export?ref=blue%20paper@1")
    expect(page.locator("#export")).to_be_enabled(timeout=PATIENCE)
    page.locator("#export").click()
    link = page.locator("#exported a[href*='/files/']").first
    link.wait_for(timeout=PATIENCE)
    with page.expect_download() as download:
        link.click()
    file = tmp_path / "blue-paper.safetensors"
    download.value.save_as(file)
    assert modules_that_diffusers_reads(file) > 0


def teach(visit: Visit, *, style: str, trigger: str) -> None:
    """Teach the demo pictures in five steps and wait until the style is in the library."""
    page = visit.page
    page.locator("[data-pick='demo:papercut']").click()
    page.locator("[data-pick='demo:papercut'][aria-pressed=true]").wait_for()
    page.locator("#next-0").click()
    page.locator("#next-1").click()
    page.get_by_label("Name of the style").fill(style)
    page.get_by_label("Trigger word").fill(trigger)
    page.locator("#next-2").click()
    expect(page.get_by_text("Takes", exact=False)).to_have_count(3, timeout=PATIENCE)
    page.get_by_text("For experts").click()
    visit.tab("Text (TOML)")
    plan = page.get_by_label("Plan", exact=True)
    plan.fill(re.sub(r"(?m)^steps = \d+$", f"steps = {STEPS}", plan.input_value()))
    visit.tab("Form")
    page.locator("#next-3").click()
    expect(page.locator("#teach")).to_be_enabled(timeout=PATIENCE)
    page.locator("#teach").click()
    expect(page.get_by_text(f"{style} is in the library.")).to_be_visible(timeout=PATIENCE)


def modules_that_diffusers_reads(file) -> int:
    """Load the file into the embedded base with diffusers alone, and count what it put in."""
    from diffusers import StableDiffusionPipeline
    from peft.tuners.tuners_utils import BaseTunerLayer

    from lora_diffusion.families import locate

    pipeline = StableDiffusionPipeline.from_pretrained(str(locate("demo")), safety_checker=None)
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    return sum(isinstance(each, BaseTunerLayer) for each in pipeline.unet.modules())
