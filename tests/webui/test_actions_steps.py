"""Which step of a training: what it kept on its way is compared, and another step becomes the next version."""

import re
from dataclasses import replace

import pytest

from tests.webui.test_actions_train import EVE, TIM, TOM, changed, ended, started, suggested
from webui.actions import act
from webui.context import Context
from webui.errors import BadRequest, NotAllowed, NotFound
from webui.pages._train_steps import table_of
from webui.text import Text
from webui.users import User

VIC = User(name="Vic", role="viewer")


def plan(studio, candidates):
    text = suggested(studio, trigger="papyro").plan
    settings = {
        "run.steps": "4", "run.candidates": f"{candidates}", "previews.every": "0",
        "validation.folder": '""', "validation.every": "0",
    }  # fmt: skip
    for key, value in settings.items():
        text = changed(text, key, value)
    return text


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    from webui.server import create_app

    return create_app(tmp_path_factory.mktemp("steps") / "home", pages=False).state.studio


@pytest.fixture(scope="module")
def job(studio):
    return ended(studio, started(studio, plan=plan(studio, 1)))


def test_the_steps_are_compared_by_a_job_and_shown_to_everybody(studio, job):
    assert act(studio, TOM, "steps.show", id=job.id).kept == (2,)
    row = act(studio, TOM, "steps.compare", id=job.id, prompts=2)
    assert act(studio, TOM, "steps.compare", id=job.id).id == row.id
    assert ended(studio, row).state == "done"
    found = act(studio, VIC, "steps.show", id=job.id)
    assert [each.number for each in found.compared] == [2, 4]
    assert found.best in (None, 2, 4)
    assert all(each.figures[0].name == "style_match" for each in found.compared)
    assert (found.measuring, found.mine, found.page.name) == (None, False, "evaluation.html")
    table = table_of(Context(studio, Text("de"), "/de"), replace(found, best=2))
    assert re.findall(r'scope="row">(\d+)', table) == ["2", "4"]
    assert table.count(Text("de")("steps.recommended")) == 1
    style = Text("de").number(found.compared[0].figures[0].value)
    assert f'<td class="number">{Text("de")("review.of_100", n=style)}</td>' in table


def test_an_earlier_step_becomes_the_next_version_with_the_origin_of_the_first(studio, job):
    assert act(studio, TOM, "steps.take", id=job.id, step=2) == "Paper One@2"
    first, second = (act(studio, TOM, "library.show", ref=f"Paper One@{number}") for number in (1, 2))
    assert second.details.trigger == first.details.trigger == "papyro"
    assert second.fingerprint != first.fingerprint
    origin = [studio.library.lineage(f"Paper One@{number}") for number in (1, 2)]
    assert origin[0].manifest == origin[1].manifest != ()
    assert studio.library.history("Paper One@2")[-1].by == "Tom"


def test_only_its_owner_with_the_right_to_train_takes_a_step(studio, job):
    for user in (TIM, EVE):
        with pytest.raises(NotAllowed):
            act(studio, user, "steps.take", id=job.id, step=2)
        with pytest.raises(NotAllowed):
            act(studio, user, "steps.compare", id=job.id)


def test_a_step_that_was_not_kept_cannot_be_taken(studio, job):
    with pytest.raises(NotFound, match="kept no adapter of step 3"):
        act(studio, TOM, "steps.take", id=job.id, step=3)


def test_a_training_that_kept_nothing_has_nothing_to_compare(studio):
    done = ended(studio, started(studio, plan=plan(studio, 0), name="Alone"))
    assert act(studio, TOM, "steps.show", id=done.id).kept == ()
    with pytest.raises(BadRequest, match="kept no other steps"):
        act(studio, TOM, "steps.compare", id=done.id)
