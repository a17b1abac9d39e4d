"""Settings of a picture are used again as they were, and what is lost on the way is named."""

from types import SimpleNamespace

import pytest
from PIL import Image

from webui.actions import act
from webui.context import Context
from webui.text import Text
from webui.users import LOCAL, User

CLEO = User(name="Cleo", role="creator")
WHEN = "2026-01-02T03:04:05+00:00"


@pytest.fixture(autouse=True)
def style(studio, shipped):
    """A style of the library."""
    studio.library.add(shipped / "papercut.safetensors", name="papercut", by="Mia", when=WHEN)


@pytest.fixture
def reused(studio, tmp_path):
    """Return what comes back of a picture with these settings."""

    def reuse(adapters=(), **settings):
        path = tmp_path / "one.png"
        Image.new("RGB", (8, 8)).save(path)
        kept = studio.library.add_picture(
            path, by="Cleo", when=WHEN, settings={"prompt": "a crown", **settings}, adapters=adapters
        )
        return act(studio, CLEO, "pictures.reuse", id=kept.id)

    return reuse


def test_parts_and_times_of_a_style_come_back_as_the_pages_write_them(reused):
    (style,) = reused(
        [("papercut@1", 0.825)],
        parts={"papercut@1": "papercut@1:0.825@style-only@unet.up=1.25"},
        schedules={"papercut@1": "0.0-0.5"},
    )["styles"]
    assert style == {"ref": "papercut@1", "weight": 0.825, "blocks": "style-only@unet.up=1.25", "schedule": "0-0.5"}


@pytest.mark.parametrize("schedule", ["0-0.5", "0.5-1", "0:0,1:1", "0:1,1:0"])
def test_each_course_of_the_blend_page_comes_back_as_itself(reused, schedule):
    from lora_diffusion import parse_schedule

    (style,) = reused([("papercut@1", 1.0)], schedules={"papercut@1": str(parse_schedule(schedule))})["styles"]
    assert style["schedule"] == schedule


def test_parts_that_cannot_be_read_are_no_parts(reused):
    (style,) = reused([("papercut@1", 1.0)], parts={"papercut@1": "papercut@1:1@nonsense=x"})["styles"]
    assert style["blocks"] == ""


def test_what_is_lost_is_named(reused):
    found = reused([("papercut@1", 3.0)], base="another", start="0" * 64, strength=0.4)
    assert [each["weight"] for each in found["styles"]] == [2.0]
    assert (found["cut"], found["base"]) == (["papercut@1"], "another")
    assert found["began"] is True
    assert found["strength"] == 0.4


def test_nothing_is_lost_of_a_picture_that_is_drawn_here(reused):
    found = reused([("papercut@1", -1.5)], base="demo")
    assert (found["cut"], found["missing"], found["began"]) == ([], [], False)
    assert "base" not in found


def test_a_retired_style_counts_as_missing(studio, reused):
    assert reused([("papercut@1", 1.0)])["missing"] == []
    for stage in ("in_review", "approved", "retired"):
        studio.library.promote("papercut@1", stage, by="Ada", when=WHEN, reason="too loud")
    found = reused([("papercut@1", 1.0)])
    assert (found["styles"], found["missing"]) == ([], ["papercut@1"])


def test_what_a_text_asks_for_in_vain_is_named(studio):
    found = act(studio, CLEO, "pictures.from_text", text="a crown <lora:papercut:3> <lora:nobody:1>")
    assert [each["weight"] for each in found["styles"]] == [2.0]
    assert (found["cut"], found["missing"]) == (["papercut"], ["nobody"])


def test_an_earlier_version_that_settings_name_can_be_picked(studio, shipped):
    from webui.pages._styles import choices, offered

    studio.library.add(shipped / "blueprint.safetensors", name="papercut", by="Mia", when=WHEN)
    ctx, request = Context(studio, Text("en"), "/en"), SimpleNamespace(username=LOCAL.name)
    (current,) = offered(ctx, request, [])
    (other,) = {"papercut@1", "papercut@2"} - {current.ref}
    found = offered(ctx, request, [{"ref": other}])
    assert {each.ref for each in found} == {"papercut@1", "papercut@2"}
    assert {label for label, _ in choices(ctx, found)} == {"papercut@1 · Draft", "papercut@2 · Draft"}
    for stage in ("in_review", "approved", "retired"):
        studio.library.promote(other, stage, by="Ada", when=WHEN, reason="too loud")
    assert other not in {each.ref for each in offered(ctx, request, [{"ref": other}])}


def test_what_is_beyond_what_is_drawn_here_is_left_out_and_named(studio, reused):
    found = reused(seed=2**60, steps=150, guidance=40.0, notes=["the sampler Frobnicate is not known here"])
    assert found.keys().isdisjoint({"steps", "guidance", "seed"})
    assert found["notes"] == [
        "the sampler Frobnicate is not known here",
        "Seed: 1152921504606846976 is left out",
        "Steps: 150 is left out",
        "CFG scale: 40.0 is left out",
    ]
    german = Context(studio, Text("de"), "/de")
    assert [german.sentence(each) for each in found["notes"][:2]] == [
        "Das Zeichenverfahren Frobnicate gibt es hier nicht.",
        "Seed: 1152921504606846976 wird weggelassen.",
    ]


def test_a_picture_says_whether_it_began_with_another(studio, reused):
    assert reused()["start"] == ""
    assert "start" not in reused(start="0" * 64, strength=0.4)
    assert "start" not in act(studio, CLEO, "pictures.from_text", text="a crown")
