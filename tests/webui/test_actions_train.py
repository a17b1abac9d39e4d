"""Teaching a style: who may, what is refused before it starts, and that what was learnt can be kept."""

import asyncio
import json
import sys
import time
import tomllib
from pathlib import Path

import gradio as gr
import pytest
import tomli_w
from PIL import Image

from datasets_tools import set_rights, sha256_file
from lora_diffusion import TrainPlan, UsageError
from webui.actions import act
from webui.errors import BadRequest, NotAllowed, NotFound
from webui.forms import PlanForm, plan_keys
from webui.jobs import Jobs
from webui.keeper import Keeper
from webui.text import Text
from webui.users import User

EVE = User(name="Eve", role="creator")
TOM = User(name="Tom", role="trainer")
TIM = User(name="Tim", role="trainer")
ADA = User(name="Ada", role="admin")
SET = "demo:papercut"
PATIENCE = 240.0
"""Seconds that a training of some steps may take on a busy machine; 15 alone."""


@pytest.fixture
def queue(studio):
    """A studio whose jobs wait: their keeper ends at once."""
    studio.__dict__["jobs"] = Jobs(studio.home / "jobs.db", keeper=(sys.executable, "-c", "pass"))
    return studio


def suggested(studio, user=TOM, **more):
    return act(studio, user, "train.suggest", **{"set": SET, "quality": "quick", **more})


def started(studio, user=TOM, *, plan="", name="Paper One", **more):
    return act(studio, user, "train.start", plan=plan or suggested(studio).plan, name=name, **more)


def plan_of(studio, row):
    command = studio.jobs.get(row.id).commands[0]
    return tomllib.loads(Path(command[1]).read_text("utf-8"))


def changed(plan, key, value):
    """The plan with one value replaced, which is given as TOML."""
    values = tomllib.loads(plan)
    section, name = key.split(".")
    values[section][name] = tomllib.loads(f"value = {value}")["value"]
    return tomli_w.dumps(values)


def test_a_plan_names_sets_and_base_models_and_no_place_on_the_server(studio):
    found = suggested(studio, EVE, trigger="papyro")
    plan = tomllib.loads(found.plan)
    assert (plan["base"]["path"], plan["data"]["folder"]) == ("demo", SET)
    assert str(studio.home) not in found.plan
    assert (plan["data"]["trigger"], plan["data"]["rights"], plan["run"]["steps"]) == ("papyro", "require", 120)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base.path", '"/etc"'),
        ("base.path", '"somebody/model"'),
        ("base.tokenizer", '"/etc"'),
        ("data.folder", '"/etc"'),
        ("data.folder", '"demo:../../../etc"'),
        ("data.cache", '"/tmp/x"'),
        ("data.masks", '"/etc"'),
        ("data.regularisation", '"/etc"'),
        ("validation.folder", '"/etc"'),
        ("run.out", '"/tmp/x"'),
        ("run.out", '"../x"'),
        ("adapter.name", '"../x"'),
    ],
)
def test_a_plan_reaches_no_place_that_the_studio_does_not_offer(queue, key, value):
    plan = changed(suggested(queue).plan, key, value)
    with pytest.raises((BadRequest, NotFound)):
        started(queue, ADA, plan=plan)
    with pytest.raises((BadRequest, NotFound)):
        act(queue, ADA, "train.check", plan=plan)
    assert queue.jobs.list() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run.steps", "20001"),
        ("adapter.rank", "321"),
        ("adapter.ranks", "{ attention = 500 }"),
        ("data.resolution", "4096"),
        ("data.more_resolutions", "[64, 9999]"),
        ("run.batch_size", "65"),
        ("optim.lr", "inf"),
        ("optim.lr", "nan"),
        ("run.seed", str(2**60)),
        ("previews.every", "0.5"),
        ("data.trigger", '"' + "x" * 1001 + '"'),
        ("previews.prompts", json.dumps(["x"] * 200)),
    ],
)
def test_numbers_are_bounded_whatever_the_form_says(queue, key, value):
    plan = changed(suggested(queue).plan, key, value)
    with pytest.raises(BadRequest, match=key.replace(".", r"\.")):
        started(queue, ADA, plan=plan)


def test_a_set_without_captions_is_taught_by_its_trigger_alone(studio):
    set = act(studio, TOM, "datasets.copy_demo", style="papercut").id
    folder = studio.datasets.find(set).folder
    assert tomllib.loads(suggested(studio, set=set, trigger="leaf").plan)["data"]["captions"] == "require"
    for each in folder.glob("*.txt"):
        each.unlink()
    assert tomllib.loads(suggested(studio, set=set, trigger="leaf").plan)["data"]["captions"] == "optional"
    assert tomllib.loads(suggested(studio, set=set).plan)["data"]["captions"] == "require"


