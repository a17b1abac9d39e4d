"""A style is approved on a phone and taken to ComfyUI; what is hostile in it stays text, what is private stays here."""

import hashlib
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from lora_diffusion import Details, Library, Lineage, picture_folder, read_adapter, write_adapter
from lora_diffusion.library.seeding import SHIPPED

WHEN = "2026-01-02T03:04:05+00:00"
HOSTILE = "<img src=x onerror=window.ran=1> {{7*7}} <script>window.ran=2</script>"
MAIL = "ann.lee@example.com"
SLOW = 120_000
"""Milliseconds for what starts a process on a busy machine; 5 s alone."""


@pytest.fixture(scope="module")
def styles(server, tmp_path_factory):
    """Two styles in review with hostile words, one blocked, and an approved one whose file says too much."""
    files = tmp_path_factory.mktemp("styles")
    adapter = read_adapter(SHIPPED / "papercut.safetensors", name="papercut")
    said = {**adapter.metadata, "ss_training_comment": f"{MAIL} {HOSTILE}"}
    write_adapter(adapter, files / "private.safetensors", metadata=said)
    Image.new("RGB", (64, 64), "blue").save(files / "sample.png")
    details = Details(licence="CC0-1.0 <b>", trigger="papercut", notes=HOSTILE)
    folder = picture_folder("demo:papercut")
    pictures = sorted(each.name for each in folder.glob("*.png"))[:3]
    lineage = Lineage(
        manifest=tuple((hashlib.sha256((folder / each).read_bytes()).hexdigest(), each) for each in pictures),
        plan='[data]\nfolder = "demo:papercut"\n',
        method="train",
    )
    with Library.open(server.home) as library:
        for name in ("Autumn", "Winter"):
            version = library.add(
                SHIPPED / "papercut.safetensors", name=name, by=HOSTILE, when=WHEN, details=details, lineage=lineage
            )
            library.add_sample(version.ref, files / "sample.png", by="Mia", when=WHEN, prompt=HOSTILE)
            library.promote(version.ref, "in_review", by="Mia", when=WHEN, reason=HOSTILE)
            library.comment(version.ref, HOSTILE, by="Mia", when=WHEN)
        torn = library.add(
            SHIPPED / "blueprint.safetensors", name="Torn", by="Mia", when=WHEN,
            lineage=Lineage(manifest=(("a" * 64, "x.png"),), method="train"),
        )  # fmt: skip
        library.promote(torn.ref, "in_review", by="Mia", when=WHEN)
        library.withdraw("a" * 64, by="Mia", when=WHEN, reason=f"consent was taken back {HOSTILE}")
        told = library.add(files / "private.safetensors", name="Told", by="Mia", when=WHEN, details=details)
        for stage in ("in_review", "approved"):
            library.promote(told.ref, stage, by="Mia", when=WHEN)
    return server


@pytest.fixture
def phone(browser, styles):
    """A phone: 390 px, touched, in English."""
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, locale="en-GB"
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    assert page.evaluate("window.ran") is None
    context.close()


def opened(page, server, path):
    page.goto(f"{server.address}{path}")
    page.locator("h1").first.wait_for()
    return page


def test_a_style_is_approved_on_a_phone_by_touch(phone, styles):
    page = opened(phone, styles, "/en/review")
    page.locator("a.card", has_text="Autumn").tap()
    page.locator(".beside img").nth(3).wait_for()
    approve, back = page.get_by_role("button", name="Approve"), page.get_by_role("button", name="Send back")
    expect(approve).to_be_disabled()
    for box in page.locator(".checks label").all():
        box.tap()
    expect(approve).to_be_enabled()
    for button in (approve, back):
        size = button.bounding_box()
        assert size["width"] > 150
        assert size["height"] >= 56
    assert abs(approve.bounding_box()["y"] - back.bounding_box()["y"]) < 2
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    page.get_by_label("Your comment on the decision").fill(HOSTILE)
    approve.tap()
    expect(page.locator("h2 .badge.approved")).to_be_visible()
    expect(page.locator("#approve")).not_to_be_visible()
    said = page.locator("#said").inner_text()
    assert "approved it" in said
    assert "Rights are complete; I have looked at the samples; The trigger word works" in said
    assert said.count(HOSTILE) == 3
    with Library.open(styles.home) as library:
        assert library.version("Autumn").stage == "approved"
        assert library.history("Autumn@1", limit=1)[0].by == "you"


