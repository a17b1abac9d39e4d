"""The embedded base: complete, small, licensed, and importable without torch."""

import json
import subprocess
import sys

from lora_diffusion.demo import BASE, held_out_prompts
from lora_diffusion.demo.icons import HELD_OUT, ICONS, STYLE_SET


def test_base_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in BASE.rglob("*")) < 40e6


def test_base_holds_no_font_and_no_pickle():
    allowed = {".json", ".txt", ".md", ".safetensors", ""}
    assert {file.suffix for file in BASE.rglob("*") if file.is_file()} <= allowed


def test_tokenizer_comes_in_both_forms_with_the_same_vocabulary():
    fast = json.loads((BASE / "tokenizer/tokenizer.json").read_text(encoding="utf-8"))["model"]
    pair = json.loads((BASE / "tokenizer/vocab.json").read_text(encoding="utf-8"))
    assert fast["vocab"] == pair
    merges = (BASE / "tokenizer/merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert [" ".join(merge) for merge in fast["merges"]] == merges


def test_font_licence_lies_beside_the_weights():
    licence = (BASE / "OFL.txt").read_text(encoding="utf-8")
    assert "Copyright" in licence
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence
    assert "trained" in (BASE / "NOTICE").read_text(encoding="utf-8")
    assert "Limits" in (BASE / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_importing_the_demo_loads_neither_torch_nor_numpy():
    code = "import sys, lora_diffusion.demo; print({'torch', 'numpy', 'PIL', 'diffusers'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_held_out_icons_and_style_set_share_nothing_and_cover_everything():
    assert not set(STYLE_SET) & set(HELD_OUT)
    assert set(STYLE_SET) | set(HELD_OUT) == set(ICONS)
    assert (len(STYLE_SET), len(ICONS)) == (24, 161)


def test_held_out_prompts_are_always_the_same_and_in_correct_english():
    assert held_out_prompts(8) == held_out_prompts(137)[:8]
    assert "an anchor icon" in held_out_prompts(8)
    assert held_out_prompts(1) == ["a cat face icon"]
