"""The real Stable Diffusion 1.5 architecture loads, trains in bf16 and draws, with random weights."""

import gc
import json
import shutil

import pytest

from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.generation.generator import Generator
from lora_diffusion.training import loop
from tests import tiny
from tests.benchmarks.sd15 import write_base


@pytest.fixture
def base(tmp_path):
    """Two gigabytes: removed at once, not with the last of pytest's temporary folders."""
    yield write_base(tmp_path / "sd15")
    shutil.rmtree(tmp_path / "sd15")
    gc.collect()


@pytest.mark.slow
def test_the_sd15_architecture_trains_in_bf16_and_draws(base, tmp_path):
    folder = tiny.pictures(tmp_path / "pictures", 2, sizes=((512, 512),))
    changes = ["adapter.rank=16", "adapter.targets=attention", "run.precision=bf16", "run.steps=2", "run.batch_size=1"]
    done = loop.train(tiny.plan(base, folder, tmp_path / "run", *changes, "run.snapshot_every=0"))

    losses = [json.loads(line)["loss"] for line in (done.run / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert all(1.0 < loss < 1.3 for loss in losses)  # the noise itself is 1.0, what random weights answer adds to it

    adapter = read_adapter(done.adapter)
    assert adapter.components == {"denoiser": 128}
    assert all(weights.up.abs().max() > 0 for weights in adapter.modules.values())

    with Generator.open(str(base), device="cpu", precision="bf16") as model:
        model.add(adapter)
        picture = model.generate("an apple icon", seed=0, steps=2, guidance=1.0)
    assert picture.image.size == (512, 512)
    assert any(low < high for low, high in picture.image.getextrema())
