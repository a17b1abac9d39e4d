import json
import re
from datetime import date
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from datasets_tools import DataSettings, check_folder
from datasets_tools.bucket import BucketRule
from datasets_tools.common_words import is_common
from datasets_tools.errors import NoImages
from datasets_tools.finding import Finding
from datasets_tools.health import TITLES, Report
from datasets_tools.summary import summarise
from tests.datasets_tools import corpus
from tests.datasets_tools.corpus import encoded, scene

RULE = BucketRule(resolution=64, step=8)


def photos(folder, count, **options):
    """Fill a folder with pictures that nothing is wrong with: captioned, and with stated rights."""
    corpus.photos(folder, count, **options)
    (folder / "rights.csv").write_text("file_name,owner\n*,Ada\n")
    return folder


def check(folder, *, today=None, tokens=None, **options):
    return check_folder(
        folder, DataSettings(**({"rule": RULE, "trigger": "brndx"} | options)), today=today, tokens=tokens
    )


def of(report, code):
    return [finding for finding in report.findings if finding.code == code]


def test_a_good_folder_scores_100_and_finds_nothing(tmp_path):
    report = check(photos(tmp_path, 10))
    assert report.findings == ()
    assert (report.score, report.images, report.reasons, report.blocked) == (100, 10, (), False)
    assert sum(row.count for row in report.buckets) == 10


def test_the_json_has_the_promised_fields(tmp_path):
    photos(tmp_path, 2)
    (tmp_path / "bad.png").write_bytes(b"<html>")
    row = json.loads(json.dumps(check(tmp_path).to_dict()))
    assert {"score", "findings", "images", "buckets"} <= set(row)
    assert isinstance(row["score"], int)
    [bucket] = row["buckets"]
    assert (bucket["width"], bucket["height"], bucket["count"]) == (80, 56, 2)
    assert bucket["fill"] == pytest.approx(80 * 56 / 64**2)
    assert {tuple(finding) for finding in row["findings"]} == {("code", "severity", "file", "reason", "remedy")}


def test_a_file_that_claims_to_be_a_picture_blocks_and_the_rest_is_judged(tmp_path):
    photos(tmp_path, 10)
    (tmp_path / "bad.png").write_text("some text")
    report = check(tmp_path)
    assert report.blocked
    assert report.score < 50
    assert report.images == 10
    assert report.findings[0].file == "bad.png"
    assert report.findings[0].reason.startswith("it is a text file")
    assert report.reasons[0].endswith("pictures that cannot be read")


def test_a_folder_without_a_readable_picture_blocks_with_score_0(tmp_path):
    report = check(tmp_path)
    assert (report.score, report.images) == (0, 0)
    assert [finding.code for finding in report.findings] == ["no-images"]
    (tmp_path / "bad.png").write_bytes(b"")
    report = check(tmp_path)
    assert report.score == 0
    assert {finding.code for finding in report.findings} == {"no-images", "image-unreadable"}


def test_a_missing_folder_is_wrong_use_not_a_report(tmp_path):
    with pytest.raises(NoImages, match="does not exist"):
        check(tmp_path / "no")


def test_no_captions_at_all_is_one_finding(tmp_path):
    (finding,) = check(photos(tmp_path, 9, captions=False)).findings
    assert (finding.code, finding.severity) == ("captions-none", "warns")
    assert '"brndx" alone' in finding.reason


def test_missing_and_empty_captions_are_named_by_picture(tmp_path):
    photos(tmp_path, 9)
    (tmp_path / "photo 03.txt").unlink()
    (tmp_path / "photo 04.txt").write_text(" \n")
    report = check(tmp_path)
    assert [finding.file for finding in of(report, "caption-missing")] == ["photo 03.png"]
    assert [finding.file for finding in of(report, "caption-empty")] == ["photo 04.png"]
    assert 80 < report.score < 100


