"""Comparisons and grids: what could show no difference is refused at once. Settings come back whole."""

import pytest

from webui.actions import act
from webui.errors import BadRequest
from webui.users import User

CLEO = User(name="Cleo", role="creator")
WHEN = "2026-01-02T03:04:05+00:00"
ONE = {"prompt": "a crown", "styles": [{"ref": "papercut@1"}]}


def grid(studio, settings, *axes):
    wanted = [{"by": by, "values": ["0", "100"]} for by in axes]
    return act(studio, CLEO, "series.grid", settings=settings, axes=wanted)


def test_a_comparison_without_a_style_is_refused(studio):
    with pytest.raises(BadRequest, match="no style to compare with"):
        act(studio, CLEO, "series.compare", settings={"prompt": "a crown"})


@pytest.mark.parametrize(
    ("settings", "by"), [({"prompt": "a crown"}, "all_styles"), ({"prompt": "a crown"}, "style"), (ONE, "second_style")]
)
def test_a_grid_over_the_strength_of_a_style_that_is_not_there_is_refused(studio, settings, by):
    with pytest.raises(BadRequest, match="a style that is not there"):
        grid(studio, settings, by)


@pytest.mark.parametrize("axes", [("seed", "seed"), ("style", "all_styles"), ("all_styles", "steps", "style")])
def test_a_grid_of_which_two_sides_vary_the_same_is_refused(studio, axes):
    with pytest.raises(BadRequest, match="vary the same"):
        grid(studio, ONE, *axes)


def test_a_grid_names_a_sampler_that_is_not_known_before_it_draws(studio):
    axis = {"by": "sampler", "values": ["dpm++ 2m", "euler", "Eulr"]}
    with pytest.raises(BadRequest, match="'Eulr' does not fit sampler") as refused:
        act(studio, CLEO, "series.grid", settings={"prompt": "a crown"}, axes=[axis])
    assert "DPM++ 2M, " in refused.value.hint


@pytest.mark.parametrize("purpose", ["square", "story", "banner", "a4", "photo"])
def test_the_settings_of_a_picture_bring_back_what_it_was_for(studio, tmp_path, purpose):
    from PIL import Image

    size = act(studio, CLEO, "bases.size", purpose=purpose)
    path = tmp_path / "one.png"
    Image.new("RGB", (8, 8)).save(path)
    kept = studio.library.add_picture(path, by="Cleo", when=WHEN, settings={"prompt": "a crown", **size})
    assert act(studio, CLEO, "pictures.reuse", id=kept.id)["purpose"] == purpose


def test_a_picture_of_another_size_is_drawn_again_in_the_nearest_shape(studio, tmp_path):
    from PIL import Image

    path = tmp_path / "one.png"
    Image.new("RGB", (8, 8)).save(path)
    size = {"width": 1536, "height": 512}
    kept = studio.library.add_picture(path, by="Cleo", when=WHEN, settings={"prompt": "a crown", **size})
    assert act(studio, CLEO, "pictures.reuse", id=kept.id)["purpose"] == "banner"
