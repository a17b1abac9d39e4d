"""Which step of a run to use: every adapter that it kept is judged in the same way, from the run's own plan."""

import json
import shutil
import weakref
from dataclasses import replace

import pytest

from lora_diffusion.choosing import evaluate_run
from lora_diffusion.cli import run as command
from lora_diffusion.errors import UsageError
from lora_diffusion.evaluation.choice import Candidate, best_of
from lora_diffusion.evaluation.design import Design
from lora_diffusion.evaluation.evaluating import evaluate
from lora_diffusion.evaluation.score import Score
from lora_diffusion.evaluation.studio import Studio
from lora_diffusion.evaluation.weighing import BestWeight
from lora_diffusion.evaluation.writing import write_evaluation
from lora_diffusion.training.loop import train
from lora_diffusion.training.run import Run
from tests import tiny

SMALL = Design(weights=(1.0,), prompts=3, steps=2)


@pytest.fixture(scope="module")
def trained(base, pictures, tmp_path_factory):
    held = tiny.pictures(tmp_path_factory.mktemp("held") / "p", 3)
    out = tmp_path_factory.mktemp("chosen") / "run"
    more = (f"validation.folder={held}", "validation.every=2", "run.candidates=2")
    return train(tiny.plan(base, pictures, out, "run.steps=6", *more)).run


@pytest.fixture(scope="module")
def choice(trained):
    return evaluate_run(trained, design=SMALL, precision="no", device="cpu")


def candidate(step, style, *, able=True, reason="it is close"):
    score = Score(value=style, by_weight={1.0: style})
    best = BestWeight(value=1.0 if able else None, reason=reason)
    return Candidate(
        step=step, file=f"{step}", validation_loss=None, scores={"style_match": score}, best=best, pictures=()
    )


def test_every_adapter_of_a_run_is_judged_as_it_would_be_alone(choice, trained):
    assert [each.step for each in choice.candidates] == [2, 4, 6]
    assert [each.file for each in choice.candidates] == [
        "candidates/step-00000002.safetensors", "candidates/step-00000004.safetensors", "adapter.safetensors",
    ]  # fmt: skip
    for each in choice.candidates:
        plan = Run.open(trained).plan
        places = {"base": plan.base.path, "data": plan.data.folder, "held_out": plan.validation.folder}
        alone = evaluate(trained / each.file, **places, design=SMALL, precision="no", device="cpu")
        assert {name: score.to_dict() for name, score in alone.scores.items()} == each.to_dict()["scores"]


def test_one_base_model_is_in_memory_at_a_time(trained, monkeypatch):
    alive, most = weakref.WeakSet(), []
    begin = Studio.__init__

    def counted(self, *given, **more):
        begin(self, *given, **more)
        alive.add(self)
        most.append(len(alive))

    monkeypatch.setattr(Studio, "__init__", counted)
    evaluate_run(trained, design=Design(weights=(1.0,), prompts=2, steps=1), precision="no", device="cpu")
    assert most == [1, 1, 1]


def test_the_validation_loss_of_a_step_stands_beside_it(choice, trained):
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["validation_loss"] for row in rows if "validation_loss" in row}
    assert {each.step: each.validation_loss for each in choice.candidates} == losses


def test_a_line_that_a_kill_cut_off_is_no_measurement(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as books:
        books.write('{"step": 7, "validation_loss": 0.')
    assert sorted(Run.open(tmp_path / "run").validation_losses()) == [2, 4, 6]


def test_the_result_is_plain_json_with_what_an_evaluation_has(choice):
    found = json.loads(json.dumps(choice.to_dict(), allow_nan=False))
    assert {"scores", "best_weight", "best_step", "best_step_reason"} <= set(found)
    assert len(found["candidates"]) == 3


def test_the_page_has_a_card_for_each_and_loads_nothing(choice, tmp_path):
    chosen = replace(choice, best=choice.candidates[1])
    _, page = write_evaluation(chosen, tmp_path)
    text = page.read_text("utf-8")
    assert [f'id="step-{step}"' in text for step in (2, 4, 6)] == [True] * 3
    assert text.count("<h3>Step 4 (use this)</h3>") == 1
    assert text.count("(use this)") == 2
    assert text.count("data:image/jpeg") == 3 * 4 + len(choice.training)
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text


def test_the_first_of_those_that_look_the_same_is_used():
    judged = [candidate(100, 60.0), candidate(200, 88.0), candidate(300, 90.0), candidate(400, 89.0)]
    best, reason = best_of(judged)
    assert (best.step, reason) == (200, "it is close; more steps hardly gain")


def test_a_step_that_copies_or_does_not_follow_prompts_is_not_used():
    judged = [candidate(100, 70.0), candidate(200, 95.0, able=False, reason="training pictures are copied")]
    best, reason = best_of(judged)
    assert (best.step, reason) == (100, "it is close; from step 200 on it is worse: training pictures are copied")


def test_where_the_last_step_is_the_best_the_reason_says_that_more_may_help():
    best, reason = best_of([candidate(100, 50.0), candidate(200, 70.0)])
    assert (best.step, reason) == (200, "it is close; it still grows with the steps")
    assert best_of([candidate(100, 50.0)])[1] == "it is close"


def test_none_is_recommended_where_none_will_do():
    best, reason = best_of([candidate(100, 5.0, able=False, reason="it is another style")])
    assert (best, reason) == (None, "at step 100, it is another style")


def test_a_run_without_adapters_says_what_to_do(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "candidates")
    (tmp_path / "run" / "adapter.safetensors").unlink()
    with pytest.raises(UsageError, match="holds no adapter yet") as error:
        evaluate_run(tmp_path / "run")
    assert "run.candidates" in error.value.hint


def test_the_command_takes_a_run(trained, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["evaluate", str(trained), "--out", str(out), "--prompts", "2", "--steps", "1", "--precision", "no"]
    assert command([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["step"] for each in found["candidates"]] == [2, 4, 6]
    assert (out / "evaluation.html").is_file()
    assert command([*words, "--overwrite", "--against", str(trained / "adapter.safetensors")]) == 2
    assert "leave --against out" in capsys.readouterr().err
