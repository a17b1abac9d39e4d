"""Blends and prompts: triggers follow what is picked by hand, frozen mixes are found again and keep their licences."""

import sys

import pytest

from lora_diffusion import Details, UsageError
from webui.actions import act
from webui.errors import BadRequest
from webui.jobs import Jobs
from webui.keeper import Keeper
from webui.users import User

WHEN = "2026-01-02T03:04:05+00:00"
CLEO = User(name="Cleo", role="creator")
TIM = User(name="Tim", role="creator")


@pytest.fixture
def desk(studio, shipped):
    """Two styles with triggers and licences; jobs wait until a keeper runs."""
    studio.__dict__["jobs"] = Jobs(studio.home / "jobs.db", keeper=(sys.executable, "-c", "pass"))
    for name, licence in (("blueprint", "OFL-1.1"), ("papercut", "CC0-1.0")):
        details = Details(trigger=name, licence=licence)
        studio.library.add(shipped / f"{name}.safetensors", name=name, by="Mia", when=WHEN, details=details)
    return studio


def do(studio, name, /, user=CLEO, **arguments):
    return act(studio, user, name, **arguments)


def test_a_trigger_is_ticked_where_the_prompt_holds_it(desk):
    refs = ["blueprint@1", "papercut@1"]
    found = do(desk, "pictures.triggers", prompt="papercut, a lighthouse icon", refs=refs)
    assert found == {"offered": ["blueprint", "papercut"], "held": ["papercut"]}


def test_a_style_that_is_picked_adds_its_trigger_and_brings_none_back(desk):
    said = do(
        desk, "pictures.with_styles", prompt="a crown", before=["blueprint@1"], refs=["blueprint@1", "papercut@1"]
    )
    assert said == "papercut, a crown"
    assert do(desk, "pictures.with_styles", prompt=said, before=["blueprint@1", "papercut@1"], refs=[]) == "a crown"


def test_a_tick_changes_the_triggers_of_the_picked_styles_alone(desk):
    said = do(desk, "pictures.with_words", prompt="blueprint, a crown, papercut", words=[], refs=["blueprint@1"])
    assert said == "a crown, papercut"


def test_frozen_mixes_are_found_again_by_who_froze_them(desk):
    styles = [{"ref": "blueprint@1", "weight": 0.5}, {"ref": "papercut@1", "weight": 0.5}]
    made = do(desk, "blend.freeze", name="-Night", styles=styles, kind="recipe")
    do(desk, "blend.freeze", name="Day", styles=styles)
    Keeper(desk.home, "files").run()
    found = {each.kind: each for each in do(desk, "blend.list")}
    assert found["recipe"].file == made["recipe"]
    assert found["style"].ref == "Day@1"
    assert do(desk, "blend.list", user=TIM) == []
    made["recipe"].unlink()
    assert [each.kind for each in do(desk, "blend.list")] == ["style"]


def test_a_frozen_mix_names_the_licences_of_its_styles(desk):
    styles = [{"ref": "blueprint@1", "weight": 1.0}, {"ref": "papercut@1", "weight": 0.5}]
    do(desk, "blend.freeze", name="Day", styles=styles)
    Keeper(desk.home, "files").run()
    assert desk.library.version("Day").details.licence == "OFL-1.1 + CC0-1.0"


@pytest.mark.parametrize("kind", ["exact", "compact"])
def test_a_mix_whose_name_the_library_refuses_is_not_begun(desk, kind):
    styles = [{"ref": "blueprint@1", "weight": 0.5}]
    with pytest.raises(UsageError, match="'a/b' cannot be a name: it holds '/'"):
        do(desk, "blend.freeze", name="a/b", styles=styles, kind=kind)
    assert desk.jobs.list() == []


@pytest.mark.parametrize("kind", ["exact", "compact"])
def test_no_style_is_made_of_one_that_was_retired(desk, kind):
    for stage in ("in_review", "approved", "retired"):
        desk.library.promote("papercut@1", stage, by="Ada", when=WHEN, reason="too loud")
    styles = [{"ref": "blueprint@1", "weight": 0.5}, {"ref": "papercut@1", "weight": 0.5}]
    with pytest.raises(BadRequest, match="papercut@1 was retired"):
        do(desk, "blend.freeze", name="Night", styles=styles, kind=kind)
    assert desk.jobs.list(owner=CLEO.name) == []
