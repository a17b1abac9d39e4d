"""Conflicts of two adapters, against the dense matrices they are about."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.conflicts import VERDICTS, conflict, plot_conflict
from lora_diffusion.errors import UsageError, WrongFamily
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.checkpoint import open_checkpoint
from tests.files.samples import pipeline_folder, sample_adapter

_PLACES = [
    f"denoiser.{block}.attentions.0.transformer_blocks.0.attn{kind}.to_q"
    for block in ("down_blocks.1", "mid_block", "up_blocks.2")
    for kind in (1, 2)
] + ["text_encoder.text_model.encoder.layers.0.self_attn.q_proj"]
_OUT, _IN, _RANK = 48, 40, 3


def _random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _adapter(seed, name="a", rank=_RANK):
    modules = {
        place: Weights(
            down=_random(seed * 100 + at, rank, _IN), up=_random(seed * 100 + at + 50, _OUT, rank), alpha=2.0
        )
        for at, place in enumerate(_PLACES)
    }
    return Adapter(name=name, family="sd1", modules=modules)


def _times(adapter, by, name="b"):
    return replace(
        adapter, name=name, modules={key: replace(each, alpha=each.alpha * by) for key, each in adapter.modules.items()}
    )


def _dense(weights):
    return weights.scale * weights.up.double() @ weights.down.double()


@pytest.mark.parametrize(("by", "cosine", "verdict"), [(3.0, 1.0, "same"), (-0.5, -1.0, "opposed")])
def test_a_multiple_of_itself_is_the_same_or_the_opposite(by, cosine, verdict):
    one = _adapter(1)
    found = conflict(one, _times(one, by))
    for each in (found.whole, *found.blocks):
        assert each.cosine == pytest.approx(cosine, abs=1e-9)
        assert each.overlap == pytest.approx(1.0, abs=1e-9)
        assert each.angle == pytest.approx(0.0, abs=1e-4)
        assert each.verdict == verdict


def test_strangers_are_independent_at_the_overlap_of_chance():
    found = conflict(_adapter(1), _adapter(2, rank=5))
    assert found.whole.verdict == "independent"
    assert abs(found.whole.cosine) < 0.1
    assert found.whole.chance == pytest.approx((5 / _OUT + 5 / _IN) / 2)
    assert found.whole.overlap == pytest.approx(found.whole.chance, abs=0.1)


def test_the_same_directions_for_other_things_are_entangled():
    one = _adapter(1)
    turned = {key: replace(each, down=each.down.roll(1, 0)) for key, each in one.modules.items()}
    found = conflict(one, replace(one, name="b", modules=turned))
    assert abs(found.whole.cosine) < 0.2
    assert found.whole.overlap == pytest.approx(1.0)
    assert found.whole.verdict == "entangled"


def test_cosines_per_block_and_in_all_are_those_of_the_dense_deltas():
    one, other = _adapter(1), _adapter(2, rank=4)
    mixed = {
        key: replace(
            each,
            down=torch.cat([each.down, 0.5 * one.modules[key].down]),
            up=torch.cat([each.up, one.modules[key].up], 1),
        )
        for key, each in other.modules.items()
    }
    other = replace(other, modules=mixed)
    found = conflict(one, other)
    groups = {
        "unet.down.1": _PLACES[:2],
        "unet.mid": _PLACES[2:4],
        "unet.up.2": _PLACES[4:6],
        "text": _PLACES[6:],
        "all": _PLACES,
    }
    for each in (found.whole, *found.blocks):
        first, second = (
            torch.cat([_dense(adapter.modules[place]).flatten() for place in groups[each.block]])
            for adapter in (one, other)
        )
        assert each.cosine == pytest.approx(float(first @ second / (first.norm() * second.norm())), abs=1e-9)
        assert each.modules == len(groups[each.block])


def test_angles_and_overlap_are_those_of_the_dense_spaces():
    one, other = _adapter(1), _adapter(2)
    place = _PLACES[0]
    pair = [replace(each, modules={place: each.modules[place]}) for each in (one, other)]
    found = conflict(*pair).blocks[0]
    left, right = [], []
    for each in pair:
        u, _, v = torch.linalg.svd(_dense(each.modules[place]))
        left.append(u[:, :_RANK])
        right.append(v[:_RANK].T)
    cosines = [torch.linalg.svdvals(a.T @ b) for a, b in (left, right)]
    assert found.overlap == pytest.approx(float(sum((each**2).mean() for each in cosines)) / 2, abs=1e-9)
    assert found.angle == pytest.approx(math.degrees(math.acos(max(float(each.max()) for each in cosines))), abs=1e-6)


def test_blocks_come_in_the_way_of_the_data_and_lone_modules_are_counted():
    one = _adapter(1)
    less = replace(
        _adapter(2, "b"), modules={key: each for key, each in _adapter(2).modules.items() if key != _PLACES[0]}
    )
    found = conflict(one, less)
    assert [each.block for each in found.blocks] == ["text", "unet.down.1", "unet.mid", "unet.up.2"]
    assert (found.only_first, found.only_second) == (1, 0)


def test_other_methods_are_compared_by_their_deltas():
    place = _PLACES[0]
    lora = replace(_adapter(1), modules={place: _adapter(1).modules[place]})
    whole = Weights(down=torch.empty(0), up=_dense(lora.modules[place]).float(), alpha=1.0, method="full")
    found = conflict(lora, replace(lora, name="full", modules={place: whole}))
    assert found.whole.cosine == pytest.approx(1.0, abs=1e-6)


def test_a_decomposed_adapter_is_compared_by_its_true_delta():
    base, name = pipeline_folder(), _PLACES[2]
    weight = open_checkpoint(base).tensor(f"{name}.weight")
    plain = sample_adapter().modules[name]
    dora = Adapter(
        name="dora",
        family="sd1",
        modules={name: replace(plain, extra={"dora_scale": weight.norm(dim=1, keepdim=True) * 1.2})},
    )
    lora = replace(dora, name="lora", modules={name: plain})
    whole = weight.double() + _dense(plain)
    meant = 1.2 * weight.double().norm(dim=1, keepdim=True) * whole / whole.norm(dim=1, keepdim=True) - weight.double()
    cosine = float((meant * _dense(plain)).sum() / meant.norm() / _dense(plain).norm())
    assert conflict(dora, lora, base=base).whole.cosine == pytest.approx(cosine, abs=1e-5)
    assert abs(cosine) < 0.95
    with pytest.raises(UsageError, match="depends on the base weight") as caught:
        conflict(dora, lora)
    assert "--base" in caught.value.hint


def test_changes_of_biases_are_left_aside():
    place = _PLACES[0]
    lora = replace(_adapter(1), modules={place: _adapter(1).modules[place]})
    biased = replace(lora.modules[place], extra={"bias": torch.ones(_OUT)})
    assert conflict(lora, replace(lora, modules={place: biased})).whole.cosine == pytest.approx(1.0, abs=1e-6)


def test_large_layers_are_compared_without_the_full_matrix():
    big = {"denoiser.mid_block.attentions.0.proj_in": (20_000, 20_000)}  # 3.2 GB in float64
    pair = [
        Adapter(
            name=str(seed),
            family="sd1",
            modules={
                name: Weights(down=_random(seed, 4, inside), up=_random(seed + 9, out, 4), alpha=4.0)
                for name, (out, inside) in big.items()
            },
        )
        for seed in (1, 2)
    ]
    assert conflict(*pair).whole.verdict == "independent"


def test_a_report_is_json_and_says_what_its_verdicts_mean():
    found = json.loads(json.dumps(conflict(_adapter(1), _adapter(2, "b")).to_dict()))
    assert found["meanings"][found["whole"]["verdict"]] == VERDICTS["independent"]
    assert [each["block"] for each in found["blocks"]] == ["text", "unet.down.1", "unet.mid", "unet.up.2"]


def test_the_plot_shows_every_block_and_the_side_of_its_cosine(tmp_path):
    one = _adapter(1)
    path = plot_conflict(conflict(one, _times(one, 1.0)), tmp_path / "c.png")
    against = plot_conflict(conflict(one, _times(one, -1.0)), tmp_path / "d.png")
    with Image.open(path) as plus, Image.open(against) as minus:
        assert plus.size == minus.size
        assert plus.height > 5 * 30
        right, left = 110 + 180, 110 + 60
        row = 96 + 12
        paper = (240, 240, 243)
        assert plus.convert("RGB").getpixel((right, row)) != paper == plus.convert("RGB").getpixel((left, row))
        assert minus.convert("RGB").getpixel((left, row)) != paper == minus.convert("RGB").getpixel((right, row))


def test_what_cannot_be_compared_is_refused():
    one = _adapter(1)
    with pytest.raises(WrongFamily, match="sdxl"):
        conflict(one, replace(one, family="sdxl"))
    elsewhere = {"denoiser.conv_in": next(iter(one.modules.values()))}
    with pytest.raises(UsageError, match="no module in common"):
        conflict(one, replace(one, name="b", modules=elsewhere))
    other = replace(
        one, name="b", modules={_PLACES[0]: Weights(down=_random(1, 2, 8), up=_random(2, _OUT, 2), alpha=1.0)}
    )
    with pytest.raises(WrongFamily, match="in a and"):
        conflict(one, other)
