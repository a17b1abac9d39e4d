"""Captions longer than a text encoder reads at once are trained on as prompts of that length are drawn."""

import logging

import pytest
import torch

from lora_diffusion.families import families
from lora_diffusion.training import loop
from lora_diffusion.training.check import check_plan
from lora_diffusion.training.stopping import StopRequest
from tests import tiny
from tests.training.made import made

ROOM = 30  # the toy encoders read 32 tokens at once, start and end included
LONG = "apple " * ROOM + "a red rocket"  # two chunks of them
NAMES = sorted(tiny.FAMILIES)


@pytest.fixture(scope="module", params=NAMES)
def base_of(request, tmp_path_factory):
    """A family with its components."""
    family = families()[request.param]
    folder = tiny.FAMILIES[request.param](tmp_path_factory.mktemp(request.param) / "base")
    return family, family.load(folder, dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures of one size, of which the first has a long caption."""
    folder = tiny.pictures(tmp_path_factory.mktemp("long") / "p", 4, sizes=((64, 64),))
    (folder / "00.txt").write_text(LONG)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def seen(folder, cache, loaded, *more, train_text=False):
    """What one step sees of all four pictures, by file, nothing dropped."""
    plan = tiny.plan("demo", folder, cache / "out", "run.batch_size=4", "data.caption_dropout=0", *more)
    batch = made(plan, loaded, train_text=train_text).data.global_batch(0)
    return batch, {file: place for place, file in enumerate(batch.files)}


def test_a_long_caption_is_read_as_the_same_prompt_is_drawn(base_of, folder, cache):
    family, components = base_of
    batch, place = seen(folder, cache, base_of)
    text = batch.micro_batches(0, 1, 0)[0].text
    drawn = family.prompt_arguments(components, [LONG], "")
    assert torch.allclose(text["context"][place["00.png"]], drawn["prompt_embeds"][0], atol=1e-6)
    assert ("pooled" in text) is (family.name == "sdxl")
    if "pooled" in text:
        assert torch.allclose(text["pooled"][place["00.png"]], drawn["pooled_prompt_embeds"][0], atol=1e-6)


def test_a_shorter_caption_beside_it_is_filled_up_as_what_is_not_to_be_drawn_is(base_of, folder, cache):
    family, components = base_of
    batch, place = seen(folder, cache, base_of)
    short = (folder / "01.txt").read_text()
    drawn = family.prompt_arguments(components, [LONG], short)["negative_prompt_embeds"][0]
    text = batch.micro_batches(0, 1, 0)[0].text["context"][place["01.png"]]
    assert torch.allclose(text, drawn, atol=1e-6)


def test_trained_text_encoders_read_it_alike(base_of, folder, cache):
    family, components = base_of
    frozen, _ = seen(folder, cache, base_of)
    trained, _ = seen(folder, cache, base_of, train_text=True)
    with torch.no_grad():
        said = family.encode_tokens(components, trained.micro_batches(0, 1, 0)[0].text)
    for key, value in frozen.micro_batches(0, 1, 0)[0].text.items():
        assert torch.allclose(said[key], value, atol=1e-6)


@pytest.mark.parametrize(("tokens", "chunks"), [(75, 2), (150, 5), (225, 6)])
def test_no_more_is_read_than_the_plan_says(folder, loaded, tmp_path, tokens, chunks, caplog):
    style = tiny.pictures(tmp_path / "p", 1)
    (style / "00.txt").write_text("apple " * (5 * ROOM + 1))
    with caplog.at_level(logging.WARNING, logger="lora_diffusion"):
        found = made(tiny.plan("demo", style, tmp_path / "out", f"data.max_tokens={tokens}"), loaded)
    assert found.texts.chunks("apple " * (5 * ROOM + 1)) == chunks
    assert found.texts("apple " * (5 * ROOM + 1))["context"].shape[0] == 32 * chunks
    assert ("00.png; raise data.max_tokens" in caplog.text) is (chunks < 6)


def test_what_one_process_or_piece_sees_does_not_depend_on_the_others(folder, cache, loaded):
    batch, _ = seen(folder, cache, loaded)
    (whole,) = batch.micro_batches(0, 1, 0)
    pieces = [piece for rank in range(2) for piece in batch.micro_batches(rank, 2, 1)]
    assert {piece.text["context"].shape[1] for piece in pieces} == {64}
    assert {tuple(each.flatten().tolist()) for each in whole.text["context"]} == {
        tuple(piece.text["context"].flatten().tolist()) for piece in pieces
    }


def test_captions_that_fit_are_what_they_were(folder, cache, loaded, tmp_path):
    """A step without a long caption sees the same bits whether long ones are read or not."""
    short = tiny.pictures(tmp_path / "p", 4, sizes=((64, 64),))
    (one, _), (other, _) = (seen(short, cache, loaded, f"data.max_tokens={tokens}") for tokens in (75, 600))
    first, second = one.micro_batches(0, 1, 0)[0].text, other.micro_batches(0, 1, 0)[0].text
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert first["context"].shape[1] == 32


def test_a_dropped_caption_beside_a_long_one_is_read_as_nothing(folder, cache, loaded):
    batch, _ = seen(folder, cache, loaded, "data.caption_dropout=1")
    assert batch.micro_batches(0, 1, 0)[0].text["context"].shape[1] == 32


def test_a_changed_end_of_a_long_caption_meets_no_stale_cache(folder, cache, loaded, tmp_path):
    before, place = seen(folder, cache, loaded)
    style = tiny.pictures(tmp_path / "p", 4, sizes=((64, 64),))
    (style / "00.txt").write_text("apple " * ROOM + "a blue star")
    after, now = seen(style, cache, loaded)
    one = before.micro_batches(0, 1, 0)[0].text["context"][place["00.png"]]
    other = after.micro_batches(0, 1, 0)[0].text["context"][now["00.png"]]
    assert torch.equal(one[:32], other[:32])
    assert not torch.equal(one[32:], other[32:])


@pytest.mark.parametrize("tokens", [75, 225])
def test_check_says_what_is_lost_of_a_caption_at_the_limit_of_the_plan(base, tmp_path, tokens):
    """At 75 the toy encoders read two chunks of 30, at 225 seven."""
    style = tiny.pictures(tmp_path / "p", 2)
    limit = tokens // ROOM * ROOM
    (style / "00.txt").write_text("apple " * limit)
    (style / "01.txt").write_text("apple " * limit + "rocket")
    report = check_plan(tiny.plan(base, style, tmp_path / "out", f"data.max_tokens={tokens}"), probe=False)
    (found,) = (each for each in report.findings if each.code == "caption-long")
    assert found.file == "01.png"
    assert f"{limit} are read" in found.reason
    assert '"rocket"' in found.reason


def test_the_end_of_a_long_prompt_reaches_the_previews(base, folder, tmp_path):
    pictures = []
    for number, end in enumerate(("a red rocket", "a blue star", "")):
        prompts = f'previews.prompts=["{"apple " * ROOM}{end}"]'
        settings = ("run.steps=1", "previews.every=1", "previews.steps=1", "run.snapshot_every=0")
        plan = tiny.plan(base, folder, tmp_path / str(number), prompts, *settings, f"data.cache={tmp_path / 'c'}")
        (path,) = (loop.train(plan).run / "previews").glob("*.png")
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 3


def test_a_run_on_long_captions_resumes_to_the_same_bytes(base, folder, tmp_path):
    settings = ("adapter.targets=attention,text", "run.batch_size=2", "run.steps=4", "data.shuffle_tags=true")
    places = (f"data.cache={tmp_path / 'c'}", "run.snapshot_every=2")
    whole = loop.train(tiny.plan(base, folder, tmp_path / "whole", *settings, *places))
    half = tiny.plan(base, folder, tmp_path / "half", *settings, *places)
    stop = StopRequest()
    stop.reason = "asked"
    stopped = loop.train(half, stop=stop)
    assert stopped.status == "stopped"
    assert loop.resume(stopped.run).adapter.read_bytes() == whole.adapter.read_bytes()
