"""Regular expressions of a PEFT config mean what they mean to PEFT, and cannot be used against the reader."""

import random
import re
import time

import pytest

from lora_diffusion.errors import CorruptFile
from lora_diffusion.files.dialects._patterns import matches_end

PATHS = (
    "conv_in",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q",
    "down_blocks.10.attentions.1.transformer_blocks.0.attn2.to_out.0",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "up_blocks.3.resnets.2.conv1",
    "encoder.layers.11.self_attn.q_proj",
    "a]b-c",
    "xto_q",
)
PATTERNS = (
    "to_q",
    r"attn1\.to_q",
    "attn1.to_q",
    r".*attn[12]\.to_[qkv]",
    r"^conv_in$",
    "^to_q",
    r"^down_blocks\.\d+\..*",
    r"(down|up)_blocks\..*",
    r"(?:to_q|q_proj|conv\d?)",
    "to_q|conv_in",
    r"layers\.(1|11)\..*_proj",
    r"attentions\.[^2]\..+",
    r"\w+",
    r"\D*",
    r".*?\.to_q",
    r"blocks\.\d{2}\..*",
    r"down_blocks\.\d{1,}.*",
    r"x{0}to_q",
    "",
    "$",
    "()",
    "(|to_q)",
    r"[]a]]b\-c",
    r"[\w.]*0",
    "net.0.proj",
    "et.0.proj",
)


def as_peft(pattern, path):
    """As `get_pattern_key` of PEFT finds it."""
    from peft.utils.other import get_pattern_key

    return get_pattern_key([f"{pattern}"], path) == pattern and bool(re.match(rf"(.*\.)?({pattern})$", path))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_matches_the_modules_that_peft_finds_for_it(pattern):
    assert [matches_end(pattern, path) for path in PATHS] == [as_peft(pattern, path) for path in PATHS]


def test_random_patterns_match_as_in_python():
    draw = random.Random(0)

    def made(depth=0):
        atoms = ["a", "b", ".", r"\.", "[ab]", "[^a]", r"\w"] + (["("] * 4 if depth < 1 else [])
        found = ""
        for _ in range(draw.randint(1, 3)):
            atom = draw.choice(atoms)
            atom = f"({made(depth + 1)}|{made(depth + 1)})" if atom == "(" else atom
            found += atom + draw.choice(["", "", "", "*", "+", "?", "{1,2}", "*?", "{2,}"])
        return found

    met = 0
    for _ in range(2000):
        pattern = made()
        path = "".join(draw.choice("ab.") for _ in range(draw.randint(0, 6)))
        expected = re.match(rf"(.*\.)?({pattern})$", path) is not None
        met += expected
        assert matches_end(pattern, path) is expected, (pattern, path)
    assert 400 < met < 1600


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(((a*)*)*)*b", "(a?){30}a{30}b", ".*" * 30 + "b"])
def test_a_pattern_made_to_take_for_ever_is_done_at_once(pattern):
    began = time.process_time()
    assert not matches_end(pattern, "a" * 200)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a)\1",
        "(?=a)a",
        "(?<=a)b",
        "(?i)a",
        "(?P<x>a)",
        r"\bto_q",
        "a++",
        "a**",
        "(",
        ")",
        "[",
        "[b-a]",
        "*",
        "a{999}",
    ],
)
def test_what_is_not_understood_is_named_and_not_guessed(pattern):
    with pytest.raises(CorruptFile, match=r"is not read") as caught:
        matches_end(pattern, "to_q")
    assert repr(pattern)[1:-1] in str(caught.value)
    assert "by their paths" in caught.value.hint


def test_a_pattern_of_any_length_or_depth_is_refused_not_run():
    for pattern in ("a" * 1001, "(" * 500 + ")" * 500):
        with pytest.raises(CorruptFile):
            matches_end(pattern, "a")
