"""A check of a plan reports what training refuses before its first step, and measures what it really takes."""

import pytest
from PIL import Image

from datasets_tools.errors import DatasetError
from datasets_tools.image import load_image
from lora_diffusion.errors import LoraDiffusionError
from lora_diffusion.training import loop
from lora_diffusion.training.check import _about_disk, check_plan
from lora_diffusion.training.probe import probe
from lora_diffusion.training.samples import bucket_rules, load_sources
from tests import tiny


def without_captions(folder):
    for path in folder.glob("*.txt"):
        path.unlink()


def uncaptioned(folder, tmp_path):
    without_captions(folder)
    return ()


def uncaptioned_without_trigger(folder, tmp_path):
    without_captions(folder)
    return ("data.captions=optional",)


def regularisation_without_rights(folder, tmp_path):
    (folder / "rights.csv").write_text("file_name,owner\n*,A\n")
    return ("data.rights=require", f"data.regularisation={tiny.pictures(tmp_path / 'ordinary', 1)}")


def broken(folder):
    folder.mkdir()
    (folder / "a.png").write_bytes(b"<html>")
    return folder


def regularisation_broken(folder, tmp_path):
    return (f"data.regularisation={broken(tmp_path / 'none')}",)


def validation_broken(folder, tmp_path):
    return (f"validation.folder={broken(tmp_path / 'none')}",)


def masked(folder, tmp_path, **changed):
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in folder.glob("*.png"):
        Image.new("L", load_image(path).size, 255).save(masks / path.name)
    return masks


def mask_black(folder, tmp_path):
    masks = masked(folder, tmp_path)
    Image.new("L", load_image(folder / "00.png").size).save(masks / "00.png")
    return (f"data.masks={masks}",)


def mask_broken(folder, tmp_path):
    masks = masked(folder, tmp_path)
    (masks / "00.png").write_bytes(b"<html>")
    return (f"data.masks={masks}",)


def mask_of_another_shape(folder, tmp_path):
    masks = masked(folder, tmp_path)
    Image.new("L", (64, 200), 255).save(masks / "00.png")
    return (f"data.masks={masks}",)


def alpha_of_nothing(folder, tmp_path):
    image = load_image(folder / "00.png")
    image.putalpha(0)
    image.save(folder / "00.png")
    return ("data.masks=alpha",)


def masks_of_other_pictures(folder, tmp_path):
    masks = masked(folder, tmp_path)
    for path in list(masks.iterdir()):
        path.rename(masks / f"other-{path.name}")
    return (f"data.masks={masks}",)


REFUSED = [
    uncaptioned,
    uncaptioned_without_trigger,
    regularisation_without_rights,
    regularisation_broken,
    validation_broken,
    mask_black,
    mask_broken,
    mask_of_another_shape,
    alpha_of_nothing,
    masks_of_other_pictures,
]


def found(plan):
    return check_plan(plan, probe=False).findings


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_what_training_refuses_is_reported_in_its_words(base, tmp_path, change):
    folder = tiny.pictures(tmp_path / "p", 3)
    plan = tiny.plan(base, folder, tmp_path / "out", *change(folder, tmp_path))
    with pytest.raises((LoraDiffusionError, DatasetError)) as caught:
        loop.train(plan)
    refused = [each for each in found(plan) if each.code == "plan-refused"]
    assert [(each.severity, each.reason, each.remedy) for each in refused] == [
        ("blocks", str(caught.value), caught.value.hint)
    ]


def test_every_mask_that_is_refused_is_named(base, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 3)
    masks = masked(folder, tmp_path)
    for name in ("00.png", "02.png"):
        Image.new("L", (64, 64)).save(masks / name)
    plan = tiny.plan("demo", folder, tmp_path / "out", f"data.masks={masks}", "data.more_resolutions=[32]")
    assert {each.file for each in found(plan) if each.code == "plan-refused"} == {"00.png", "02.png"}


