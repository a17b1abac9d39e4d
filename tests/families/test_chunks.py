"""Prompts longer than the text encoder reads at once."""

import logging

import pytest
import torch

from lora_diffusion.families import families
from lora_diffusion.families.chunks import MOST, chunks_of, tokens_of
from lora_diffusion.generation.generator import Generator
from tests import tiny

DEVICE = torch.device("cpu")
ROOM = 30  # the tiny encoders read 32 tokens at once, start and end included
LONG = "apple " * ROOM + "a red rocket"


@pytest.fixture(scope="module", params=sorted(tiny.FAMILIES))
def family(request):
    return families()[request.param]


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return tiny.FAMILIES[family.name](tmp_path_factory.mktemp(family.name) / "base")


@pytest.fixture(scope="module")
def components(family, folder):
    return family.load(folder, dtype=torch.float32, device=DEVICE)


def encoded(family, components, prompts, chunks=1):
    with torch.no_grad():
        return family.encode_tokens(components, family.tokenize(components, prompts, chunks=chunks))


def test_the_chunks_of_a_long_prompt_are_encoded_one_by_one(family, components):
    whole = encoded(family, components, [LONG, "a star"], 2)["context"]
    first, second, short, empty = encoded(family, components, ["apple " * ROOM, "a red rocket", "a star", ""])[
        "context"
    ]
    assert torch.allclose(whole[0], torch.cat([first, second]), atol=1e-6)
    assert torch.allclose(whole[1], torch.cat([short, empty]), atol=1e-6)


def test_the_first_chunk_speaks_for_the_whole(family, components):
    long, short = encoded(family, components, [LONG], 2), encoded(family, components, ["apple " * ROOM])
    assert ("pooled" in long) is (family.name == "sdxl")
    assert torch.allclose(long.get("pooled", torch.ones(1)), short.get("pooled", torch.ones(1)), atol=1e-6)


def test_one_chunk_is_what_the_tokenizer_gives(components):
    for tokenizer in components.tokenizers.values():
        plain = tokens_of(tokenizer, ["a star", LONG])
        assert torch.equal(plain[:1], tokens_of(tokenizer, ["a star"], 2)[:, :32])
        assert plain.shape == (2, 32)
        assert tokens_of(tokenizer, [LONG], 2).shape == (1, 64)


@pytest.mark.parametrize(("words", "chunks"), [(0, 1), (ROOM, 1), (ROOM + 1, 2), (3 * ROOM, 3)])
def test_as_many_chunks_are_taken_as_the_longest_prompt_needs(components, words, chunks):
    tokenizer = components.tokenizers["text_encoder"]
    assert chunks_of(tokenizer, ["a star", "apple " * words]) == chunks


def test_what_is_too_long_for_all_chunks_is_said(components, caplog):
    with caplog.at_level(logging.WARNING, logger="lora_diffusion"):
        assert chunks_of(components.tokenizers["text_encoder"], ["apple " * ROOM * (MOST + 1)]) == MOST
    assert f"cut after {MOST * ROOM}" in caplog.text


def test_the_end_of_a_long_prompt_is_drawn_and_of_a_long_negative_is_not(family, folder):
    with Generator.open(str(folder), precision="no", device="cpu") as model:
        draw = {"seed": 1, "steps": 2, "size": (64, 64)}
        pictures = [
            model.generate(LONG, **draw),
            model.generate("apple " * ROOM + "a blue star", **draw),
            model.generate(LONG, negative=LONG, **draw),
            model.generate("apple " * ROOM, **draw),
        ]
    assert len({each.image.tobytes() for each in pictures}) == 4
