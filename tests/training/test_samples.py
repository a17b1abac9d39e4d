"""Which samples a plan makes of a folder."""

import logging
from collections import Counter
from datetime import date

import pytest
from PIL import Image

from datasets_tools.storage import sha256_file
from lora_diffusion.errors import PlanError
from lora_diffusion.training.samples import bucket_rule, load_sources
from tests import tiny

TODAY = date(2026, 1, 1)


def sources(folder, tmp_path, *more, today=TODAY, withdrawn=None):
    plan = tiny.plan("demo", folder, tmp_path / "out", *more)
    return load_sources(plan, resolution=64, step=8, today=today, withdrawn=withdrawn)


def style(folder, tmp_path, *more):
    return sources(folder, tmp_path, *more).style.samples


def sizes(samples):
    return Counter((each.record.file, each.crop.size) for each in samples)


@pytest.fixture
def tree(tmp_path):
    """Six pictures: two at the top, two in `new`, two in `old`."""
    folder = tiny.pictures(tmp_path / "p", 6)
    for number, place in enumerate(("", "", "new", "new", "old", "old")):
        for suffix in (".png", ".txt"):
            (folder / place).mkdir(exist_ok=True)
            (folder / f"{number:02d}{suffix}").rename(folder / place / f"{number:02d}{suffix}")
    return folder


def repeats(samples):
    return {each.record.file: each.repeats for each in samples}


def test_every_picture_is_one_sample(pictures, tmp_path):
    assert [each.record.file for each in style(pictures, tmp_path)] == [f"{number:02d}.png" for number in range(6)]


def test_more_resolutions_add_every_picture_at_each(pictures, tmp_path):
    found = style(pictures, tmp_path, "data.more_resolutions=[32,128]")
    assert len(found) == 18
    assert {each.crop.size for each in found if each.record.file == "00.png"} == {(64, 64), (32, 32), (128, 128)}


def test_sizes_that_come_out_equal_are_one_sample(pictures, tmp_path):
    found = style(pictures, tmp_path, "data.more_resolutions=[64,128]", "data.upscale=false")
    assert set(sizes(found).values()) == {1}
    assert sum(each.record.file == "00.png" for each in found) == 1  # 64 x 64 is not enlarged to 128


def test_one_more_resolution_needs_no_brackets(pictures, tmp_path):
    assert len(style(pictures, tmp_path, "data.more_resolutions=128")) == 12


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("data.min_side=64", {"min_side": 64}),
        ("data.max_side=80", {"max_side": 80}),
        ("data.upscale=false", {"upscale": False}),
        ("data.crop_budget=0.1", {"crop_budget": 0.1}),
        ("data.bucket_step=16", {"step": 16}),
        ("data.resolution=128", {"resolution": 128}),
    ],
)
def test_the_plan_sets_the_bucket_rule(pictures, tmp_path, change, expected):
    data = tiny.plan("demo", pictures, tmp_path / "out", change).data
    rule = bucket_rule(data, resolution=64, step=8)
    assert {name: getattr(rule, name) for name in expected} == expected
    assert rule != bucket_rule(tiny.plan("demo", pictures, tmp_path / "out").data, resolution=64, step=8)


def test_a_folder_is_repeated_and_the_last_pattern_wins(tree, tmp_path):
    found = repeats(style(tree, tmp_path, 'data.repeats={new=3,"*.png"=2,"old/"=0.5}'))
    assert found == {"00.png": 2, "01.png": 2, "new/02.png": 2, "new/03.png": 2, "old/04.png": 0.5, "old/05.png": 0.5}


def test_the_plan_has_the_last_word_over_the_number_of_a_folder(tree, tmp_path):
    (tree / "new").rename(tree / "10_new")
    (tree / "old").rename(tree / "5_old")
    found = repeats(style(tree, tmp_path, 'data.repeats={"10_new"=2}'))
    assert (found["10_new/02.png"], found["5_old/04.png"], found["00.png"]) == (2, 5, 1)


def test_a_pattern_that_matches_nothing_is_named_with_the_folders_there(tree, tmp_path):
    with pytest.raises(PlanError, match="'neu'") as caught:
        style(tree, tmp_path, "data.repeats={neu=2}")
    assert "new, old" in caught.value.hint


def test_masks_and_other_sets_inside_the_folder_are_no_style_pictures(tree, tmp_path):
    (tree / "new" / "02.png").rename(tree / "new" / "00.png")
    found = sources(tree, tmp_path, f"data.masks={tree / 'new'}", f"data.regularisation={tree / 'old'}")
    assert [each.record.file for each in found.style.samples] == ["00.png", "01.png"]
    assert [each.record.file for each in found.regularisation.samples] == ["04.png", "05.png"]


def test_regularisation_pictures_have_no_trigger_and_held_out_ones_have_it(pictures, tmp_path):
    more = ("data.trigger=zyx", f"data.regularisation={pictures}", f"validation.folder={pictures}")
    found = sources(pictures, tmp_path, *more)
    assert not any("zyx" in each.caption for each in found.regularisation.samples)
    assert all(each.caption.startswith("zyx") for each in (*found.style.samples, *found.validation.samples))