def test_previews_at_every_step_of_a_long_run_are_refused_with_what_is_allowed(queue):
    plan = changed(changed(suggested(queue).plan, "run.steps", "2000"), "previews.every", "1")
    with pytest.raises(BadRequest) as refused:
        started(queue, plan=plan)
    assert "at least 10" in refused.value.hint


def test_an_unknown_key_gives_the_plans_own_error(queue):
    with pytest.raises(BadRequest) as refused:
        started(queue, plan=suggested(queue).plan + "\n[runn]\nsteps = 3\n")
    assert "unknown section [runn]" in str(refused.value)
    assert "run" in refused.value.hint


def test_only_a_trainer_starts_and_only_its_owner_or_an_admin_changes_a_training(queue):
    with pytest.raises(NotAllowed):
        started(queue, EVE)
    job = started(queue)
    for name in ("jobs.pause", "jobs.stop", "jobs.resume", "train.keep"):
        with pytest.raises(NotAllowed, match="belongs to Tom"):
            act(queue, TIM, name, id=job.id)
    assert act(queue, TIM, "train.watch", id=job.id).mine is False
    assert act(queue, ADA, "jobs.stop", id=job.id).state == "stopped"


def test_a_name_that_the_library_refuses_is_refused_before_the_training(queue):
    with pytest.raises(UsageError, match="cannot be a name"):
        started(queue, name="../x")
    assert queue.jobs.list() == []


def test_a_training_is_given_a_run_of_its_own_and_the_library_as_its_end(queue):
    job = queue.jobs.get(started(queue, notes="warm paper").id)
    assert job.lane == "train"
    assert job.subject == SET
    train, add = job.commands
    plan = tomllib.loads(Path(train[1]).read_text("utf-8"))
    assert plan["run"]["out"] == job.folder
    assert plan["data"]["cache"] == str(queue.home / "runs" / ".cache")
    assert plan["adapter"]["name"] == "Paper One"
    assert list(add[:2]) == ["library", "add"]
    assert {"--name=Paper One", "--notes=warm paper", "--by=Tom", f"--run={job.folder}"} <= set(add)


def test_two_trainings_of_one_plan_never_share_a_run(queue):
    assert queue.jobs.get(started(queue).id).folder != queue.jobs.get(started(queue).id).folder


def own_set(studio, user=TOM):
    return act(studio, user, "datasets.copy_demo", style="papercut").id


def set_without_rights(studio):
    id = act(studio, TOM, "datasets.create", name="Spring").id
    folder = studio.datasets.find(id).folder
    for name in ("a", "b"):
        Image.new("RGB", (64, 64), "red").save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("a red field")
    act(studio, TOM, "datasets.rights", id=id, files=["b.png"], owner="Acme")
    return id


def test_pictures_without_rights_are_not_taught_unless_an_admin_says_why(queue):
    id = set_without_rights(queue)
    plan = suggested(queue, set=id).plan
    assert act(queue, TOM, "train.rights", set=id).missing == ("a.png",)
    with pytest.raises(BadRequest, match="of 1 of 2 pictures"):
        started(queue, plan=plan)
    with pytest.raises(NotAllowed, match="only an admin"):
        started(queue, plan=plan, override="it is ours")
    job = started(queue, ADA, plan=plan, override="it is ours")
    assert plan_of(queue, job)["data"]["rights"] == "optional"
    event = act(queue, ADA, "system.audit", limit=1)[0]
    assert (event.by, event.what) == ("Ada", "train.start")
    assert "it is ours" in event.reason


def test_a_withdrawn_picture_is_not_taught_until_it_is_left_out_whoever_asks(queue):
    id = own_set(queue)
    plan = suggested(queue, set=id).plan
    withdraw(queue, id, "03_bear.png")
    named = [(one.file, one.reason) for one in act(queue, TOM, "train.rights", set=id).withdrawn]
    assert named == [("03_bear.png", "withdrawn: the artist asked")]
    verdict = act(queue, TOM, "train.check", plan=plan)
    assert verdict.blocked
    assert verdict.findings[0].code == "image-withdrawn"
    beside = changed(suggested(queue).plan, "data.regularisation", f'"{id}"')
    for asked in (plan, beside):
        with pytest.raises(BadRequest, match=r"no longer be used: 1; 03_bear\.png is withdrawn: the artist asked"):
            started(queue, ADA, plan=asked, override="we need it")
    assert queue.jobs.list() == []
    act(queue, TOM, "datasets.exclude", id=id, files=["03_bear.png"])
    assert not act(queue, TOM, "train.check", plan=plan).blocked
    assert started(queue, plan=plan).state == "queued"


