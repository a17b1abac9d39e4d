"""Training learns, keeps its books, and gives the same tensors for the same plan."""

import json
import math
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file

from datasets_tools.errors import InvalidSetting, NoImages
from lora_diffusion.errors import BaseNotFound, DeviceError, NonFiniteLoss, PlanError, RunExists, TargetError
from lora_diffusion.families.base import Family
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.training import loop
from lora_diffusion.training.events import Encoded, Previewed, Snapshotted, Started, Stepped
from tests import tiny


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def same_tensors(a, b):
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def far(a, b):
    """The largest difference of two adapter files, relative to the largest value of each tensor."""
    first, second = load_file(a), load_file(b)
    return max(((first[key] - second[key]).abs().max() / first[key].abs().max()).item() for key in first)


@pytest.fixture(scope="module")
def trained(base, pictures, tmp_path_factory):
    """One finished run of six steps, and everything it told."""
    told = []
    plan = tiny.plan(base, pictures, tmp_path_factory.mktemp("run") / "out", "previews.every=3", "previews.steps=2")
    return loop.train(plan, on_event=told.append), told


def test_a_run_ends_with_an_adapter_of_every_target(trained, base):
    done, _ = trained
    adapter = read_adapter(done.adapter)
    assert (done.status, done.steps) == ("finished", 6)
    assert done.adapter == done.run / "adapter.safetensors"
    assert adapter.family == "sd1"
    assert adapter.components == {"denoiser": 32, "text_encoder": 8}
    assert all(weights.up.abs().max() > 0 for weights in adapter.modules.values())


def test_a_run_tells_what_it_does(trained):
    _, told = trained
    assert [event.done for event in told if isinstance(event, Encoded)] == [1, 2, 3, 4, 5, 6]
    assert [event.targets for event in told if isinstance(event, Started)] == [40]
    assert [event.step for event in told if isinstance(event, Stepped)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in told if isinstance(event, Snapshotted)] == [2, 4, 6]
    assert [event.step for event in told if isinstance(event, Previewed)] == [3, 6]


def test_a_run_keeps_its_books(trained):
    done, _ = trained
    assert [row["step"] for row in rows(done.run)] == [1, 2, 3, 4, 5, 6]
    assert json.loads((done.run / "status.json").read_text())["status"] == "finished"
    assert len((done.run / "manifest.jsonl").read_text().splitlines()) == 6
    assert sorted(path.name for path in (done.run / "snapshots").iterdir()) == ["step-00000004", "step-00000006"]
    assert len(list((done.run / "previews").glob("*.png"))) == 4


def test_training_lowers_the_loss(base, pictures, tmp_path):
    plan = tiny.plan(base, pictures, tmp_path / "out", "run.steps=60", "optim.lr=1e-2", "run.batch_size=6")
    losses = [row["loss"] for row in rows(loop.train(plan).run)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_the_same_plan_gives_the_same_bytes_wherever_it_runs(trained, base, pictures, tmp_path):
    again = loop.train(tiny.plan(base, pictures, tmp_path / "elsewhere"))  # without the previews of the first
    assert again.adapter.read_bytes() == trained[0].adapter.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        "adapter.rank=2",
        "adapter.alpha=2",
        "adapter.dropout=0.5",
        "adapter.targets=attention",
        "data.trigger=zyx",
        "data.caption_dropout=1",
        "data.resolution=128",
        "optim.lr=2e-3",
        "optim.text_lr=1e-5",
        "optim.betas=[0.5,0.9]",
        "optim.eps=1e-3",
        "optim.weight_decay=0.5",
        "optim.max_norm=1e-4",
        "schedule.kind=constant",
        "schedule.warmup=0.9",
        "schedule.floor=0.9",
        "loss.min_snr_gamma=1",
        "loss.noise_offset=0.5",
        "run.seed=1",
        "run.batch_size=2",
        "run.precision=bf16",
    ],
)
def test_a_setting_has_an_effect(trained, base, pictures, tmp_path, change):
    changed = loop.train(tiny.plan(base, pictures, tmp_path / "out", change))
    assert not same_tensors(changed.adapter, trained[0].adapter)


@pytest.mark.parametrize("change", ["run.micro_batch=1", "run.micro_batch=3", "run.gradient_checkpointing=true"])
def test_saving_memory_changes_only_rounding(trained, base, pictures, tmp_path, change):
    cheaper = loop.train(tiny.plan(base, pictures, tmp_path / "out", change))
    assert far(cheaper.adapter, trained[0].adapter) < 1e-3


