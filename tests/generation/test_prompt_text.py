"""Adapters inside a prompt: read as the program reads them that writes so, and written so that they read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_diffusion import join_prompt, split_prompt
from lora_diffusion.errors import UsageError

weights = st.floats(-4, 4)
names = st.text(st.characters(blacklist_characters="<>:\n", blacklist_categories=("Cs",)), min_size=1, max_size=20)
tags = st.tuples(names, weights, st.none() | weights).map(
    lambda tag: (tag[0], tag[1], None if tag[2] == tag[1] else tag[2])
)
prompts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=60).filter(
    lambda text: "<lora:" not in text.lower()
)


@given(prompts, st.lists(tags, max_size=4))
def test_what_is_joined_splits_into_the_same(prompt, adapters):
    assert split_prompt(join_prompt(prompt, adapters)) == (prompt, adapters)


@pytest.mark.parametrize(
    ("text", "prompt", "tags"),
    [
        ("a cat", "a cat", []),
        ("a cat <lora:ink:0.8>", "a cat", [("ink", 0.8, None)]),
        ("a cat <lora:ink>", "a cat", [("ink", 1.0, None)]),
        ("<lora:ink:0.8> a cat", "a cat", [("ink", 0.8, None)]),
        ("a <LoRA:ink:-0.3> cat", "a cat", [("ink", -0.3, None)]),
        ("a cat <lora:ink:0.8:0.6>", "a cat", [("ink", 0.6, 0.8)]),  # text encoder first
        ("a cat <lora:ink:te=0:unet=1.2>", "a cat", [("ink", 1.2, 0.0)]),
        ("a cat <lora:ink:unet=0.5>", "a cat", [("ink", 0.5, 1.0)]),
        ("a cat <lora:ink:te=0.5>", "a cat", [("ink", 0.5, None)]),  # the UNet follows, as it does there
        ("a cat <lora:ink:0.8:unet=0.5>", "a cat", [("ink", 0.5, 0.8)]),
        ("x <lora:a:1> <lora:b v2.1:.5>", "x", [("a", 1.0, None), ("b v2.1", 0.5, None)]),
        ("(a cat:1.2), [x|y] <b>", "(a cat:1.2), [x|y] <b>", []),
    ],
)
def test_forms_of_other_programs(text, prompt, tags):
    assert split_prompt(text) == (prompt, tags)


@pytest.mark.parametrize(
    "tag", ["<lora:>", "<lora::1>", "<lora:a:x>", "<lora:a:nan>", "<lora:a:1:2:3>", "<lora:a:lbw=1,0>"]
)
def test_a_tag_that_cannot_be_read_is_named(tag):
    with pytest.raises(UsageError) as caught:
        split_prompt(f"a cat {tag}")
    assert tag in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(("name", "weight"), [("a:b", 1.0), ("a>b", 1.0), ("", 1.0), ("a", float("inf"))])
def test_what_a_tag_cannot_hold_is_refused(name, weight):
    with pytest.raises(UsageError):
        join_prompt("a cat", [(name, weight, None)])