def test_a_style_goes_back_only_with_a_word(phone, styles):
    page = opened(phone, styles, "/en/review?ref=Winter%401")
    page.get_by_role("button", name="Send back").tap()
    page.get_by_text("say in a sentence what should change").wait_for()
    page.get_by_label("Your comment on the decision").fill("Too dark")
    page.get_by_role("button", name="Send back").tap()
    page.locator("#said", has_text="Too dark").wait_for()
    assert page.locator("#said .badge", has_text="sent it back").count() == 1
    assert page.locator("a.card", has_text="Winter").count() == 0


def test_a_blocked_style_says_why_and_offers_no_approval(phone, styles):
    page = opened(phone, styles, "/en/review?ref=Torn%401")
    page.get_by_text("This style is blocked and cannot be approved.").wait_for()
    assert HOSTILE in page.locator(".error-note").inner_text()
    assert page.locator("#approve").is_hidden()


def test_all_that_is_ticked_before_the_samples_are_drawn_counts_once_they_are_there(visit, styles):
    with Library.open(styles.home) as library:
        details = Details(licence="CC0-1.0", trigger="blueprint")
        library.add(SHIPPED / "blueprint.safetensors", name="Early", by="Mia", when=WHEN, details=details)
        library.promote("Early", "in_review", by="Mia", when=WHEN)
    page = visit.open("/en/review?ref=Early%401")
    boxes = page.locator(".checks input")
    expect(boxes).to_have_count(5)
    for box in boxes.all():
        box.check()
    expect(page.locator("#approve")).to_be_disabled()
    page.get_by_role("button", name="Draw samples").click()
    expect(page.locator("#approve")).to_be_enabled(timeout=SLOW)


@pytest.mark.parametrize("asked", ["review?ref=gone%401", "export?ref=gone%401", "export?job=abcdefabcdefabcd"])
def test_a_page_that_is_asked_for_what_is_gone_says_so_and_works(visit, styles, asked):
    page = visit.open(f"/en/{asked}")
    page.locator("main [role=alert]").first.wait_for()
    if asked.startswith("review"):
        page.locator("a.card", has_text="Torn").wait_for()
    else:
        expect(page.get_by_label("Style", exact=True)).not_to_have_value("")
        expect(page.locator("#export")).to_be_enabled()


def test_an_export_for_comfyui_is_read_by_diffusers_with_every_module(visit, styles, tmp_path):
    from diffusers.loaders import StableDiffusionLoraLoaderMixin

    page = visit.open("/en/export?ref=papercut%401")
    expect(page.locator("#export")).to_be_enabled()
    page.locator("#withheld", has_text="left out").wait_for(timeout=SLOW)
    page.locator("#export").click()
    link = page.get_by_role("link", name="Download papercut-v1.safetensors")
    link.wait_for(timeout=SLOW)
    shown = page.locator("#exported .hash").inner_text()
    with page.expect_download() as caught:
        link.click()
    path = tmp_path / caught.value.suggested_filename
    caught.value.save_as(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == shown
    state = StableDiffusionLoraLoaderMixin.lora_state_dict(path)
    state = state[0] if isinstance(state, tuple) else state
    modules = {re.split(r"[._]lora[._]", key)[0] for key in state if "lora" in key and "alpha" not in key}
    assert len(modules) == len(read_adapter(SHIPPED / "papercut.safetensors").modules)
    with page.expect_download() as caught:
        page.get_by_role("link", name="Download the data sheet").click()
    assert caught.value.suggested_filename == "papercut-v1.html"


def test_what_would_be_left_out_is_shown_as_text_and_is_not_in_the_public_file(visit, styles, tmp_path):
    page = visit.open("/en/export?ref=Told%401")
    page.get_by_label("Anyone: only what strangers need").check()
    row = page.locator("#withheld tr", has_text="ss_training_comment")
    row.wait_for(timeout=SLOW)
    assert f"{MAIL} <img src=x" in row.inner_text()
    page.locator("#export").click()
    link = page.get_by_role("link", name="Download Told-v1.safetensors")
    link.wait_for(timeout=SLOW)
    with page.expect_download() as caught:
        link.click()
    caught.value.save_as(tmp_path / "told.safetensors")
    assert MAIL.encode() not in (tmp_path / "told.safetensors").read_bytes()
    assert page.evaluate("window.ran") is None


def test_a_style_in_review_says_on_the_export_page_that_it_is_not_approved(visit, styles):
    page = visit.open("/en/export?ref=Torn%401")
    page.locator("#notice", has_text="This style is blocked.").wait_for()
    expect(page.locator("#export")).to_be_disabled()
    page.get_by_label("Archive or another studio").check()
    page.get_by_label("Only us: everything stays").check()
    expect(page.locator("#export")).to_be_enabled()
