"""Two processes train what one trains: a step is one global batch, whoever computes it."""

import json
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from lora_diffusion.settings import to_toml
from lora_diffusion.training import loop
from tests import tiny
from tests.training.everything import EVERYTHING, everything

STEPS = 8


@pytest.mark.slow
def test_two_processes_train_what_one_trains(base, tmp_path):
    folder, ordinary = everything(tmp_path)
    # Dropout inside the adapter is drawn for each process. At the plan's eps Adam magnifies rounding: with masks two
    # splits of a batch in one process are 1.4e-6 apart already, at this one 4e-8.
    more = (
        *EVERYTHING,
        "adapter.dropout=0",
        "optim.eps=1e-4",
        f"data.regularisation={ordinary}",
        f"validation.folder={ordinary}",
    )
    plan = tiny.plan(base, folder, tmp_path / "one", f"run.steps={STEPS}", *more)
    one = load_file(loop.train(plan).adapter)
    (tmp_path / "plan.toml").write_text(to_toml(plan), "utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = ["-m", "lora_diffusion", "train", tmp_path / "plan.toml", f"run.out={tmp_path / 'two'}", "--json"]
    done = subprocess.run([*launcher, *map(str, command)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished") == 1  # one answer, not one per process
    two = load_file(tmp_path / "two" / "adapter.safetensors")
    assert one.keys() == two.keys()
    assert max((one[key] - two[key]).abs().max().item() for key in one) <= 1e-6
    alone, together = (books(tmp_path / name) for name in ("one", "two"))
    assert [row["step"] for row in together] == [row["step"] for row in alone]
    for row, other in zip(alone, together, strict=True):
        assert row.keys() == other.keys()
        assert all(other[name] == pytest.approx(row[name], rel=1e-4) for name in row if name.endswith("loss"))


def books(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_accelerate_launch_runs_the_same_command(base, pictures, tmp_path):
    plan = tiny.plan(base, pictures, tmp_path / "one", "run.steps=2")
    (tmp_path / "plan.toml").write_text(to_toml(plan), "utf-8")
    options = [
        "--cpu",
        "--num_processes",
        "1",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
    ]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *options]
    command = ["-m", "lora_diffusion", "train", str(tmp_path / "plan.toml"), "--json"]
    done = subprocess.run([*launcher, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "one" / "adapter.safetensors").read_bytes() == _alone(plan, tmp_path)


def _alone(plan, tmp_path):
    elsewhere = plan.run.model_copy(update={"out": str(tmp_path / "alone")})
    return loop.train(plan.model_copy(update={"run": elsewhere})).adapter.read_bytes()