def test_equal_captions_and_orphans_are_found(tmp_path):
    photos(tmp_path, 9)
    for file in tmp_path.glob("*.txt"):
        file.write_text("always the same")
    (tmp_path / "gone.txt").write_text("lost")
    report = check(tmp_path)
    assert "always the same" in of(report, "captions-equal")[0].reason
    assert of(report, "caption-orphan")[0].file == "gone.txt"


def test_a_picture_that_is_enlarged_or_loses_much_is_named_with_numbers(tmp_path):
    photos(tmp_path, 9)
    scene(40, 40, seed=50).save(tmp_path / "small.png")
    scene(2000, 100, seed=51).save(tmp_path / "wide.png")
    report = check(tmp_path, rule=BucketRule(resolution=96, step=16))
    (small,) = of(report, "image-upscaled")
    (wide,) = of(report, "crop-loses")
    assert (small.file, wide.file) == ("small.png", "wide.png")
    assert "2.4 times to 96 x 96" in small.reason
    assert "55% of it is cut off" in wide.reason


def test_a_size_with_fewer_pictures_than_the_batch_says_that_nothing_is_skipped(tmp_path):
    photos(tmp_path, 9)
    scene(64, 96, seed=50).save(tmp_path / "tall.png")
    (finding,) = of(check(tmp_path, batch_size=4), "bucket-small")
    assert "only 1 picture is trained at 56 x 80" in finding.reason
    assert "nothing is skipped" in finding.remedy
    assert of(check(tmp_path, batch_size=1), "bucket-small") == []


@pytest.mark.parametrize(
    ("trigger", "code"), [("", "trigger-none"), ("Style", "trigger-common"), ("red dog", "trigger-common")]
)
def test_a_missing_or_everyday_trigger_is_said(tmp_path, trigger, code):
    assert [finding.code for finding in check(photos(tmp_path, 9), trigger=trigger).findings] == [code]


def test_made_up_words_are_not_everyday_words():
    assert not is_common("brndx")
    assert not is_common("acme style")
    assert not is_common("")


def test_findings_from_elsewhere_are_ranked_scored_and_titled_like_its_own(tmp_path):
    report = check(photos(tmp_path, 9, captions=False))
    base = Finding(code="elsewhere-found", severity="blocks", file="", reason="no base", remedy="name one")
    more = report.with_findings([base])
    assert [finding.code for finding in more.findings] == ["elsewhere-found", "captions-none"]
    assert more.score < report.score
    assert more.blocked
    assert more.reasons[0].endswith(": elsewhere found")
    assert (more.images, more.buckets) == (report.images, report.buckets)


def test_few_pictures_are_said(tmp_path):
    assert [finding.code for finding in check(photos(tmp_path, 7)).findings] == ["few-images"]


def test_required_rights_block_where_missing_or_expired(tmp_path):
    corpus.photos(tmp_path, 9)
    rows = [{"file_name": f"photo 0{n}.png", "owner": "Ada", "expires": "2030-06-01"} for n in range(8)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [(one.code, one.severity, one.file) for one in check(tmp_path).findings] == [
        ("rights-missing", "notes", "photo 08.png")
    ]
    report = check(tmp_path, rights="require", today=date(2030, 6, 1))
    assert [finding.file for finding in report.findings] == ["photo 08.png"]
    assert report.blocked
    later = check(tmp_path, rights="require", today=date(2030, 6, 2))
    assert len(of(later, "rights-expired")) == 8
    assert {finding.severity for finding in of(check(tmp_path, today=date(2031, 1, 1)), "rights-expired")} == {"warns"}


def test_every_fault_costs_points_and_more_faults_cost_more(tmp_path):
    scores = []
    for missing in (0, 3, 6):
        folder = photos(tmp_path / str(missing), 9)
        for number in range(missing):
            (folder / f"photo 0{number}.txt").unlink()
        report = check(folder)
        scores.append(report.score)
        assert abs(100 - report.score - sum(-int(reason.split(":")[0]) for reason in report.reasons)) <= 1
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3


def test_every_finding_of_a_messy_folder_has_a_title_a_reason_and_a_remedy(tmp_path):
    photos(tmp_path, 3)
    (tmp_path / "a.gif").write_bytes(encoded(scene(), "GIF"))
    (tmp_path / "b.jpg").write_bytes(encoded(scene(20, 20), "PNG", icc_profile=b"x"))
    (tmp_path / "c.txt").write_bytes(b"\0")
    (tmp_path / "b.txt").write_bytes(b"one\ntwo")
    (tmp_path / "b.caption").write_bytes(b"three")
    (tmp_path / "metadata.jsonl").write_text("{")
    (tmp_path / "movie.mp4").write_text("x")
    report = check(tmp_path, batch_size=8, trigger="art", rights="require")
    assert len({finding.code for finding in report.findings}) >= 10
    for finding in report.findings:
        assert TITLES[finding.code]
        assert finding.reason
        assert finding.remedy
        assert not (finding.reason + finding.remedy).endswith(".")
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities, key=["blocks", "warns", "notes"].index)