def test_an_override_where_nothing_is_missing_changes_nothing(queue):
    assert plan_of(queue, started(queue))["data"]["rights"] == "require"


def test_a_set_may_be_edited_while_its_pictures_are_being_taught(queue):
    id = own_set(queue)
    plan = plan_of(queue, started(queue, plan=suggested(queue, set=id).plan))
    taught = plan["data"]["folder"]
    captions = {each.file: each.caption for each in described(taught)}
    act(queue, TOM, "datasets.caption", id=id, file="03_bear.png", text="something else")
    assert {each.file: each.caption for each in described(taught)} == captions


def described(folder):
    from datasets_tools import describe_pictures

    return [each for each in describe_pictures(folder) if not each.excluded]


def test_every_eighth_picture_is_put_aside_and_in_no_other_place(queue):
    plan = plan_of(queue, started(queue))
    taught = {each.file for each in described(plan["data"]["folder"])}
    aside = {each.file for each in described(plan["validation"]["folder"])}
    assert (len(taught), len(aside)) == (21, 3)
    assert not taught & aside


def test_few_pictures_are_all_taught(queue):
    id = own_set(queue)
    files = [each.file for each in act(queue, TOM, "datasets.show", id=id, wait=False).pictures]
    act(queue, TOM, "datasets.exclude", id=id, files=files[11:])
    found = suggested(queue, set=id)
    assert (found.pictures, found.held_out) == (11, False)
    assert plan_of(queue, started(queue, plan=found.plan))["validation"]["folder"] == ""


def test_the_queue_tells_how_many_come_before(queue):
    first, second = started(queue), started(queue)
    assert [act(queue, TOM, "train.watch", id=each.id).ahead for each in (first, second)] == [0, 1]
    act(queue, TOM, "jobs.move", id=second.id, direction="up")
    assert act(queue, TOM, "train.watch", id=second.id).ahead == 0


def test_there_is_nothing_to_keep_of_a_training_that_has_not_begun(queue):
    with pytest.raises(BadRequest, match="nothing to keep"):
        act(queue, TOM, "train.keep", id=started(queue).id)


def test_a_job_that_is_no_training_is_not_shown_as_one(queue):
    other = queue.jobs.submit(kind="merge", title="x", owner="Tom", commands=[["merge"]], folder="exports")
    with pytest.raises(NotFound, match="no training"):
        act(queue, TOM, "train.watch", id=other.id)


def form():
    return PlanForm(fields=dict.fromkeys(plan_keys()))


def test_what_a_form_holds_is_the_plan_that_it_was_given(studio):
    plan = suggested(studio, trigger="papyro").plan
    values = form().values(plan)
    assert tomllib.loads(form().text(values)) == tomllib.loads(plan)
    values[plan_keys().index("adapter.rank")] = 12
    assert tomllib.loads(form().text(values))["adapter"]["rank"] == 12


@pytest.mark.parametrize(
    ("key", "shown", "meant"),
    [
        ("data.more_resolutions", "64\n 96 ", [64, 96]),
        ("previews.prompts", "a fox, asleep\na house", ["a fox, asleep", "a house"]),
        ("data.repeats", "10_fox = 2\nb=c.png = 0.5", {"10_fox": 2, "b=c.png": 0.5}),
        ("optim.text_lr", 0.001, 0.001),
        ("run.pack_weights", False, False),
    ],
)
def test_lists_and_tables_are_written_line_by_line(studio, key, shown, meant):
    values = form().values(suggested(studio).plan)
    values[plan_keys().index(key)] = shown
    section, name = key.split(".")
    text = form().text(values)
    assert tomllib.loads(text)[section][name] == meant
    again = tomllib.loads(form().text(form().values(text)))
    assert again[section][name] == meant


def test_an_odd_value_in_a_form_reaches_the_plan_and_is_refused_there(studio):
    values = form().values(suggested(studio).plan)
    values[plan_keys().index("data.more_resolutions")] = "large"
    with pytest.raises(BadRequest, match=r"data\.more_resolutions"):
        form().values(form().text(values))


def test_a_form_shows_every_field_of_the_plan_with_its_reason():
    async def build() -> PlanForm:
        with gr.Blocks():
            return PlanForm.build(Text("de"))

    made = asyncio.run(build())  # in a loop: outside of one gradio leaves loops open
    shown = [(each.label, each.info) for each in made.components]
    assert shown == [(key, Text("de")(f"plan.{key.replace('.', '_')}")) for key in plan_keys()]


@pytest.mark.parametrize("key", plan_keys())
def test_the_reason_that_a_form_shows_is_the_plans_own(key):
    section, name = key.split(".")
    field = TrainPlan.model_fields[section].annotation.model_fields[name]
    assert Text("en")(f"plan.{section}_{name}") == field.description


