import base64
import hashlib
import io
import os
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from datasets_tools import check_folder, write_report
from datasets_tools.bucket import Bucket, BucketRule, bucket_for, crop_for
from datasets_tools.finding import blocks, notes, warns
from datasets_tools.health import Counts, Report, Sight
from datasets_tools.manifest import Record, Rights
from tests.datasets_tools.corpus import photos, scene

RULE = BucketRule(resolution=64, step=8)


class Page(HTMLParser):
    """What a browser would see: elements with their attributes and text. Fails on tags that do not nest."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, html):
        super().__init__()
        self.html, self.open, self.elements = html, [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", "in": [outer["tag"] for outer in self.open], **dict(attrs)}
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):  # as SVG closes its shapes
        self.elements.append({"tag": tag, "text": "", "in": [outer["tag"] for outer in self.open], **dict(attrs)})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]

    def some(self, name):
        return [element for element in self.elements if name in element.get("class", "").split()]

    @property
    def text(self):
        return " ".join(self.all("body")[0]["text"].split())

    def rows(self, heading):
        """The table whose first header cell says `heading`, as lists of text."""
        cells = [element for element in self.elements if element["tag"] in {"tr", "th", "td"}]
        rows = []
        for cell in cells:
            if cell["tag"] == "tr":
                rows.append([])
            else:
                rows[-1].append(cell["text"].replace("\xa0", " "))
        start = next(number for number, row in enumerate(rows) if row[0] == heading)
        body = rows[start + 1 :]
        length = next((number for number, row in enumerate(body) if len(row) != len(rows[start])), len(body))
        return body[:length]


def written(report, tmp_path, **options):
    file = tmp_path / "report ü.html"
    write_report(report, file, **options)
    return Page(file.read_text(encoding="utf-8"))


def checked(folder, tmp_path, **options):
    return written(check_folder(folder, rule=RULE, **options), tmp_path)


def sight(file, width=96, height=64, **stated):
    bucket = bucket_for(width, height, RULE)
    record = Record(file=file, sha256="", bytes=1, width=width, height=height, **stated)
    return Sight(record=record, bucket=bucket, crop=crop_for(width, height, bucket))


def drawn(page):
    return [Image.open(io.BytesIO(base64.b64decode(one["href"].partition(",")[2]))) for one in page.all("image")]


def mixed(tmp_path):
    """A folder of twelve pictures and a broken one, with findings of every severity."""
    folder = photos(tmp_path / "set", 12)
    (folder / "bad.png").write_text("words")
    files = [f"photo {number:02}.png" for number in range(12)]
    found = [
        blocks("image-unreadable", "bad.png", "it is a text file", "remove it, or put the real picture in its place"),
        *(warns("caption-missing", file, "it has no caption", "write what it shows") for file in files[:11]),
        warns("bucket-small", "", "only 1 picture is trained at 64 x 64, fewer than the batch size 4", "crop it"),
        warns("trigger-common", "", '"dog" has a meaning of its own', "use a made-up word"),
        warns("rights-expired", files[0], "its rights expired on 2020-01-01", "renew them"),
        notes("image-transparent", files[3], "it has transparent parts", "choose the background colour"),
    ]
    return Report.of(folder, found, [sight(file, caption=f"shape {file}") for file in files], budget=RULE.budget)


def test_the_page_loads_nothing_and_its_policy_would_forbid_it(tmp_path):
    page = written(mixed(tmp_path), tmp_path)
    style = page.all("style")[0]["text"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.split("; ")[:3] == ["default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'"]
    links = [one[key] for one in page.elements for key in ("href", "src", "srcset") if key in one]
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    assert "url(" not in style
    assert "@import" not in style
    assert not {"script", "link", "iframe", "object"} & {one["tag"] for one in page.elements}
    assert not [one for one in page.elements if "style" in one or any(key.startswith("on") for key in one)]


def test_each_picture_is_stored_once_however_often_it_is_shown(tmp_path):
    page = written(mixed(tmp_path), tmp_path)
    identities = [one["id"] for one in page.elements if "id" in one]
    assert len(set(identities)) == len(identities)
    assert len(page.all("image")) == 12
    assert len(page.all("use")) > 12
    targets = [one["href"][1:] for one in page.elements if one.get("href", "").startswith("#")]
    assert set(targets) <= set(identities)


def test_a_finding_stands_beside_its_own_picture(tmp_path):
    page = written(mixed(tmp_path), tmp_path)
    graphics = [one for one in page.elements if one["tag"] in {"svg", "g", "use"}]
    named = {after["id"]: svg["aria-label"] for svg, after in pairwise(graphics) if after["tag"] == "g"}
    beside = [(svg["aria-label"], after["href"][1:]) for svg, after in pairwise(graphics) if after["tag"] == "use"]
    assert len(beside) == 13
    assert all(named[target].startswith(file) for file, target in beside)


def test_a_thumbnail_shows_the_picture(tmp_path):
    folder = photos(tmp_path / "set", 1, size=(600, 400))
    thumbnail = drawn(checked(folder, tmp_path))[0]
    assert thumbnail.size == (384, 256)
    expected = np.asarray(Image.open(folder / "photo 00.png").convert("RGB").resize((384, 256)), dtype=float)
    assert abs(np.asarray(thumbnail, dtype=float) - expected).mean() < 4


def test_the_frame_lies_where_training_cuts(tmp_path):
    (tmp_path / "set").mkdir()
    scene(400, 50).save(tmp_path / "set" / "a.png")
    crop = crop_for(400, 50, Bucket(width=128, height=32))
    record = Record(file="a.png", sha256="", bytes=1, width=400, height=50)
    wide = Sight(record=record, bucket=Bucket(width=128, height=32), crop=crop)
    page = written(Report.of(tmp_path / "set", [], [wide]), tmp_path)
    edge = page.some("edge")[0]
    left, top, right, bottom = crop.box
    across, along = 384 / crop.resized[0], 48 / crop.resized[1]
    expected = [left * across, top * along, (right - left) * across, (bottom - top) * along]
    assert crop.area_kept == 0.5
    assert "50% is cut off" in page.text
    assert [float(edge[key]) for key in ("x", "y", "width", "height")] == pytest.approx(expected, abs=0.06)


def test_a_picture_that_fits_has_no_frame(tmp_path):
    page = checked(photos(tmp_path / "set", 2, size=(64, 64)), tmp_path)
    assert not page.some("edge")
    assert "Nothing is cut off" in page.text


@pytest.mark.parametrize(
    "evil",
    [
        '"><script>alert(1)</script>',
        "' onload='alert(1)",
        "</style></title><b>",
        "{{ 7 * 7 }} {% raw %}",
        "صورة جميلة \u202e gpj.exe",
        "🦊" * 60,
        "long " * 80 + "end",
        "&lt;i&gt; &amp;",
    ],
)
def test_names_and_captions_are_shown_as_text_never_as_markup(tmp_path, evil):
    (tmp_path / "set").mkdir()
    name = evil.replace("/", "_")[:50] + ".png"
    sights = [sight(name, caption=evil, rights=Rights(owner=evil)), sight("b.png")]
    report = Report.of(tmp_path / "set", [warns("caption-empty", name, evil, evil)], sights)
    page, plain = written(report, tmp_path), written(Report.of(tmp_path / "set", [], [sight("b.png")]), tmp_path)
    shown = [one["text"] for one in page.all("bdi")]
    assert shown.count(evil) >= 2
    assert name in shown
    assert {one["tag"] for one in page.elements} - {one["tag"] for one in plain.elements} <= {
        *("ol", "div", "h3", "b", "a", "details", "summary", "use", "span")
    }
    assert not [one for one in page.elements if any(key.startswith("on") for key in one)]
    assert page.all("title")[0]["text"] == "set: picture check, 94 of 100"


def test_a_folder_with_markup_for_a_name_has_a_page(tmp_path):
    page = checked(photos(tmp_path / "<b>set & 'co'", 2), tmp_path)
    assert page.all("h1")[0]["text"] == "<b>set & 'co'"


def test_half_a_character_from_json_does_not_break_the_page(tmp_path):
    (tmp_path / "set").mkdir()
    page = written(Report.of(tmp_path / "set", [], [sight("a.png", caption="half \ud83e here")]), tmp_path)
    assert "half ? here" in page.text


@pytest.mark.parametrize(
    ("findings", "images", "verdict"),
    [
        ([], 20, "Ready to train."),
        ([notes("image-animated", "", "r", "m")], 20, "Ready to train."),
        ([warns("few-images", "", "r", "m")], 20, "Ready to train, and 1 thing could be better."),
        (
            [warns(code, "", "r", "m") for code in ("few-images", "captions-none")],
            20,
            "Training would work, but the result could suffer: 2 things are worth fixing first.",
        ),
        ([blocks("image-unreadable", f"{n}.png", "r", "m") for n in (1, 2)], 20, "Not ready: 1 thing must be fixed"),
        ([blocks("no-images", "", "r", "m")], 0, "Nothing to train on yet."),
    ],
)
def test_the_verdict_is_one_sentence(tmp_path, findings, images, verdict):
    (tmp_path / "set").mkdir()
    report = Report.of(tmp_path / "set", findings, [sight(f"{n}.png") for n in range(images)])
    page = written(report, tmp_path)
    assert " ".join(page.some("verdict")[0]["text"].split()).startswith(verdict)
    assert page.some("ring")[0]["aria-label"] == f"Health score: {report.score} of 100"


def test_the_changes_that_help_most_come_first_with_their_points(tmp_path):
    report = mixed(tmp_path)
    page = written(report, tmp_path)
    said = [one["text"] for one in page.some("gain")]
    assert said == [f"+{change.points} point{'s' * (change.points != 1)}" for change in report.changes]
    assert len(said) == 3
    assert page.text.index(report.changes[0].title) < page.text.index("Must be fixed Training")


def test_findings_are_grouped_by_severity_and_kind_with_one_remedy(tmp_path):
    page = written(mixed(tmp_path), tmp_path)
    headings = [one["text"].strip() for one in page.all("h2")]
    assert headings[:5] == ["What would help most", "Must be fixed", "Worth fixing", "Good to know", "Pictures"]
    kind = next(one for one in page.some("kind") if one["id"] == "warns-caption-missing")
    said = " ".join(kind["text"].split())
    assert "11 files: each has no caption" in said
    assert said.count("What to do: write what it shows") == 1
    bad = next(one for one in page.some("kind") if one["id"] == "blocks-image-unreadable")
    assert "bad.png: it is a text file" in " ".join(bad["text"].split())


def test_remedies_that_differ_stand_beside_their_file(tmp_path):
    (tmp_path / "set").mkdir()
    findings = [warns("odd", file, "it is odd", f"mend {file}") for file in ("a.png", "b.png")]
    page = written(Report.of(tmp_path / "set", findings, [sight("a.png"), sight("b.png")]), tmp_path)
    assert [one["text"] for one in page.some("remedy")] == ["What to do: mend a.png.", "What to do: mend b.png."]


def test_one_kind_with_two_severities_has_two_places(tmp_path):
    (tmp_path / "set").mkdir()
    findings = [judge("odd", "a.png", "it is odd", "mend it") for judge in (warns, blocks)]
    page = written(Report.of(tmp_path / "set", findings, [sight("a.png")]), tmp_path)
    assert [one["id"] for one in page.some("kind")] == ["blocks-odd", "warns-odd"]


def test_a_reason_that_begins_with_a_file_keeps_its_spelling(tmp_path):
    (tmp_path / "set").mkdir()
    findings = [warns("odd", "", reason, "mend it") for reason in ("photo.txt is odd", "nobody knows")]
    page = written(Report.of(tmp_path / "set", findings, [sight("a.png")]), tmp_path)
    assert "photo.txt is odd. Nobody knows." in page.text


def test_words_of_the_trade_are_explained_once(tmp_path):
    page = written(mixed(tmp_path), tmp_path)
    for meaning in ("A caption is the text", "A trigger is a made-up word", "To crop is to", "A batch is the group"):
        assert page.text.count(meaning) == 1, meaning


def test_a_word_is_explained_where_it_comes_up_first(tmp_path):
    (tmp_path / "set").mkdir()
    finding = warns("captions-none", "", "no picture has a caption", "write what it shows")
    page = written(Report.of(tmp_path / "set", [finding], [sight("a.png")]), tmp_path)
    change = page.some("changes")[0]["text"]
    assert "No captions" in change
    assert "A caption is the text that goes with a picture" in change


def test_a_card_says_caption_rights_and_marks(tmp_path):
    (tmp_path / "set").mkdir()
    rights = Rights(owner="Müller", licence="CC BY", expires="2020-01-01")
    findings = [warns("rights-expired", "a.png", "its rights expired", "renew them")]
    shown = [sight("a.png", caption="a shape, number 0", rights=rights)]
    page = written(Report.of(tmp_path / "set", findings, shown), tmp_path)
    card = " ".join(page.all("figcaption")[0]["text"].split())
    assert "a shape, number 0" in card
    assert "Rights: Müller, CC BY, until 2020-01-01 Pictures whose rights have expired" in card


def test_a_long_caption_is_cut_and_can_be_opened(tmp_path):
    (tmp_path / "set").mkdir()
    caption = "x" * 1234
    page = written(Report.of(tmp_path / "set", [], [sight("a.png", caption=caption)]), tmp_path)
    assert page.some("cut")[0]["text"] == "x" * 199 + "…"
    assert "Show all of its 1,234 characters" in page.all("details")[0]["text"]
    assert caption in page.all("details")[0]["text"]


def test_the_tables_count_captions_rights_and_sizes(tmp_path):
    (tmp_path / "set").mkdir()
    counts = Counts(
        captioned=6, caption_missing=3, caption_empty=1, caption_orphans=2, rights_stated=9, rights_expired=1
    )
    sights = [*(sight(f"{n}.png") for n in range(9)), sight("small.png", 16, 16)]
    page = written(Report.of(tmp_path / "set", [], sights, budget=RULE.budget, counts=counts), tmp_path)
    captions = [["With a caption", "6", "60%"], ["Empty caption", "1", "10%"], ["No caption", "3", "30%"]]
    assert page.rows("State")[:3] == captions
    assert "2 captions belong to no picture" in page.text
    sizes = page.rows("Size in pixels")
    assert [row[1] for row in sizes] == ["9", "1"]
    assert sizes[1] == ["64 × 64", "1", "100%", "0%", "4.0 times"]
    assert all(one.get("scope") in {"col", "row"} for one in page.all("th"))


def test_swatches_can_be_read_on_every_colour(tmp_path):
    (tmp_path / "set").mkdir()
    greys = [((grey, grey, grey), 1 / 256) for grey in range(256)]
    page = written(Report.of(tmp_path / "set", [], [sight("a.png")], palette=greys), tmp_path)
    inks = [one for one in page.all("text") if one["text"].startswith("#")]
    assert len(inks) == 256

    def light(colour):
        value = int(colour[1:3], 16) / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    for one in inks:
        dark, bright = sorted((light(one["text"]), 1.0 if one["fill"] == "#fff" else 0.0))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, one["text"]


def test_colours_are_shown_with_their_share(tmp_path):
    (tmp_path / "set").mkdir()
    palette = [((16, 52, 110), 0.62), ((250, 200, 60), 0.38)]
    page = written(Report.of(tmp_path / "set", [], [sight("a.png")], palette=palette), tmp_path)
    swatches = " ".join(page.some("swatches")[0]["text"].split())
    assert swatches == "#10346e62% of the area #fac83c38% of the area"
    assert [one["x"] for one in page.all("rect") if one.get("height") == "12"] == ["0.00%", "62.00%"]


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (
            {"seconds": 745, "peak_bytes": 1.41e9, "cache_bytes": 4.1e6, "snapshot_bytes": 127e6},
            "Training takes about 12 minutes on this machine, 1.4 GB of memory and 130 MB of disk.",
        ),
        ({"seconds": 40}, "Training takes about 40 seconds on this machine."),
        ({"seconds": 3 * 3600}, "Training takes about 3 hours on this machine."),
        ({"seconds": 50 * 3600}, "Training takes about 2 days on this machine."),
        ({"seconds": 0.2}, "Training takes about 1 second on this machine."),
        ({"cache_bytes": 999}, "Training takes 1 kB of disk."),
    ],
)
def test_an_estimate_is_told_in_words(tmp_path, estimate, words):
    (tmp_path / "set").mkdir()
    page = written(Report.of(tmp_path / "set", [], [sight("a.png")], estimate=estimate), tmp_path)
    assert words in page.text
    assert "Time and space" in page.text


def test_findings_of_a_plan_are_shown_too(tmp_path):
    report = check_folder(photos(tmp_path / "set", 9), rule=RULE, trigger="brndx")
    page = written(report.with_findings([warns("rate-odd", "", "1 is much", "lower it")]), tmp_path)
    assert "Rate odd 1 is much. What to do: lower it." in page.text
    assert "Time and space" not in page.text


def test_an_empty_folder_has_a_page_too(tmp_path):
    (tmp_path / "set").mkdir()
    page = checked(tmp_path / "set", tmp_path)
    assert "No picture to train on" in page.text
    assert not page.all("figure")


def test_a_picture_that_vanished_broke_or_changed_is_a_placeholder(tmp_path):
    folder = photos(tmp_path / "set", 9)
    report = check_folder(folder, rule=RULE)
    (folder / "photo 01.png").unlink()
    (folder / "photo 02.png").write_text("words")
    scene(64, 96, seed=3).save(folder / "photo 03.png")
    page = written(report, tmp_path)
    assert len(page.all("figure")) == 9
    assert len(page.all("image")) == 6
    assert len(page.some("gone")) == page.text.count("It changed, or can no longer be read") == 3


def test_progress_counts_the_pictures(tmp_path):
    calls = []
    report = check_folder(photos(tmp_path / "set", 9), rule=RULE)
    written(report, tmp_path, on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(number, 9) for number in range(1, 10)]


def test_pictures_are_read_while_writing_and_not_all_before(tmp_path):
    folder = photos(tmp_path / "set", 30)
    report = check_folder(folder, rule=RULE)

    def at_first(done, total):
        if done == 1:
            for number in range(12, 30):
                (folder / f"photo {number:02}.png").unlink()

    page = written(report, tmp_path, on_progress=at_first)
    assert len(page.all("image")) == 12


def test_an_interrupted_report_leaves_the_old_one(tmp_path):
    report = check_folder(photos(tmp_path / "set", 3), rule=RULE)
    file = tmp_path / "r.html"
    file.write_text("old")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(report, file, stop)
    assert file.read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["r.html", "set"]


def test_fifty_camera_pictures_stay_below_three_megabytes(tmp_path):
    (tmp_path / "set").mkdir()
    grain = np.random.default_rng(0).normal(0, 18, (768, 1152, 3))
    photo = Image.fromarray(np.clip(np.asarray(scene(1152, 768), dtype=float) + grain, 0, 255).astype(np.uint8))
    photo.save(tmp_path / "set" / "0.jpg", quality=95)
    for number in range(1, 50):
        os.link(tmp_path / "set" / "0.jpg", tmp_path / "set" / f"{number}.jpg")
    sights = [sight(f"{number}.jpg", 1152, 768, caption="a photo") for number in range(50)]
    page = written(Report.of(tmp_path / "set", [], sights), tmp_path)
    assert drawn(page)[0].size == (384, 256)
    assert 500_000 < len(page.html) < 3_000_000


def test_beyond_a_thousand_those_with_findings_are_shown_and_the_rest_is_counted(tmp_path):
    (tmp_path / "set").mkdir()
    scene(16, 16).save(tmp_path / "set" / "0.png")
    for number in range(1, 1005):
        os.link(tmp_path / "set" / "0.png", tmp_path / "set" / f"{number}.png")
    sights = [sight(f"{number}.png", 16, 16) for number in range(1005)]
    findings = [warns("caption-missing", f"{number}.png", "it has no caption", "write it") for number in (1004, 1002)]
    page = written(Report.of(tmp_path / "set", findings, sights), tmp_path)
    names = [one["text"] for one in page.all("p") if one.get("class") == "name" and "figcaption" in one["in"]]
    assert names[:3] == ["1004.png", "1002.png", "0.png"]
    assert len(names) == 1000
    assert "1,000 of 1,005 pictures, those with findings first" in page.text


def test_many_findings_of_one_kind_are_cut_with_their_number(tmp_path):
    (tmp_path / "set").mkdir()
    findings = [blocks("image-unreadable", f"{number}.png", "it is broken", "mend it") for number in range(1234)]
    page = written(Report.of(tmp_path / "set", findings, [sight("a.png")]), tmp_path)
    assert "(1,234)" in page.text
    assert "1,034 more of this kind are not listed here" in page.text


def test_headings_descend_in_order_and_every_graphic_is_named_or_hidden(tmp_path):
    report = mixed(tmp_path)
    page = written(report.with_findings([], {"seconds": 60}), tmp_path)
    levels = [int(one["tag"][1]) for one in page.elements if re.fullmatch(r"h[1-6]", one["tag"])]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for graphic in page.all("svg"):
        assert graphic.get("aria-hidden") == "true" or (graphic["role"] == "img" and graphic["aria-label"])
