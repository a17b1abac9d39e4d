"""Weights over the steps: what is written reads back, and the adapter works in its share of the steps alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_diffusion.cli import run
from lora_diffusion.embedded import adapters
from lora_diffusion.errors import TargetError, UsageError
from lora_diffusion.generation.generator import Generator
from lora_diffusion.generation.picture import read_settings
from lora_diffusion.generation.schedule import Schedule, parse_schedule

factors = st.floats(-4, 4)
points = st.lists(st.tuples(st.floats(0, 1), factors), min_size=1, max_size=6).map(
    lambda found: Schedule(points=tuple(sorted(found, key=lambda point: point[0])))
)
windows = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda found: found[0] != found[1]).map(sorted)


@given(points)
def test_points_read_back_as_they_were_written(schedule):
    assert parse_schedule(str(schedule)) == schedule


@given(windows)
def test_a_window_reads_back_in_its_own_words(window):
    schedule = Schedule.window(*window)
    assert parse_schedule(str(schedule)) == schedule
    assert ":" not in str(schedule)


@given(points, st.integers(1, 50))
def test_a_factor_never_leaves_the_range_of_its_points(schedule, steps):
    heights = [factor for _, factor in schedule.points]
    for step in range(steps):
        assert min(heights) - 1e-9 <= schedule.at(step, steps) <= max(heights) + 1e-9


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("0-0.5", [1, 1, 0, 0]),
        ("0.5-1", [0, 0, 1, 1]),
        ("0.25-0.75", [0, 1, 1, 0]),
        ("0-1", [1, 1, 1, 1]),
        ("0:0,1:1", [0.125, 0.375, 0.625, 0.875]),
        ("0.5:0.2", [0.2, 0.2, 0.2, 0.2]),
        ("0:1,0.5:1,0.5:-1", [1, 1, -1, -1]),
    ],
)
def test_factors_of_four_steps(text, at):
    assert [parse_schedule(text).at(step, 4) for step in range(4)] == pytest.approx(at)


@pytest.mark.parametrize(
    "text",
    ["", "x", "0.5", "0.5-0.5", "0.8-0.2", "0-2", "0:nan", "0:inf", "-1:1", "1:0,0:1", "0:1,", "0:1:2",
     "0:1," * 64 + "0:1"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_how_to_write_one(text):
    with pytest.raises(UsageError) as caught:
        parse_schedule(text)
    assert "0-0.5" in caught.value.hint


@pytest.fixture(scope="module")
def demo():
    with Generator.open("demo", precision="no", device="cpu") as opened:
        opened.add(adapters()["blueprint"])
        yield opened


def draw(demo, weight, text=""):
    demo.blend = {"blueprint": weight}
    schedules = {"blueprint": parse_schedule(text)} if text else {}
    return demo.generate("a crown icon", seed=1, steps=4, schedules=schedules)


def test_steps_that_all_have_it_are_as_without_a_schedule(demo):
    assert draw(demo, 0.8, "0-1").image.tobytes() == draw(demo, 0.8).image.tobytes()
    assert draw(demo, 0.4, "0:2").image.tobytes() != draw(demo, 0.4).image.tobytes()


def test_each_share_of_the_steps_draws_another_picture(demo):
    drawn = [draw(demo, 1.0, text).image.tobytes() for text in ("0-0.5", "0.5-1", "0:0,1:1", "0-1")]
    assert len(set(drawn)) == 4


def test_the_denoiser_follows_the_schedule_and_the_text_encoder_keeps_its_weight(demo):
    seen = []
    slots = demo._slots
    module = next(
        name for name, slot in slots.items() if name.startswith("denoiser.") and hasattr(slot.module, "names")
    )
    text = next(name for name, slot in slots.items() if name.startswith("text") and hasattr(slot.module, "names"))
    demo.blend = {"blueprint": 0.8}
    demo.generate(
        "a crown icon", seed=1, steps=4, schedules={"blueprint": parse_schedule("0-0.5")},
        on_step=lambda done, of: seen.append((float(slots[module].module.weights), float(slots[text].module.weights))),
    )  # fmt: skip
    assert seen == [(pytest.approx(weight), pytest.approx(0.8)) for weight in (0.8, 0.8, 0.0, 0.0)]
    assert float(slots[module].module.weights) == pytest.approx(0.8)


def test_weights_come_back_after_an_error_too(demo):
    before = draw(demo, 0.8).image.tobytes()

    def fail(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.generate("a", seed=0, steps=4, schedules={"blueprint": parse_schedule("0:0.1")}, on_step=fail)
    assert demo.generate("a crown icon", seed=1, steps=4).image.tobytes() == before


def test_a_schedule_of_nobody_is_refused(demo):
    with pytest.raises(TargetError, match="nobody"):
        demo.generate("a", seed=0, steps=1, schedules={"nobody": parse_schedule("0-0.5")})


def test_the_command_line_takes_schedules_and_the_picture_keeps_them(tmp_path):
    command = [
        "generate",
        "--base",
        "demo",
        "--prompt",
        "a crown icon",
        "--steps",
        "2",
        "--out",
        str(tmp_path / "a.png"),
    ]
    assert run([*command, "--adapter", f"{adapters()['blueprint']}:0.8", "--schedule", "blueprint=0-0.5"]) == 0
    assert read_settings(tmp_path / "a.png").schedules == {"blueprint": "0.0-0.5"}
    assert run([*command, "--schedule", "0-0.5"]) == 2
