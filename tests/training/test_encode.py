"""What is encoded once is found again, and never where anything that decides it has changed."""

import json
import os
import shutil

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file

from lora_diffusion.errors import PlanError
from lora_diffusion.families.sdxl import StableDiffusionXL
from lora_diffusion.training import loop
from lora_diffusion.training.encode import fill_cache
from lora_diffusion.training.events import Encoded
from tests import tiny
from tests.training.everything import EVERYTHING, everything
from tests.training.made import made

CHANGING = ("data.flip=true", "data.colour_jitter=0.1", "data.masks=alpha", "data.more_resolutions=96")

COMMON = ("run.steps=2", "adapter.targets=attention", "data.caption_dropout=0", "run.snapshot_every=0")


def losses(plan):
    done = loop.train(plan)
    return [json.loads(line)["loss"] for line in (done.run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("targets", ["attention", "attention,text"])
def test_after_filling_the_cache_training_encodes_nothing(base, pictures, tmp_path, targets):
    beside = tiny.pictures(tmp_path / "beside", 2)
    sets = (f"data.regularisation={beside}", f"validation.folder={beside}")
    plan = tiny.plan(base, pictures, tmp_path / "out", *CHANGING, *sets, f"adapter.targets={targets}", "run.steps=1")
    told = []
    filled = fill_cache(plan, on_event=told.append)
    total = 12 * 8 + 2 + 2
    assert [event.done for event in told if isinstance(event, Encoded)] == list(range(1, total + 1))
    texts = {"attention": 7}.get(targets, 0)  # of both folders together, and the empty one
    assert filled == 12 * 8 + 2 + 12 + texts
    assert fill_cache(plan) == 0
    told.clear()
    loop.train(plan, on_event=told.append)
    last = [event for event in told if isinstance(event, Encoded)][-1]
    assert (last.cached, last.done) == (total, total)


def test_filling_the_cache_begins_no_run(base, pictures, tmp_path):
    fill_cache(tiny.plan(base, pictures, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == [".cache"]


def test_what_encodes_is_let_go_with_what_was_made_kept(loaded, pictures, tmp_path):
    """A folder with one black mask stops, and the pictures before it need not be encoded again."""
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (64, 64), 0).save(masks / "04.png")
    plan = tiny.plan(loaded[1].path, pictures, tmp_path / "out", f"data.masks={masks}")
    with pytest.raises(PlanError, match=r"04\.png is black"):
        fill_cache(plan)
    Image.new("L", (64, 64), 255).save(masks / "04.png")
    told = []
    fill_cache(plan, on_event=told.append)
    assert told[-1].cached == 5


def pixel(folder, base):
    """Another pixel in a file of the same size and time."""
    path = folder / "00.bmp"
    before = path.stat()
    with Image.open(path) as opened:
        image = opened.copy()
    ImageDraw.Draw(image).point((30, 30), (1, 2, 3))
    image.save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def swap(folder, base):
    shutil.move(folder / "00.bmp", folder / "x")
    shutil.move(folder / "02.bmp", folder / "00.bmp")
    shutil.move(folder / "x", folder / "02.bmp")


def vae(folder, base):
    path = base / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["encoder.conv_in.weight"] = weights["encoder.conv_in.weight"] * 1.1
    save_file(weights, path, metadata={"format": "pt"})


def encoder(folder, base):
    path = base / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("final_layer_norm.weight"))
    save_file(weights | {name: weights[name] * 1.1}, path, metadata={"format": "pt"})


def tokenizer(folder, base):
    """Two words change their numbers."""
    for name in ("vocab.json", "tokenizer.json"):
        path = base / "tokenizer" / name
        if path.exists():
            content = json.loads(path.read_text("utf-8"))
            words = content["model"]["vocab"] if "model" in content else content
            words["a</w>"], words["icon</w>"] = words["icon</w>"], words["a</w>"]
            path.write_text(json.dumps(content), "utf-8")


def caption(folder, base):
    (folder / "00.txt").write_text("a moon icon")


def nothing(folder, base):
    pass


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        (pixel, ()),
        (swap, ()),
        (vae, ()),
        (encoder, ()),
        (tokenizer, ()),
        (caption, ()),
        (nothing, ("data.resolution=96",)),
        (nothing, ("data.flip=true",)),
        (nothing, ("data.colour_jitter=0.1",)),
        (nothing, ("data.background=#204060",)),
        (nothing, ("data.masks=alpha",)),
        (nothing, ("data.trigger=zyx",)),
    ],
)
def test_a_change_meets_no_stale_cache(trained, tmp_path, change, settings):
    before, place = trained
    place = shutil.copytree(place, tmp_path / "place")
    change(place / "p", place / "base")
    warm, cold = (
        losses(tiny.plan(place / "base", place / "p", tmp_path / name, *COMMON, *settings, f"data.cache={cache}"))
        for name, cache in (("warm", place / "cache"), ("cold", tmp_path / "empty"))
    )
    assert warm == cold
    assert warm != before


