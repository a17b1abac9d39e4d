"""What a step sees is a function of the seed, the step and the sample, and nothing else."""

import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from datasets_tools.image import load_image, to_pixels
from datasets_tools.mask import load_mask
from lora_diffusion.errors import PlanError
from lora_diffusion.training.data import CaptionPlan, varied
from tests import tiny
from tests.training.made import made

ODD = ((64, 64), (64, 64), (64, 64), (96, 64), (64, 64), (40, 88), (64, 64))
"""Seven pictures whose buckets hold five, one and one."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven pictures with tags, transparent at the top."""
    folder = tiny.pictures(tmp_path_factory.mktemp("odd") / "p", 7, sizes=ODD)
    for number, path in enumerate(sorted(folder.glob("*.png"))):
        more = ", round" * 40 if number == 6 else ""  # more tokens than are read at once, with two chunks more than 75
        path.with_suffix(".txt").write_text(f"a {tiny.WORDS[number]}, red, blue, big, small{more}")
        image = load_image(path)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(path)
    return folder


@pytest.fixture(scope="module")
def masks(folder, tmp_path_factory):
    """A mask for every picture: its left quarter counts."""
    place = tmp_path_factory.mktemp("masks")
    for path in folder.glob("*.png"):
        size = load_image(path).size
        mask = Image.new("L", size, 0)
        mask.paste(255, (0, 0, size[0] // 4, size[1]))
        mask.save(place / path.name)
    return place


@pytest.fixture(scope="module")
def build(folder, loaded, tmp_path_factory):
    out = tmp_path_factory.mktemp("build")  # one cache for all
    return lambda *more, of=folder: made(tiny.plan("demo", of, out / "out", "run.batch_size=2", *more), loaded).data


def pieces(data, steps=10):
    return [piece for step in range(steps) for piece in data.global_batch(step).micro_batches(0, 1, 0)]


def same(first, second):
    names = ("latents", "noise", "timesteps", "weights", "masks")
    pairs = [(getattr(first, name), getattr(second, name)) for name in names]
    pairs += [(first.text[key], second.text[key]) for key in first.text]
    return all((a is None) == (b is None) and (a is None or torch.equal(a, b)) for a, b in pairs)


SETTINGS = [
    "data.trigger=zyx",
    "data.caption_dropout=1",
    "data.max_tokens=75",
    "data.shuffle_tags=true",
    "data.tag_dropout=0.5",
    "data.resolution=128",
    "data.more_resolutions=128",
    "data.min_side=64",
    "data.max_side=64",
    'data.repeats={"0[12]*"=2}',
    "data.flip=true",
    "data.colour_jitter=0.2",
    "data.masks=alpha",
    "data.background=#000000",
    "loss.noise_offset=0.5",
    "run.seed=1",
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_changes_what_the_steps_see(build, setting):
    changed, plain = pieces(build(setting)), pieces(build())
    assert not all(a.latents.shape == b.latents.shape and same(a, b) for a, b in zip(changed, plain, strict=True))


@pytest.mark.parametrize(
    ("setting", "with_it"),
    [("data.keep_tags=2", "data.shuffle_tags=true"), ("data.mask_floor=0.5", "data.masks=alpha")],
)
def test_a_setting_refines_another(build, setting, with_it):
    changed, plain = pieces(build(with_it, setting)), pieces(build(with_it))
    assert not all(same(a, b) for a, b in zip(changed, plain, strict=True))


def test_the_same_plan_shows_the_same_whatever_step_is_asked_first(build):
    everything = ("data.flip=true", "data.colour_jitter=0.1", "data.shuffle_tags=true", "data.masks=alpha")
    first, second = build(*everything), build(*everything)
    later = [second.global_batch(step).micro_batches(0, 1, 0)[0] for step in reversed(range(10))]
    assert all(same(a, b) for a, b in zip(pieces(first), reversed(later), strict=True))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_picture_is_seen_exactly_once_per_epoch(build, size, world):
    data = build(f"run.batch_size={size}", "data.caption_dropout=0")
    per_epoch = {1: 7, 2: 5, 3: 4, 4: 4, 8: 3}[size]
    known = {
        latents[0].sum().item(): number for number, latents in enumerate(data.global_batch(0).stream.pictures.latents)
    }
    for epoch in range(3):
        seen = Counter()
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            shares = [data.global_batch(step).micro_batches(rank, world, 1) for rank in range(world)]
            assert len({len(share) for share in shares}) == 1  # no process waits for another for ever
            for piece in (piece for share in shares for piece in share if piece.weights.item()):
                seen[known[piece.latents[0].sum().item()]] += 1
        assert seen == dict.fromkeys(range(7), 1)


def test_repeats_give_exactly_their_share(build):
    data = build('data.repeats={"00*"=3,"03*"=0.5}')
    epochs = [Counter() for _ in range(4)]
    step = 0
    for number, seen in enumerate(epochs):
        expected = 6 - 1 + 3 + (number % 2)  # a half comes every second time
        while seen.total() < expected:
            seen.update(data.global_batch(step).files)
            step += 1
        assert seen["00.png"] == 3
    total = sum(epochs, Counter())
    assert total == {"00.png": 12, "03.png": 2, **{f"0{number}.png": 4 for number in (1, 2, 4, 5, 6)}}


def test_copies_of_a_picture_in_one_batch_get_noise_of_their_own(build):
    data = build("run.batch_size=4", 'data.repeats={"03*"=4}')
    batch = next(batch for batch in map(data.global_batch, range(9)) if batch.files == ("03.png",) * 4)
    noise = batch.micro_batches(0, 1, 0)[0].noise
    assert len({each.sum().item() for each in noise}) == 4


def test_a_flip_shows_the_mirror_image_half_of_the_time(build, folder, loaded):
    family, components = loaded
    image = load_image(folder / "00.png")
    looks = [torch.from_numpy(to_pixels(each))[None] for each in (image, ImageOps.mirror(image))]
    plain, mirrored = (family.encode_images(components, look)[0] for look in looks)
    data = build("data.flip=true", "run.batch_size=1")
    steps = [step for step in range(400) if data.global_batch(step).files == ("00.png",)]
    seen = [data.global_batch(step).micro_batches(0, 1, 0)[0].latents[0] for step in steps]
    flips = sum(torch.equal(each, mirrored) for each in seen)
    assert flips + sum(torch.equal(each, plain) for each in seen) == len(seen)
    assert 0.3 < flips / len(seen) < 0.7


def test_a_mask_is_averaged_to_the_grid_of_the_latents_and_flipped_with_the_picture(build, masks):
    data = build(f"data.masks={masks}", "data.flip=true")
    found = {
        tuple(mask.mean(dim=0).tolist()) for piece in pieces(data, 60) for mask in piece.masks if mask.shape == (16, 16)
    }
    left = (1.0,) * 4 + (0.0,) * 12
    assert {tuple(round(each) for each in row) for row in found} == {left, left[::-1]}
    row = next(row for row in found if row[0] > 0.5)
    assert row[:3] == (1, 1, 1)
    assert 0 < row[3] <= 1  # the edge of the resize


def test_the_floor_is_the_weight_of_black(build, masks):
    mask = pieces(build(f"data.masks={masks}", "data.mask_floor=0.25"), 1)[0].masks
    assert (mask.min().item(), mask.max().item()) == (0.25, 1)


def test_a_black_mask_is_refused_by_name(build, masks, folder, tmp_path):
    for path in masks.iterdir():
        shutil.copy(path, tmp_path)
    Image.new("L", (64, 64), 0).save(tmp_path / "02.png")
    with pytest.raises(PlanError, match=r"mask of 02\.png is black") as caught:
        build(f"data.masks={tmp_path}", "data.mask_floor=0.5")
    assert str(tmp_path / "02.png") in caught.value.hint


def test_a_mask_of_another_shape_is_refused_by_name(build, tmp_path):
    Image.new("L", (64, 60), 255).save(tmp_path / "00.png")
    with pytest.raises(PlanError, match=r"64 x 60, another shape than 00\.png with 64 x 64"):
        build(f"data.masks={tmp_path}")


def test_a_larger_mask_of_the_same_shape_fits(build, masks, tmp_path):
    for path in masks.iterdir():
        mask = load_mask(path)
        mask.resize((mask.width * 3, mask.height * 3), Image.Resampling.NEAREST).save(tmp_path / path.name)
    large, small = (pieces(build(f"data.masks={place}"), 1)[0].masks for place in (tmp_path, masks))
    assert (large - small).abs().max() < 0.2


@pytest.mark.parametrize(
    ("caption", "trigger"),
    [
        ("zyx, a, b, c, d", "zyx"),
        ("a, b, in ZYX style, c, d", "zyx"),
        ("one, two, a, b, c, d", "one, two"),
        ("a, one, b, two, c, d", "one, two"),
    ],
)
def test_the_trigger_stays_first_however_tags_vary(caption, trigger):
    plan = CaptionPlan(trigger=trigger, shuffle=True, tag_dropout=0.5)
    draws = np.random.default_rng(0)
    found = {varied(caption, plan, iter(draws.random, None)) for _ in range(40)}
    first = "in ZYX style" if "ZYX" in caption else trigger
    assert all(each.startswith(first) for each in found)
    assert len(found) > 20
    assert {tag for each in found for tag in each.removeprefix(first).split(", ") if tag} == set("abcd")


def test_kept_tags_follow_the_trigger():
    plan = CaptionPlan(trigger="zyx", shuffle=True, keep=2)
    draws = np.random.default_rng(0)
    assert all(varied("zyx, a, b, c, d", plan, iter(draws.random, None)).startswith("zyx, a, b, ") for _ in range(20))


def test_captions_that_vary_read_as_if_they_stood_in_the_file(build, folder, loaded):
    """With one tag kept and all others left out the text is that of the one tag."""
    family, components = loaded
    data = build("data.tag_dropout=1", "data.keep_tags=1", "data.caption_dropout=0")
    batch = data.global_batch(0)
    words = [f"a {tiny.WORDS[int(file[:2])]}" for file in batch.files]
    with torch.no_grad():
        expected = [
            family.encode_tokens(components, family.tokenize(components, [word]))["context"][0] for word in words
        ]
    found = batch.micro_batches(0, 1, 0)[0].text["context"]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_regularisation_takes_a_quarter_as_many_pictures_of_one_size(build, pictures):
    data = build("run.batch_size=7", f"data.regularisation={pictures}")
    batches = [data.regularisation_batch(step) for step in range(30)]
    assert max(batch.size for batch in batches) == 2
    assert {file for batch in batches for file in batch.files} == {f"0{number}.png" for number in range(6)}
    shown = [batch.micro_batches(0, 1, 0)[0] for batch in batches]
    assert all(piece.base_answers for piece in shown)
    again = build("run.batch_size=7", f"data.regularisation={pictures}")
    assert all(same(a, again.regularisation_batch(step).micro_batches(0, 1, 0)[0]) for step, a in enumerate(shown))


def test_regularisation_leaves_the_style_pictures_as_they_were(build, pictures):
    beside, alone = pieces(build(f"data.regularisation={pictures}")), pieces(build())
    assert all(same(a, b) for a, b in zip(beside, alone, strict=True))


def test_the_target_of_regularisation_can_be_the_picture(build, pictures):
    data = build(f"data.regularisation={pictures}", "data.regularisation_target=picture")
    assert not data.regularisation_batch(0).micro_batches(0, 1, 0)[0].base_answers