def test_the_check_is_of_the_pictures_and_is_kept(studio):
    plan = suggested(studio, trigger="dog").plan
    found = act(studio, TOM, "train.check", plan=plan)
    assert not found.blocked
    assert "trigger-common" in {one.code for one in found.findings}
    kept = sorted((studio.home / "tmp").glob("check-*.json"))
    assert act(studio, TOM, "train.check", plan=plan) == found
    assert sorted((studio.home / "tmp").glob("check-*.json")) == kept


def test_what_stands_in_the_way_names_no_place_on_the_server(studio):
    empty = act(studio, TOM, "datasets.create", name="Spring").id
    plan = changed(suggested(studio).plan, "data.regularisation", f'"{empty}"')
    found = act(studio, TOM, "train.check", plan=plan)
    reasons = [one.reason for one in found.findings if one.severity == "blocks"]
    assert any("Spring" in reason for reason in reasons)
    assert empty not in str(reasons)
    assert str(studio.home) not in str(found.findings)


def test_what_a_training_has_learnt_is_kept_when_it_is_stopped(studio):
    job = started(studio, plan=long_plan(studio, trigger="papyro"))
    until(lambda: act(studio, TOM, "train.watch", id=job.id).loss is not None)
    kept = act(studio, TOM, "train.keep", id=job.id)
    ended(studio, kept)
    assert act(studio, TOM, "jobs.show", id=job.id).state == "stopped"
    found = act(studio, TOM, "train.watch", id=kept.id)
    assert (found.job.state, found.style, found.job.error) == ("done", "Paper One@1", "")
    version = act(studio, TOM, "library.show", ref="Paper One@1")
    assert version.details.trigger == "papyro"
    assert version.details.owner == "Tom"


def long_plan(studio, **more):
    """A plan that trains for as long as a test looks, and does nothing else."""
    plan = changed(changed(suggested(studio, **more).plan, "run.steps", "5000"), "previews.every", "0")
    return changed(changed(plan, "validation.folder", '""'), "validation.every", "0")


def ended(studio, row):
    """The job, once its own keeper is done with it."""
    until(lambda: act(studio, ADA, "jobs.show", id=row.id).state in ("done", "failed"))
    return act(studio, ADA, "jobs.show", id=row.id)


def withdraw(studio, set, file):
    picture = studio.datasets.find(set).folder / file
    when = "2026-01-02T03:04:05+00:00"
    studio.library.withdraw(sha256_file(picture), by="Ada", when=when, reason="the artist asked")
    return picture


REFUSED = ("failed", "03_bear.png may no longer be used: the artist asked")


def test_a_training_that_waited_when_a_picture_was_withdrawn_does_not_begin(queue):
    id = own_set(queue)
    job = started(queue, plan=suggested(queue, set=id).plan)
    withdraw(queue, id, "03_bear.png")
    Keeper(queue.home, "train").run()
    found = act(queue, TOM, "jobs.show", id=job.id)
    assert (found.state, found.error) == REFUSED
    assert "leave it out" in found.hint
    assert not Path(queue.jobs.get(job.id).folder).exists()


def test_a_training_that_was_paused_when_a_picture_was_withdrawn_neither_goes_on_nor_is_kept(studio):
    id = own_set(studio)
    job = started(studio, plan=long_plan(studio, set=id))
    run = Path(studio.jobs.get(job.id).folder)
    until(lambda: act(studio, TOM, "train.watch", id=job.id).loss is not None)
    act(studio, TOM, "jobs.pause", id=job.id)
    until(lambda: act(studio, TOM, "jobs.show", id=job.id).state == "paused")
    saved = sorted(run.rglob("*.safetensors"))
    picture = withdraw(studio, id, "03_bear.png")
    for name in ("jobs.resume", "jobs.retry", "train.keep"):
        found = ended(studio, act(studio, TOM, name, id=job.id))
        assert (found.state, found.error) == REFUSED, name
    assert sorted(run.rglob("*.safetensors")) == saved != []
    assert studio.library.versions(name="Paper One", every=True) == []
    studio.library.reinstate(sha256_file(picture), by="Ada", when="2026-01-02T03:04:05+00:00", reason="they agreed")
    assert ended(studio, act(studio, TOM, "train.keep", id=job.id)).state == "done"


def test_a_training_that_waited_when_rights_expired_does_not_begin(queue):
    job = started(queue)
    set_rights(plan_of(queue, job)["data"]["folder"], files=["03_bear.png"], expires="2020-12-31")
    Keeper(queue.home, "train").run()
    found = act(queue, TOM, "jobs.show", id=job.id)
    assert found.state == "failed"
    assert "03_bear.png may not be used since 2020-12-31" in found.error


def until(reached):
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.2)
