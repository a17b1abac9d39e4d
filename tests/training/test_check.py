"""A check of a plan reports what training refuses before its first step, and measures what it really takes."""

import pytest
from PIL import Image

from datasets_tools.errors import DatasetError
from datasets_tools.image import load_image
from lora_diffusion.errors import LoraDiffusionError
from lora_diffusion.training import loop
from lora_diffusion.training.check import check_plan
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
