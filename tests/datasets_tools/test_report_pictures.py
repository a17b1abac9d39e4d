import os
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from datasets_tools import DataSettings, check_folder, write_report
from datasets_tools.bucket import Bucket, crop_for
from datasets_tools.finding import blocks, warns
from datasets_tools.health import Report, Sight
from datasets_tools.manifest import Record
from tests.datasets_tools.corpus import photos, scene
from tests.datasets_tools.page import RULE, checked, drawn, mixed, sight, written


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
    assert swatches == "#10346e62% #fac83c38%"
    assert [one["x"] for one in page.all("rect") if one.get("height") == "12"] == ["0.00%", "62.00%"]


def test_a_picture_that_vanished_broke_or_changed_is_a_placeholder(tmp_path):
    folder = photos(tmp_path / "set", 9)
    report = check_folder(folder, DataSettings(rule=RULE))
    (folder / "photo 01.png").unlink()
    (folder / "photo 02.png").write_text("words")
    scene(64, 96, seed=3).save(folder / "photo 03.png")
    page = written(report, tmp_path)
    assert len(page.all("figure")) == 9
    assert len(page.all("image")) == 6
    assert len(page.some("gone")) == page.text.count("It changed, or can no longer be read") == 3


def test_progress_counts_the_pictures(tmp_path):
    calls = []
    report = check_folder(photos(tmp_path / "set", 9), DataSettings(rule=RULE))
    written(report, tmp_path, on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(number, 9) for number in range(1, 10)]


def test_pictures_are_read_while_writing_and_not_all_before(tmp_path):
    folder = photos(tmp_path / "set", 30)
    report = check_folder(folder, DataSettings(rule=RULE))

    def at_first(done, total):
        if done == 1:
            for number in range(12, 30):
                (folder / f"photo {number:02}.png").unlink()

    page = written(report, tmp_path, on_progress=at_first)
    assert len(page.all("image")) == 12


def test_an_interrupted_report_leaves_the_old_one(tmp_path):
    report = check_folder(photos(tmp_path / "set", 3), DataSettings(rule=RULE))
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
