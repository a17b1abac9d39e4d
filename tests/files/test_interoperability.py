"""diffusers and PEFT read what we write, module by module and in the picture."""

import contextlib
import warnings

import pytest
import torch

from lora_diffusion.files.adapter import write_adapter
from tests.files.samples import dense, sample_adapter, tiny_pipeline


@contextlib.contextmanager
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _deltas(module, prefix):
    """Read each delta back out of the PEFT layers that diffusers made."""
    from peft.tuners.lora import LoraLayer

    found = {}
    for path, layer in module.named_modules():
        if isinstance(layer, LoraLayer):
            (name,) = layer.lora_A.keys()
            up, down = layer.lora_B[name].weight.double().flatten(1), layer.lora_A[name].weight.double().flatten(1)
            found[f"{prefix}.{path}"] = (up @ down * layer.scaling[name]).detach()
    return found


def _loaded(pipeline, path):
    with _quiet():
        pipeline.load_lora_weights(str(path))
    text = _deltas(pipeline.text_encoder, "text_encoder.text_model")
    return _deltas(pipeline.unet, "denoiser") | {
        key.replace("text_model.text_model", "text_model"): each for key, each in text.items()
    }


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
@pytest.mark.parametrize("alphas", [(4.0,), (4.0, 1.0, 3.0)], ids=["one-alpha", "mixed-alphas"])
def test_diffusers_applies_exactly_the_deltas_that_we_wrote(dialect, alphas, tmp_path):
    pipeline = tiny_pipeline()
    adapter = sample_adapter(pipeline, alphas=alphas)
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect)
    loaded = _loaded(pipeline, tmp_path / "a.safetensors")
    assert set(loaded) == set(adapter.modules)
    for name, weights in adapter.modules.items():
        meant = dense(weights)
        assert torch.linalg.matrix_norm(loaded[name] - meant) <= 1e-6 * torch.linalg.matrix_norm(meant), name