def test_the_pixels_are_judged(tmp_path):
    photos(tmp_path, 9, size=(240, 160))
    scene(240, 160, seed=20).resize((60, 40)).resize((240, 160)).save(tmp_path / "soft.png")
    scene(240, 160, seed=21).save(tmp_path / "cheap.jpg", quality=15)
    bars = Image.new("RGB", (240, 200))
    bars.paste(scene(240, 160, seed=22), (0, 20))
    bars.save(tmp_path / "bars.png")
    report = check(tmp_path, rule=BucketRule(resolution=128, step=16))
    judged = {"image-blurred", "image-compressed", "image-border"}
    assert {(one.code, one.file) for one in report.findings if one.code in judged} == {
        ("image-blurred", "soft.png"),
        ("image-compressed", "cheap.jpg"),
        ("image-border", "bars.png"),
    }


def test_lettering_is_noted_and_warned_of_where_it_would_be_mirrored(tmp_path):
    photos(tmp_path, 9, size=(240, 160))
    sign = Image.new("RGB", (480, 320), (250, 250, 240))
    ImageDraw.Draw(sign).text((40, 120), "SUMMER SALE TODAY", fill=(20, 20, 60), font=ImageFont.load_default(40))
    sign.save(tmp_path / "sign.png")
    (note,) = of(check(tmp_path), "image-lettering")
    (warning,) = of(check(tmp_path, flip=True), "flip-lettering")
    assert (note.file, note.severity) == (warning.file, "notes") == ("sign.png", "notes")
    assert warning.severity == "warns"


def test_pictures_held_out_for_validation_that_training_sees_are_named(tmp_path):
    folder = photos(tmp_path / "set", 9)
    held = corpus.photos(folder / "held out", 1)
    scene(seed=40).save(held / "other.png")
    report = check(folder, validation=held)
    (leak,) = of(report, "validation-leak")
    assert leak.file == "photo 00.png"
    assert report.images == 9
    assert of(check(folder, validation=tmp_path / "nowhere"), "validation-missing")[0].severity == "blocks"


def test_the_bucket_table_shows_every_resolution_that_is_trained(tmp_path):
    photos(tmp_path, 9)
    rules = [BucketRule(resolution=64, step=8), BucketRule(resolution=128, step=8)]
    one = check_folder(tmp_path, DataSettings(rule=rules[0]))
    both = check_folder(tmp_path, DataSettings(rule=rules[0], more_rules=(rules[1],)))
    alone = check_folder(tmp_path, DataSettings(rule=rules[1]))
    assert both.buckets == (*one.buckets, *alone.buckets)
    assert both.images == 9


def test_long_captions_show_the_words_that_would_be_lost(tmp_path):
    photos(tmp_path, 9)
    words = [f"word{number}" for number in range(230)]
    (tmp_path / "photo 00.txt").write_text(" ".join(words))
    (finding,) = of(check(tmp_path, trigger=""), "caption-long")  # without a tokenizer: a word is at least one token
    assert finding.file == "photo 00.png"
    assert "word225" in finding.reason
    assert "word224" not in finding.reason

    class Letters:
        limit = 20

        def spans(self, text):
            return [(place, place + 1) for place in range(len(text))]

    exact = of(check(tmp_path, trigger="", tokens=Letters()), "caption-long")
    assert "photo 00.png" in {one.file for one in exact}


