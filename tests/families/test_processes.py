"""Two processes train everything that a target set of XL names: DDP refuses what never gets a gradient."""

import subprocess
import sys

import pytest
from safetensors.torch import load_file

from lora_diffusion.settings import to_toml
from lora_diffusion.training import loop
from tests import tiny


@pytest.mark.slow
def test_both_text_encoders_of_xl_are_trained_by_two_processes_as_by_one(pictures, tmp_path):
    base = tiny.sdxl(tmp_path / "base")
    more = ("run.steps=3", "adapter.targets=attention,text,text-mlp", "run.micro_batch=1")
    plan = tiny.plan(base, pictures, tmp_path / "one", *more)
    one = load_file(loop.train(plan).adapter)
    (tmp_path / "plan.toml").write_text(to_toml(plan), "utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = ["-m", "lora_diffusion", "train", tmp_path / "plan.toml", f"run.out={tmp_path / 'two'}"]
    done = subprocess.run([*launcher, *map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    two = load_file(tmp_path / "two" / "adapter.safetensors")
    assert one.keys() == two.keys()
    assert any("lora_te2_" in key for key in one)
    assert max((one[key] - two[key]).abs().max().item() for key in one) <= 1e-6
    ups = [key for key in one if key.endswith("lora_up.weight")]
    assert all(one[key].abs().max() > 0 for key in ups)
