"""The validation loss is a fixed yardstick that leaves training alone."""

import json

import pytest

from lora_diffusion.training import loop
from lora_diffusion.training.events import Validated
from lora_diffusion.training.plan import LossPlan
from lora_diffusion.training.validation import Validation
from tests import tiny
from tests.training.made import made


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return tiny.pictures(tmp_path_factory.mktemp("held") / "p", 3)


def validation_rows(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["validation_loss"] for row in rows if "validation_loss" in row}


def test_validation_is_told_and_written_and_changes_no_byte_of_the_adapter(base, pictures, held_out, tmp_path):
    settings = ("adapter.dropout=0.3", "run.steps=5", "run.snapshot_every=0")
    plain = loop.train(tiny.plan(base, pictures, tmp_path / "plain", *settings))
    told = []
    more = (f"validation.folder={held_out}", "validation.every=2")
    measured = loop.train(tiny.plan(base, pictures, tmp_path / "measured", *settings, *more), on_event=told.append)
    assert measured.adapter.read_bytes() == plain.adapter.read_bytes()
    events = {event.step: event.loss for event in told if isinstance(event, Validated)}
    assert list(events) == [2, 4, 5]
    assert validation_rows(measured.run) == events
    assert len(set(events.values())) == 3
    assert not validation_rows(plain.run)


def test_without_a_rhythm_it_is_measured_once_at_the_end(base, pictures, held_out, tmp_path):
    done = loop.train(tiny.plan(base, pictures, tmp_path / "out", "run.steps=2", f"validation.folder={held_out}"))
    assert list(validation_rows(done.run)) == [2]


def measure(loaded, folder, held_out, tmp_path, *more, world=1):
    plan = tiny.plan("demo", folder, tmp_path / "out", f"validation.folder={held_out}", *more)
    found = made(plan, loaded)
    family, components = loaded
    validation = Validation(
        found.encoded.validation,
        found.texts,
        family=family,
        components=components,
        train_text=False,
        seed=plan.run.seed,
    )
    return sum(validation.total(rank, world).item() for rank in range(world)) / validation.size


def test_the_yardstick_does_not_depend_on_how_training_is_set(loaded, pictures, held_out, tmp_path):
    plain = measure(loaded, pictures, held_out, tmp_path)
    changes = ("data.flip=true", "data.colour_jitter=0.2", "data.caption_dropout=1", "data.tag_dropout=0.9")
    others = ("loss.min_snr_gamma=1", "loss.noise_offset=0.5", "run.batch_size=1", "data.masks=alpha")
    assert measure(loaded, pictures, held_out, tmp_path, *changes, *others) == plain
    assert LossPlan().min_snr_gamma is None


def test_the_seed_the_pictures_and_the_trigger_decide_it(loaded, pictures, held_out, tmp_path):
    plain = measure(loaded, pictures, held_out, tmp_path)
    assert measure(loaded, pictures, held_out, tmp_path, "run.seed=1") != plain
    assert measure(loaded, pictures, held_out, tmp_path, "data.trigger=zyx") != plain
    assert measure(loaded, pictures, pictures, tmp_path) != plain


@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_measure_the_same(loaded, pictures, held_out, tmp_path, world):
    alone = measure(loaded, pictures, held_out, tmp_path)
    assert measure(loaded, pictures, held_out, tmp_path, world=world) == pytest.approx(alone, rel=1e-12)