def test_the_tables_of_the_report_count_every_picture(tmp_path):
    photos(tmp_path, 9)
    (tmp_path / "photo 01.txt").unlink()
    (tmp_path / "photo 02.txt").write_text("")
    (tmp_path / "gone.txt").write_text("nobody")
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "photo 03.png", "exclude": true}')
    (tmp_path / "rights.csv").write_text("file_name,owner,expires\n*,Ada,\nphoto 04.png,Ada,2020-01-01\n")
    report = check(tmp_path, today=date(2026, 1, 1))
    counts = report.counts
    assert (counts.captioned, counts.caption_missing, counts.caption_empty, counts.caption_orphans) == (6, 1, 1, 1)
    assert (counts.rights_stated, counts.rights_missing, counts.rights_expired) == (7, 0, 1)
    assert (counts.excluded, counts.unreadable, report.images) == (1, 1, 8)
    assert 0 < sum(share for _, share in report.palette) <= 1.001
    assert 1 <= len(report.palette) <= 8
    assert report.changes[0].code == "image-unreadable"
    assert len(report.changes) <= 3


def test_the_summary_names_every_kind_of_finding_and_folds_long_lists(tmp_path):
    photos(tmp_path, 9)
    for number in range(8):
        (tmp_path / f"photo 0{number}.txt").unlink()
    text = summarise(check(tmp_path))
    assert text.count("it has no caption") == 5
    assert "3 more" in text
    assert "of 100" in text.splitlines()[-1]


def test_an_unreadable_date_blocks_where_rights_are_required(tmp_path):
    corpus.photos(tmp_path, 9)
    (tmp_path / "rights.csv").write_text("file_name,owner,expires\n*,Ada,next spring\n")
    assert of(check(tmp_path), "rights-date")[0].severity == "warns"
    assert check(tmp_path, rights="require").blocked


def test_every_code_that_the_packages_use_has_a_title():
    sources = [
        path for package in ("datasets_tools", "lora_diffusion/training") for path in Path(package).rglob("*.py")
    ]
    made = re.compile(r'\b(?:blocks|warns|notes|judge)\(\s*"([a-z-]+)"')
    codes = {code for path in sources for code in made.findall(path.read_text(encoding="utf-8"))}
    assert len(codes) > 30
    assert codes <= set(TITLES)


def test_mending_a_fault_brings_the_points_that_were_promised(tmp_path):
    photos(tmp_path, 9)
    (tmp_path / "photo 00.txt").unlink()
    (tmp_path / "bad.png").write_bytes(b"")
    report = check(tmp_path, trigger="style")
    promised = {change.code: change.points for change in report.changes}
    assert set(promised) == {"image-unreadable", "trigger-common", "caption-missing"}
    (tmp_path / "bad.png").unlink()
    assert check(tmp_path, trigger="style").score == report.score + promised["image-unreadable"]
    assert check(tmp_path).score - check(tmp_path, trigger="style").score >= promised["trigger-common"] > 0


def test_the_json_in_parts_is_the_json_of_the_report(tmp_path):
    photos(tmp_path, 9)
    for damaged in (False, True):
        if damaged:
            (tmp_path / 'bad "ü.png').write_bytes(b"")
        report = check(tmp_path)
        for each in (report, Report.of(tmp_path, [])):
            assert "".join(each.json_parts()) == json.dumps(each.to_dict(), ensure_ascii=False)
    assert report.blocked


def test_a_folder_whose_pictures_are_all_left_out_is_not_called_unreadable(tmp_path):
    photos(tmp_path, 2)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "*", "exclude": true}')
    [finding] = of(check(tmp_path), "no-images")
    assert (finding.severity, finding.remedy) == ("blocks", "include some again")