def test_without_a_change_everything_is_found(trained, tmp_path):
    before, place = trained
    plan = tiny.plan(place / "base", place / "p", tmp_path / "again", *COMMON, f"data.cache={place / 'cache'}")
    assert fill_cache(plan) == 0
    assert losses(plan) == before


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """The losses of a run, and a place with its base model, pictures and cache."""
    place = tmp_path_factory.mktemp("trained")
    folder = tiny.pictures(place / "p", 4)
    shutil.copytree(base, place / "base")
    for path in sorted(folder.glob("*.png"))[:3]:
        with Image.open(path) as image:
            image.save(path.with_suffix(".bmp"))  # whose size does not depend on its pixels
        path.unlink()
    with Image.open(folder / "03.png") as opened:
        image = opened.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(folder / "03.png")
    plan = tiny.plan(place / "base", folder, place / "out", *COMMON, f"data.cache={place / 'cache'}")
    return losses(plan), place


def test_a_damaged_entry_is_encoded_again(loaded, pictures, tmp_path):
    plan = tiny.plan("demo", pictures, tmp_path / "out")
    first = made(plan, loaded).encoded.style.latents
    shards = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    for path in shards:
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
    second = made(plan, loaded).encoded.style.latents
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


def test_a_family_that_is_told_of_sizes_is_told_those_of_the_crop(tmp_path):
    folder = tiny.pictures(tmp_path / "p", 1, sizes=((300, 100),))
    family = StableDiffusionXL()
    base = tiny.sdxl(tmp_path / "base")
    loaded = family, family.load(base, dtype=torch.float32, device=torch.device("cpu"))
    plan = tiny.plan(base, folder, tmp_path / "out", f"validation.folder={folder}")
    found = made(plan, loaded)
    crop = found.encoded.style.samples[0].crop
    expected = [100.0, 300.0, crop.box[1], crop.box[0], *crop.size[::-1]]
    assert found.data.global_batch(0).micro_batches(0, 1, 0)[0].text["time_ids"].tolist() == [expected]
    assert found.encoded.validation.sizes[0]["time_ids"].tolist() == expected


@pytest.mark.parametrize("name", sorted(set(tiny.FAMILIES) - {"sd1"}))
def test_every_family_trains_with_everything_on(name, tmp_path):
    base = tiny.FAMILIES[name](tmp_path / "base")
    folder, ordinary = everything(tmp_path)
    more = (*EVERYTHING, f"data.regularisation={ordinary}", f"validation.folder={ordinary}", "run.steps=1")
    rows = (loop.train(tiny.plan(base, folder, tmp_path / "out", *more)).run / "metrics.jsonl").read_text().splitlines()
    assert [sorted(json.loads(row))[1:] for row in rows] == [
        ["lr", "norm", "regularisation_loss", "seconds", "step"],
        ["validation_loss"],
    ]
