import base64
import hashlib
import re
from itertools import pairwise

import pytest

from datasets_tools import DataSettings, check_folder
from datasets_tools.finding import blocks, notes, warns
from datasets_tools.health import Counts, Report
from datasets_tools.manifest import Rights
from tests.datasets_tools.corpus import photos
from tests.datasets_tools.page import RULE, checked, mixed, sight, written


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


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0123, "0.012 seconds"), (0.62, "0.62 seconds"), (123.4, "123 seconds")]
)
def test_the_time_of_a_step_is_told_as_a_plain_number(tmp_path, seconds, words):
    (tmp_path / "set").mkdir()
    estimate = {"seconds": 100 * seconds, "seconds_per_step": seconds}
    page = written(Report.of(tmp_path / "set", [], [sight("a.png")], estimate=estimate), tmp_path)
    assert page.rows("What")[1][1] == words


def test_findings_of_a_plan_are_shown_too(tmp_path):
    report = check_folder(photos(tmp_path / "set", 9), DataSettings(rule=RULE, trigger="brndx"))
    page = written(report.with_findings([warns("rate-odd", "", "1 is much", "lower it")]), tmp_path)
    assert "An unusual learning rate 1 is much. What to do: lower it." in page.text
    assert "Time and space" not in page.text


def test_an_empty_folder_has_a_page_too(tmp_path):
    (tmp_path / "set").mkdir()
    page = checked(tmp_path / "set", tmp_path)
    assert "No picture to train on" in page.text
    assert not page.all("figure")


def test_headings_descend_in_order_and_every_graphic_is_named_or_hidden(tmp_path):
    report = mixed(tmp_path)
    page = written(report.with_findings([], {"seconds": 60}), tmp_path)
    levels = [int(one["tag"][1]) for one in page.elements if re.fullmatch(r"h[1-6]", one["tag"])]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for graphic in page.all("svg"):
        assert graphic.get("aria-hidden") == "true" or (graphic["role"] == "img" and graphic["aria-label"])
