"""The report as Chromium shows it: lay-out, colours and what really is drawn."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from datasets_tools import write_report
from datasets_tools.bucket import BucketRule, bucket_for, crop_for
from datasets_tools.finding import blocks, notes, warns
from datasets_tools.health import Counts, Report, Sight
from datasets_tools.manifest import Record, Rights
from tests.datasets_tools.corpus import scene

playwright = pytest.importorskip("playwright.sync_api", reason="needs Chromium: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

RULE = BucketRule(resolution=64, step=8)
EVIL = '"><script>document.title="run"</script><img src=x onerror=document.title="run"> ' + "wort" * 90
SIZES = [(96, 64), (64, 64), (900, 30), (30, 900)]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # without a GPU and without asking the network for updates
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*quiet, "--disable-sync", "--no-first-run"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with everything a report can hold, and texts that try to break it."""
    folder = tmp_path_factory.mktemp("report") / "a folder with a name"
    folder.mkdir()
    sights = []
    for number, (width, height) in enumerate(SIZES):
        plain = Image.new("RGB", (width, height), (200, 200, 200))
        (plain if number == 2 else scene(width, height, seed=number)).save(folder / f"{number}.png")
        bucket = bucket_for(width, height, RULE)
        captions = (EVIL, "رسم لبيت قديم في المدينة", "🦊" * 100, "")
        record = Record(
            file=f"{number}.png",
            sha256="",
            bytes=1,
            width=width,
            height=height,
            caption=captions[number],
            rights=Rights(owner=EVIL) if number else None,
        )
        sights.append(Sight(record=record, bucket=bucket, crop=crop_for(width, height, bucket)))
    findings = [
        blocks("image-unreadable", EVIL + ".png", "it is a text file", "remove it"),
        *(warns("caption-missing", f"{number}.png", "it has no caption", EVIL) for number in range(3)),
        warns("crop-loses", "2.png", "900 x 30 is cropped: 80% of it is cut off", "crop it yourself"),
        notes("other-files", "", EVIL, "nothing"),
    ]
    whole = Report.of(
        folder,
        findings,
        sights,
        budget=RULE.budget,
        counts=Counts(captioned=3, caption_missing=1, rights_stated=3, rights_missing=1),
        palette=[((200, 60, 40), 0.5), ((119, 119, 119), 0.3), ((255, 255, 255), 0.2)],
        estimate={"seconds": 745, "peak_bytes": 1.4e9, "cache_bytes": 4e6, "snapshot_bytes": 1.3e8},
    )
    write_report(whole, folder / "report.html")
    return (folder / "report.html").as_uri()


def opened(browser, report, width=1280, scheme="light"):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("requestfailed", lambda request: page.complaints.append(request.url[:80]))
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(report)
    return page


def test_nothing_is_requested_or_refused_or_run(browser, report):
    page = opened(browser, report)
    assert [url for url in page.requested if not url.startswith("data:image/jpeg")] == [report]
    assert page.complaints == []
    assert page.title().startswith("a folder with a name: picture check")


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(browser, report, width):
    page = opened(browser, report, width)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_thumbnail_beside_a_finding_shows_the_picture_of_the_gallery(browser, report):
    page = opened(browser, report)
    mini = page.locator("#warns-caption-missing .mini").nth(1).locator("svg")
    pixels = np.asarray(Image.open(io.BytesIO(mini.screenshot())).convert("RGB"), dtype=float)
    height, width, _ = pixels.shape
    above = (width - height) // 2  # the square picture fills the width and shows its middle
    picture = np.asarray(scene(64, 64, seed=1).resize((width, width)), dtype=float)[above : above + height]
    assert abs(pixels - picture)[8:-8, 8:-8].mean() < 10


def test_what_is_cut_off_is_darker_than_what_is_kept(browser, report):
    page = opened(browser, report)
    stage = page.locator("#picture-3 .stage svg")
    shot = np.asarray(Image.open(io.BytesIO(stage.screenshot())).convert("L"), dtype=float)
    middle = shot[shot.shape[0] // 2]
    centre = len(middle) // 2
    assert middle[: len(middle) // 4].mean() < 0.7 * middle[centre - 8 : centre + 8].mean()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(browser, report, scheme):
    page = opened(browser, report, scheme=scheme)
    low = page.evaluate(
        """() => {
        const parse = colour => colour.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const ground = one => { for (; one; one = one.parentElement) {
            const colour = parse(getComputedStyle(one).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour; } };
        const low = [];
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) {
            const one = walk.currentNode.parentElement;
            if (!walk.currentNode.data.trim() || one.closest('svg')) continue;
            const pair = [light(parse(getComputedStyle(one).color)), light(ground(one))].sort();
            const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
            if (ratio < 4.5) low.push([walk.currentNode.data.trim().slice(0, 40), ratio]);
        }
        return low; }"""
    )
    assert low == []


def test_dark_is_dark_and_print_is_light(browser, report):
    page = opened(browser, report, scheme="dark")
    ground = "parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert page.evaluate(ground) < 60
    page.emulate_media(media="print")
    assert page.evaluate(ground) == 255


def test_links_lead_to_the_finding_and_back_to_the_picture(browser, report):
    page = opened(browser, report)
    page.locator("#picture-3 .marks a", has_text="lose much to the crop").click()
    assert page.url.endswith("#warns-crop-loses")
    page.locator("#warns-crop-loses .mini a").click()
    assert page.url.endswith("#picture-3")
