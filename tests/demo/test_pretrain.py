"""Pretraining: a tiny run makes a folder that diffusers loads; its parts do what they say."""

import copy
import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lora_diffusion.demo.glyphs import find_font
from lora_diffusion.demo.pretrain import main
from lora_diffusion.demo.pretraining.budget import Budget
from lora_diffusion.demo.pretraining.nets import new_vae
from lora_diffusion.demo.pretraining.tokens import learn, write_pair
from lora_diffusion.demo.pretraining.vae import fold_standardisation
from lora_diffusion.demo.pretraining.weights import Rates, Weights
from lora_diffusion.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers")


@pytest.fixture
def font() -> Path:
    try:
        return find_font()
    except UsageError as error:
        pytest.skip(f"{error}; {error.hint}")


@pytest.mark.slow
def test_a_tiny_run_makes_a_folder_that_diffusers_loads(font: Path, tmp_path: Path):
    from diffusers import StableDiffusionPipeline

    out = tmp_path / "base"
    began = time.perf_counter()
    assert main(["--out", str(out), "--minutes", "0.2", "--scenes", "60", "--batch", "4"]) == 0
    assert time.perf_counter() - began < 60
    pipeline = StableDiffusionPipeline.from_pretrained(out).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline("a star icon", num_inference_steps=2, output_type="np").images
    assert drawn.shape == (1, 128, 128, 3)
    assert {file.suffix for file in out.rglob("*") if file.is_file()} == {".json", ".txt", ".safetensors"}
    assert (out / "tokenizer/vocab.json").exists()
    assert (out / "tokenizer/merges.txt").exists()


def test_an_existing_folder_is_left_alone(tmp_path: Path):
    assert main(["--out", str(tmp_path), "--minutes", "1"]) == 2
    assert not list(tmp_path.iterdir())


def test_no_time_at_all_is_refused(tmp_path: Path):
    assert main(["--out", str(tmp_path / "base"), "--minutes", "0"]) == 2


def test_tokenizer_written_as_a_pair_encodes_like_the_one_in_memory(tmp_path: Path):
    from transformers import CLIPTokenizer

    vocabulary = learn(["a red apple icon", "two red apple icon", "a rocket on a navy background"])
    tokenizer = vocabulary.tokenizer()
    write_pair(vocabulary, tmp_path)
    pair = CLIPTokenizer(
        vocab=json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8")),
        merges=[
            tuple(line.split(" ")) for line in (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        ],
    )
    for text in ("a red rocket icon", "Zürich, 10 % – ok", ""):
        assert pair(text).input_ids == tokenizer(text).input_ids
    assert len(tokenizer("apple").input_ids) == 3  # begin, one learned word, end


def test_folding_standardises_the_latents_and_keeps_the_pictures():
    torch.manual_seed(0)
    vae = new_vae().eval()
    pixels = torch.rand(6, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = vae.encode(pixels).latent_dist
        mean, std = before.mean.mean((0, 2, 3)), before.mean.std((0, 2, 3))
        folded = copy.deepcopy(vae)
        fold_standardisation(folded, mean, std)
        after = folded.encode(pixels).latent_dist
        assert after.mean.mean((0, 2, 3)).abs().max() < 1e-3
        assert (after.mean.std((0, 2, 3)) - 1).abs().max() < 1e-3
        assert torch.allclose(after.std * std.view(1, -1, 1, 1), before.std, rtol=1e-3)
        assert torch.allclose(folded.decode(after.mean).sample, vae.decode(before.mean).sample, atol=1e-4)


def test_weights_train_bfloat16_modules_and_leave_the_running_mean():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.Flatten(), torch.nn.Linear(16, 8)).bfloat16()
    rates = Rates(adamw=1e-2, muon=1e-2, beta2=0.98, weight_decay=0.0, mean=0.9)
    weights = Weights(module.parameters(), rates, adamw_only=module[2].parameters())
    x, y = torch.randn(32, 8, 3, 3).bfloat16(), torch.randn(32, 8).bfloat16()
    losses = []
    for _ in range(60):
        loss = (module(x) - y).float().square().mean()
        loss.backward()
        weights.step(1.0)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    last = [p.clone() for p in module.parameters()]
    weights.load_mean()
    assert all(not torch.equal(a, b) for a, b in zip(last, module.parameters(), strict=True))


def test_rate_rises_holds_and_falls():
    budget = Budget(1e9)
    rise = [budget.rate(step, warmup=10, hold=0.2) for step in range(10)]
    assert all(a < b for a, b in pairwise(rise))
    assert rise[-1] == pytest.approx(1)
    assert Budget(1e-9).rate(100, warmup=10, hold=0.2) == pytest.approx(0.01)