def test_pictures_without_a_mask_are_warned_of_by_name(base, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 3)
    masks = masked(folder, tmp_path)
    (masks / "01.png").unlink()
    findings = found(tiny.plan(base, folder, tmp_path / "out", f"data.masks={masks}"))
    missing = [(each.severity, each.file) for each in findings if each.code == "mask-missing"]
    assert missing == [("warns", "01.png")]
    assert not any(each.severity == "blocks" for each in findings)


def test_rights_that_are_missing_are_said_once(base, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 2)
    blocking = [
        each.code
        for each in found(tiny.plan(base, folder, tmp_path / "out", "data.rights=require"))
        if each.severity == "blocks"
    ]
    assert blocking == ["rights-missing", "rights-missing"]


def test_a_check_leaves_nothing_behind_and_logs_nothing(base, tmp_path, caplog):
    folder = tiny.pictures(tmp_path / "p", 2)
    (folder / "bad.png").write_bytes(b"<html>")
    assert found(tiny.plan(base, folder, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert not caplog.records


def needs(base, folder, place, *more, without=()):
    """What the probe measures at a batch of one, after the files `without` are gone."""
    plan = tiny.plan(base, folder, place / "out", "run.batch_size=1", "adapter.targets=attention", *more)
    sources = load_sources(plan, resolution=64, step=8)
    for path in without:
        path.unlink()
    return probe(plan, sources, bucket_rules(plan.data, resolution=64, step=8))


def test_the_largest_of_all_resolutions_is_measured(base, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 2, sizes=((64, 64),))
    both, larger = (
        needs(base, folder, tmp_path, change) for change in ("data.more_resolutions=128", "data.resolution=128")
    )
    plain = needs(base, folder, tmp_path)
    assert both.cache_bytes == pytest.approx(larger.cache_bytes, abs=100)
    assert both.cache_bytes > plain.cache_bytes + 2500  # 4 x 16 x 16 latents in fp32 take 3 kB more than 4 x 8 x 8
    assert min(each.encode_seconds for each in (both, larger, plain)) > 0


def test_only_as_many_ordinary_pictures_are_encoded_as_a_step_needs(base, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 2, sizes=((64, 64),))
    ordinary = tiny.pictures(tmp_path / "ordinary", 20, sizes=((64, 64),))
    others = sorted(ordinary.glob("*.png"))[1:]
    assert needs(base, folder, tmp_path, f"data.regularisation={ordinary}", without=others).seconds_per_step > 0


def test_ordinary_and_held_out_pictures_count_in_what_the_cache_takes(base, pictures, tmp_path):
    beside = tiny.pictures(tmp_path / "beside", 30)
    plan = tiny.plan(base, pictures, tmp_path / "out", "run.batch_size=1", "adapter.targets=attention")
    with_beside = plan.model_copy(
        update={
            "data": plan.data.model_copy(update={"regularisation": str(beside)}),
            "validation": plan.validation.model_copy(update={"folder": str(beside)}),
        }
    )
    alone, together = (check_plan(each).estimate["cache_bytes"] for each in (plan, with_beside))
    assert together > 4 * alone


@pytest.mark.parametrize("name", ["snapshot_bytes", "cache_bytes"])
def test_a_disk_that_is_too_small_for_run_and_cache_blocks(pictures, tmp_path, name):
    plan = tiny.plan("demo", pictures, tmp_path / "out", f"data.cache={tmp_path / 'cache'}")
    estimate = {"snapshot_bytes": 0.0, "cache_bytes": 0.0}
    assert not list(_about_disk(plan, estimate))
    (finding,) = _about_disk(plan, {**estimate, name: 1e18})
    assert (finding.code, finding.severity) == ("disk-small", "blocks")


def test_a_cache_on_another_disk_is_asked_of_that_disk(pictures, tmp_path):
    from pathlib import Path

    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second disk")
    plan = tiny.plan("demo", pictures, tmp_path / "out", f"data.cache={other / 'cache'}")
    (finding,) = _about_disk(plan, {"snapshot_bytes": 0.0, "cache_bytes": 1e18})
    assert finding.file == str(other / "cache")
    assert "data.cache" in finding.remedy