def test_attention_kernels_change_only_rounding(trained, base, pictures, tmp_path):
    kinds = [loop.train(tiny.plan(base, pictures, tmp_path / k, f"run.attention={k}")) for k in ("sdpa", "matmul")]
    assert all(far(done.adapter, trained[0].adapter) < 1e-3 for done in kinds)


def test_v_prediction_is_read_from_the_base(pictures, tmp_path):
    base = tiny.sd1(tmp_path / "v", prediction_type="v_prediction")
    done = loop.train(tiny.plan(base, pictures, tmp_path / "out", "loss.min_snr_gamma=5"))
    assert read_adapter(done.adapter).metadata["modelspec.prediction_type"] == "v"


def test_transparent_pictures_are_laid_on_the_chosen_background(base, tmp_path):
    from PIL import Image

    folder = tiny.pictures(tmp_path / "p", 2)
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(folder / "00.png")
    white = loop.train(tiny.plan(base, folder, tmp_path / "w"))
    black = loop.train(tiny.plan(base, folder, tmp_path / "b", "data.background=#000000"))
    assert not same_tensors(white.adapter, black.adapter)


def test_a_second_run_encodes_no_picture_again(base, pictures, tmp_path, monkeypatch):
    loop.train(tiny.plan(base, pictures, tmp_path / "first"))
    told = []
    loop.train(tiny.plan(base, pictures, tmp_path / "second", "optim.lr=1e-4"), on_event=told.append)
    assert [event.cached for event in told if isinstance(event, Encoded)][-1] == 6


def test_cached_texts_are_those_of_the_encoder_and_change_nothing(base, pictures, tmp_path, monkeypatch):
    settings = ("adapter.targets=attention", "data.trigger=zyx")
    first = loop.train(tiny.plan(base, pictures, tmp_path / "first", *settings))

    def encoder_runs(*given):
        raise AssertionError("the text encoder ran although every text was cached")

    for family in Family.__subclasses__():
        monkeypatch.setattr(family, "encode_tokens", encoder_runs)
    again = loop.train(tiny.plan(base, pictures, tmp_path / "again", *settings))
    assert again.adapter.read_bytes() == first.adapter.read_bytes()


def test_tensorboard_gets_every_step_where_it_is_installed(base, pictures, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = loop.train(tiny.plan(base, pictures, tmp_path / "out", "run.tensorboard=true", "run.steps=3"))
    events = accumulator.EventAccumulator(str(done.run / "tensorboard")).Reload()
    logged = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert logged == [(row["step"], pytest.approx(row["loss"])) for row in rows(done.run)]


def test_a_finished_run_is_not_trained_over(trained, base, pictures):
    with pytest.raises(RunExists, match="already holds a run"):
        loop.train(tiny.plan(base, pictures, trained[0].run))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("base.path=/no/such/model", BaseNotFound),
        ("adapter.targets=nothing", TargetError),
        ("adapter.rank=4096", TargetError),
        ("adapter.method=magic", PlanError),
        ("data.bucket_step=12", PlanError),
        ("data.rights=require", PlanError),
        ("data.repeats={nowhere=2}", PlanError),
        ("data.masks=/no/such/folder", InvalidSetting),
        ("data.regularisation=/no/such/folder", NoImages),
        ("validation.folder=/no/such/folder", NoImages),
        ("run.precision=fp16", DeviceError),
        ("run.attention=xformers", DeviceError),
    ],
)
def test_a_plan_that_cannot_work_writes_nothing(base, pictures, tmp_path, change, error):
    with pytest.raises(error) as caught:
        loop.train(tiny.plan(base, pictures, tmp_path / "out", change))
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_without_any_caption_training_asks_for_one(base, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 2)
    for caption in folder.glob("*.txt"):
        caption.unlink()
    for trigger in ("", "data.trigger=zyx"):
        with pytest.raises(PlanError, match="caption"):
            loop.train(tiny.plan(base, folder, tmp_path / "out", *filter(None, [trigger])))
    done = loop.train(tiny.plan(base, folder, tmp_path / "out", "data.captions=optional", "data.trigger=zyx"))
    assert done.status == "finished"


