"""The library of styles as pages and scripts change it."""

import pytest

from lora_diffusion import Details
from webui.actions import act
from webui.errors import BadRequest
from webui.pages._library_words import changes_of
from webui.users import User

WHEN = "2026-01-02T03:04:05+00:00"
TOM = User(name="Tom", role="trainer")
SHOWN = ["papercut", 100.0, 40.0, 110.0, "paper, cut", "CC0", "", "Mia", "hers"]


@pytest.fixture
def style(studio, shipped) -> str:
    details = Details(trigger="papercut", weight_low=0.4, weight_high=1.1, licence="CC0")
    return studio.library.add(shipped / "papercut.safetensors", name="paper", by="Mia", when=WHEN, details=details).ref


def test_where_a_style_works_can_be_taken_away_again(studio, style):
    changes = changes_of(SHOWN, ["papercut", 100.0, None, None, "paper, cut", "CC0", "", "Mia", "hers"])
    details = act(studio, TOM, "library.describe", ref=style, **changes).details
    assert (details.weight_low, details.weight_high, details.licence) == (None, None, "CC0")


def test_a_usual_strength_that_is_empty_is_refused_and_not_passed_over(studio, style):
    changes = changes_of(SHOWN, ["papercut", None, *SHOWN[2:]])
    with pytest.raises(BadRequest, match="weight has to be a number"):
        act(studio, TOM, "library.describe", ref=style, **changes)


def test_saving_details_leaves_alone_what_was_not_changed_in_the_form():
    assert changes_of(SHOWN, SHOWN) == {}
    assert changes_of(SHOWN, [*SHOWN[:-1], "ours"]) == {"notes": "ours"}
    assert changes_of(SHOWN, [*SHOWN[:4], "", *SHOWN[5:]]) == {"tags": ()}


def test_a_base_model_without_a_name_is_not_chosen(studio):
    with pytest.raises(BadRequest, match="name is empty"):
        act(studio, User(name="Ada", role="admin"), "bases.choose", name="")
    assert act(studio, TOM, "bases.current")["base"] == "demo"