def test_pictures_without_a_mask_are_named(tree, tmp_path, caplog):
    masks = tmp_path / "masks"
    (masks / "new").mkdir(parents=True)
    for name in ("00.jpg", "new/02.webp"):
        Image.new("L", (64, 64), 255).save(masks / name)
    with caplog.at_level(logging.WARNING):
        found = style(tree, tmp_path, f"data.masks={masks}")
    assert [each.record.file for each in found if each.mask] == ["00.png", "new/02.png"]
    assert "01.png, new/03.png, old/04.png, old/05.png" in caplog.text


def stated(folder, *rows):
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return folder


def row(file, **rights):
    extra = "".join(f', "{key}": "{value}"' for key, value in rights.items())
    return f'{{"file_name": "{file}"{extra}}}'


def test_required_rights_that_are_missing_stop_with_the_picture(tmp_path):
    folder = stated(tiny.pictures(tmp_path / "p", 2), row("00.png", licence="CC0"))
    with pytest.raises(PlanError, match=r"01\.png has no stated right") as caught:
        sources(folder, tmp_path, "data.rights=require")
    assert "metadata.jsonl" in caught.value.hint
    assert len(style(folder, tmp_path)) == 2


def test_required_rights_that_expired_stop_with_the_day(tmp_path):
    rows = [row("00.png", owner="A", expires="2025-12-31"), row("01.png", owner="A", expires="2026-01-01")]
    folder = stated(tiny.pictures(tmp_path / "p", 2), *rows)
    with pytest.raises(PlanError, match=r"00\.png may not be used since 2025-12-31"):
        sources(folder, tmp_path, "data.rights=require")
    assert sources(folder, tmp_path, "data.rights=require", today=date(2025, 12, 31))


def test_regularisation_pictures_need_their_rights_too(tmp_path):
    folder = stated(tiny.pictures(tmp_path / "p", 1), row("00.png", licence="CC0"))
    ordinary = tiny.pictures(tmp_path / "ordinary", 1)
    with pytest.raises(PlanError, match=r"ordinary.00\.png has no stated right"):
        sources(folder, tmp_path, "data.rights=require", f"data.regularisation={ordinary}")


@pytest.mark.parametrize("place", ["style", "ordinary", "held-out"])
def test_a_withdrawn_picture_is_refused_wherever_it_lies_and_whatever_the_rights(tmp_path, place):
    folders = {name: tiny.pictures(tmp_path / name, 2) for name in ("style", "ordinary", "held-out")}
    Image.new("RGB", (64, 64), "red").save(folders[place] / "gone.png")
    more = (f"data.regularisation={folders['ordinary']}", f"validation.folder={folders['held-out']}")
    withdrawn = {sha256_file(folders[place] / "gone.png"): "the artist\nasked"}
    with pytest.raises(PlanError, match=r"^gone\.png may no longer be used: the artist asked$") as caught:
        sources(folders["style"], tmp_path, *more, withdrawn=withdrawn)
    assert "leave it out" in caught.value.hint
    assert sources(folders["style"], tmp_path, *more, withdrawn={"0" * 64: "another"})


@pytest.mark.parametrize("place", ["style", "ordinary"])
def test_required_rights_whose_expiry_cannot_be_read_are_refused(tmp_path, place):
    """The date is dropped where it is read, and rights without one never expire."""
    folders = {name: tiny.pictures(tmp_path / name, 2) for name in ("style", "ordinary")}
    for name, folder in folders.items():
        day = "31.12.2020" if name == place else "2030-12-31"
        (folder / "rights.csv").write_text(f"file_name,owner,expires\n*,A,{day}\n")
    more = ("data.rights=require", f"data.regularisation={folders['ordinary']}")
    with pytest.raises(PlanError, match=rf"{place}.rights\.csv.*31\.12\.2020") as caught:
        sources(folders["style"], tmp_path, *more)
    assert "year-month-day" in caught.value.hint
    assert sources(folders["style"], tmp_path, more[1])


def test_masks_of_which_none_belongs_to_a_picture_are_refused(pictures, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (64, 64), 255).save(masks / "other.png")
    with pytest.raises(PlanError, match="none of the 1 masks"):
        sources(pictures, tmp_path, f"data.masks={masks}")


def fingerprint(folder, tmp_path, *more):
    return sources(folder, tmp_path, *more).fingerprint


def test_repeats_masks_and_regularisation_decide_a_run_and_validation_does_not(tree, tmp_path):
    masks, ordinary = tmp_path / "masks", tiny.pictures(tmp_path / "ordinary", 1)
    masks.mkdir()
    Image.new("L", (64, 64), 255).save(masks / "00.png")
    plain = fingerprint(tree, tmp_path)
    masked = fingerprint(tree, tmp_path, f"data.masks={masks}")
    beside = fingerprint(tree, tmp_path, f"data.regularisation={ordinary}")
    repeated = fingerprint(tree, tmp_path, "data.repeats={new=2}")
    assert len({plain, masked, beside, repeated, fingerprint(tree, tmp_path, "data.masks=alpha")}) == 5
    assert fingerprint(tree, tmp_path, f"validation.folder={ordinary}") == plain
    Image.new("L", (64, 64), 254).save(masks / "00.png")
    (ordinary / "00.txt").write_text("another caption")
    assert fingerprint(tree, tmp_path, f"data.masks={masks}") != masked
    assert fingerprint(tree, tmp_path, f"data.regularisation={ordinary}") != beside