def test_a_loss_that_is_no_number_stops_with_the_pictures_and_the_last_good_snapshot(
    base, pictures, tmp_path, monkeypatch
):
    whole, calls = Family.predict, []
    for family in Family.__subclasses__():
        whole = family.predict
        monkeypatch.setattr(family, "predict", lambda *given, whole=whole: broken(whole(*given)))

    def broken(answer):
        calls.append(1)
        return answer * math.nan if len(calls) == 5 else answer

    with pytest.raises(NonFiniteLoss, match=r"step 5: loss nan.*\.png") as caught:
        loop.train(tiny.plan(base, pictures, tmp_path / "out"))
    assert "step-00000004" in caught.value.hint
    assert not (tmp_path / "out" / "adapter.safetensors").exists()
    assert json.loads((tmp_path / "out" / "status.json").read_text())["status"] == "failed"


def test_a_black_mask_stops_before_anything_is_written(base, pictures, tmp_path):
    from PIL import Image

    (tmp_path / "masks").mkdir()
    Image.new("L", (64, 64), 0).save(tmp_path / "masks" / "02.png")
    with pytest.raises(PlanError, match=r"02\.png is black"):
        loop.train(tiny.plan(base, pictures, tmp_path / "out", f"data.masks={tmp_path / 'masks'}"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [2, 4])
def test_every_epoch_of_a_run_sees_every_picture_once(base, tmp_path, size):
    folder = tiny.pictures(
        tmp_path / "p", 7, sizes=((32, 32), (32, 32), (32, 32), (64, 32), (32, 32), (32, 64), (32, 32))
    )
    per_epoch = {2: 5, 4: 4}[size]
    told = []
    settings = (f"run.steps={2 * per_epoch}", f"run.batch_size={size}", "data.resolution=32", "run.snapshot_every=0")
    loop.train(tiny.plan(base, folder, tmp_path / "out", *settings), on_event=told.append)
    steps = [event.pictures for event in told if isinstance(event, Stepped)]
    for epoch in (steps[:per_epoch], steps[per_epoch:]):
        assert Counter(file for step in epoch for file in step) == {f"0{number}.png": 1 for number in range(7)}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory):
    """Three pictures that are not of the style."""
    return tiny.pictures(tmp_path_factory.mktemp("ordinary") / "p", 3)


def test_the_target_and_the_weight_of_regularisation_have_an_effect(base, pictures, ordinary, tmp_path):
    common = ("run.steps=2", f"data.regularisation={ordinary}")
    changes = ((), ("data.regularisation_weight=3",), ("data.regularisation_target=picture",))
    runs = [
        loop.train(tiny.plan(base, pictures, tmp_path / str(number), *common, *change))
        for number, change in enumerate(changes)
    ]
    plain = loop.train(tiny.plan(base, pictures, tmp_path / "plain", "run.steps=2"))
    adapters = [load_file(done.adapter) for done in (plain, *runs)]
    name = next(name for name in adapters[0] if "lora_down" in name)
    assert len({adapter[name].sum().item() for adapter in adapters}) == 4
    assert read_adapter(runs[0].adapter).metadata["ss_num_reg_images"] == "3"
    assert all("regularisation_loss" in row for row in rows(runs[0].run))


def test_with_the_base_as_target_prompts_without_the_trigger_stay_what_they_were(base, pictures, ordinary, tmp_path):
    """Measured as the distance from the base model's answers to ordinary captions."""
    more = ("run.steps=16", "run.batch_size=2", "optim.lr=1e-2", "data.trigger=zyx", "run.snapshot_every=0")
    settings = (*more, "adapter.targets=attention")
    beside = f"data.regularisation={ordinary}"
    free = loop.train(
        tiny.plan(base, pictures, tmp_path / "free", *settings, beside, "data.regularisation_weight=1e-9")
    )
    held = loop.train(tiny.plan(base, pictures, tmp_path / "held", *settings, beside, "data.regularisation_weight=4"))
    leaked, kept = ([row["regularisation_loss"] for row in rows(done.run)[-6:]] for done in (free, held))
    assert sum(kept) < 0.4 * sum(leaked)


def test_a_regularisation_loss_that_is_no_number_names_both_kinds_of_pictures(
    base, pictures, ordinary, tmp_path, monkeypatch
):
    from lora_diffusion.training import loss

    whole = loss.LossModule.forward
    monkeypatch.setattr(
        loss.LossModule, "forward", lambda self, batch: whole(self, batch) * (math.nan if batch.base_answers else 1)
    )
    with pytest.raises(NonFiniteLoss, match=r"loss [0-9.]+ and nan.*\.png, with 0\d\.png of .*ordinary"):
        loop.train(tiny.plan(base, pictures, tmp_path / "out", f"data.regularisation={ordinary}"))
