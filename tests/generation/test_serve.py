"""The drawing process: what it draws is what generate draws, and nothing that is asked ends or blocks it."""

import base64
import io
import itertools
import json
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from lora_diffusion.cli import run
from lora_diffusion.generation.picture import read_settings
from lora_diffusion.generation.preview import MAX_JPEG
from lora_diffusion.training import loop
from tests import tiny
from tests.generation.serving import serving

# the samplers of diffusers turn tensors into arrays in a way that numpy 2 would have otherwise
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def adapters(base, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    plans = [tiny.plan(base, pictures, folder / str(seed), f"run.seed={seed}", "optim.lr=0.05") for seed in (1, 2, 3)]
    return [loop.train(plan).adapter for plan in plans]


@pytest.fixture(scope="module")
def server():
    with serving("--precision", "no") as talk:
        yield talk


@pytest.fixture
def ask(server, base, tmp_path):
    """Ask for a picture with a few of the fields, and return its id and all that is told of it."""

    def ask(**fields):
        return server.answer(**request(base, tmp_path, **fields))

    return ask


def request(where, into, **fields):
    named = {"id": f"r{next(NUMBERS)}", "do": "draw", "base": str(where), "prompt": "a star", "steps": 3, "seed": 5}
    return {**named, "folder": str(into), **fields}


def bytes_of(event):
    return Path(event["path"]).read_bytes()


def drawn(told):
    return [event for event in told if event["event"] == "picture"]


def test_it_draws_the_same_bytes_as_generate(server, base, adapters, tmp_path):
    parts = [f"{adapters[1]}:0.8@text=0", f"{adapters[0]}:-0.3"]
    server.answer(**request(base, tmp_path, parts=[f"{adapters[2]}:1", f"{adapters[0]}:1"]))  # others were there before
    told = server.answer(**request(base, tmp_path, parts=parts, count=2, sampler="euler_a", negative="a cat"))
    command = ["generate", "--base", base, "--prompt", "a star", "--steps", 3, "--seed", 5, "--precision", "no"]
    more = ["--adapter", parts[0], "--adapter", parts[1], "--count", 2, "--sampler", "euler_a", "--negative", "a cat"]
    assert run([str(each) for each in [*command, *more, "--out", tmp_path / "g.png"]]) == 0
    for number, event in enumerate(drawn(told)):
        ours = tmp_path / f"g-{number}.png"
        assert bytes_of(event) == ours.read_bytes()


def test_events_come_in_order_and_settings_are_those_in_the_file(ask):
    told = ask(count=2)
    kinds = [event["event"] for event in told if event["event"] != "loading"]
    assert kinds == ["step", "step", "step", "picture"] * 2 + ["done"]
    assert [(each["done"], each["of"], each["picture"]) for each in told if each["event"] == "step"][-1] == (3, 3, 1)
    for event in drawn(told):
        assert event["settings"] == json.loads(json.dumps(vars(read_settings(event["path"]))))


def test_names_of_adapters_come_with_the_request(ask, adapters):
    (event,) = drawn(
        ask(parts=[f"{adapters[0]}:0.5"], names={str(adapters[0]): "Spring"}, schedules={"Spring": "0-0.5"})
    )
    assert event["settings"]["adapters"] == {"Spring": 0.5}
    assert event["settings"]["schedules"] == {"Spring": "0.0-0.5"}


def test_a_second_request_loads_nothing_and_a_changed_file_is_loaded_again(ask, adapters, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(adapters[0].read_bytes())
    loads = lambda told: [event["what"] for event in told if event["event"] == "loading"]  # noqa: E731
    first = ask(parts=[f"{path}:0.5"])
    assert "adapter" in loads(first)
    assert loads(ask(parts=[f"{path}:0.7"])) == []
    path.write_bytes(adapters[1].read_bytes())
    again = ask(parts=[f"{path}:0.5"])
    assert loads(again) == ["adapter"]
    assert drawn(again)[0]["settings"]["fingerprints"] != drawn(first)[0]["settings"]["fingerprints"]


def test_previews_are_small_jpegs(ask):
    told = ask(steps=5, preview_every=2)
    previews = [event for event in told if event["event"] == "preview"]
    assert [event["done"] for event in previews] == [2, 4]
    for event in previews:
        data = base64.b64decode(event["jpeg"])
        assert len(data) <= MAX_JPEG
        assert Image.open(io.BytesIO(data)).format == "JPEG"


def test_a_stop_ends_a_picture_within_a_step_and_the_next_is_as_ever(server, base, tmp_path):
    before = drawn(server.answer(**request(base, tmp_path)))[0]
    server.send(**request(base, tmp_path, id="long", steps=900))
    assert server.until("step")[-1]["id"] == "long"
    server.send(id="long", do="stop")
    told = server.until("stopped")
    assert told[-1] == {"event": "stopped", "id": "long"}
    assert all(each["done"] < 800 for each in told[:-1])
    after = drawn(server.answer(**request(base, tmp_path)))[0]
    assert bytes_of(after) == bytes_of(before)
    assert not list(tmp_path.glob("long*"))


def test_a_request_that_waits_can_be_stopped(server, base, tmp_path):
    server.send(**request(base, tmp_path, id="first", steps=200))
    server.send(**request(base, tmp_path, id="second"))
    server.send(id="second", do="stop")
    assert server.until("stopped")[-1]["id"] == "second"
    server.send(id="first", do="stop")
    assert server.until("stopped")[-1]["id"] == "first"
    assert not list(tmp_path.glob("second*"))


WRONG = [
    ("seed", 10**30), ("count", 10**9), ("width", 10**9), ("height", 10**9), ("steps", 10**9), ("guidance", 10**9),
    ("strength", 10**9), ("preview_every", 10**9), ("steps", "20"), ("steps", True), ("guidance", float("nan")),
    ("width", 63), ("width", -8), ("prompt", None), ("prompt", "x" * 30_000), ("sampler", "eulr"), ("parts", "a"),
    ("parts", ["no such.safetensors:1"]), ("parts", ["A:1"] * 65), ("base", "/no/model"), ("folder", "relative"),
    ("image", "/no/picture.png"), ("schedules", {"x": "0-0.5"}), ("schedules", {"x": "nonsense"}), ("surprise", 1),
    ("id", "../up"), ("id", ["x"]),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda each: str(each)[:20])
def test_what_cannot_be_drawn_fails_with_what_is_wrong_and_what_to_do(ask, field, value):
    told = ask(**{field: value})
    assert told[-1]["event"] == "failed"
    assert told[-1]["reason"]
    assert told[-1]["hint"]
    assert told[-1]["code"] != "Fault"


BROKEN = [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"do": "dance"}', b"[" * 100_000, b'{"id": "a"}',
    b'{"do": "draw", "seed": ' + b"9" * 5000 + b"}", b"x" * 3_000_000,
]  # fmt: skip


@pytest.mark.parametrize("line", BROKEN, ids=lambda each: repr(each[:12]))
def test_a_malformed_line_is_answered_and_changes_nothing(server, base, tmp_path, line):
    server.write(line + b"\n")
    told = server.next()
    assert (told["event"], told["code"]) == ("failed", "UsageError")
    assert told["id"] in (None, "a")
    assert server.answer(**request(base, tmp_path))[-1]["event"] == "done"


def test_an_adapter_of_another_base_fails_and_those_in_place_still_draw(ask, adapters, pictures, tmp_path):
    wide = tiny.sd1(tmp_path / "wide", width=48)
    other = loop.train(tiny.plan(wide, pictures, tmp_path / "out", "run.steps=1")).adapter
    good = drawn(ask(parts=[f"{adapters[0]}:1"]))[0]
    assert ask(parts=[f"{adapters[0]}:1", f"{other}:1"])[-1]["code"] == "WrongFamily"
    again = drawn(ask(parts=[f"{adapters[0]}:1"]))[0]
    assert bytes_of(again) == bytes_of(good)


def test_a_picture_that_is_there_is_not_replaced(server, base, tmp_path):
    asked = request(base, tmp_path)
    assert server.answer(**asked)[-1]["event"] == "done"
    assert "exists" in server.answer(**asked)[-1]["reason"]


def test_memory_is_given_back_on_request(server, base, tmp_path):
    server.answer(**request(base, tmp_path))
    assert server.answer(id="u1", do="unload")[-1]["event"] == "done"
    assert "base" in [each.get("what") for each in server.answer(**request(base, tmp_path))]


def test_quit_and_the_end_of_the_lines_end_the_process_in_the_middle_of_a_picture(base, tmp_path):
    for number, end in enumerate((lambda talk: talk.send(do="quit"), lambda talk: talk.process.stdin.close())):
        with serving("--precision", "no") as talk:
            talk.send(**request(base, tmp_path, id=f"end{number}", steps=900))
            talk.until("step")
            end(talk)
            began = time.monotonic()
            assert talk.process.wait(timeout=20) == 0
            assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_thousand_changes_of_weights_cost_no_memory(base, adapters, tmp_path):
    """Pictures of one step and 64 pixels; what grows before the first hundred is warming up."""
    with serving("--precision", "no") as talk:
        sizes = []
        for number in range(1000):
            parts = [f"{path}:{(number * 7 % 20) / 10 - 1}" for path in adapters]
            told = talk.answer(**request(base, tmp_path, id=f"w{number}", parts=parts, steps=1))
            assert told[-1]["event"] == "done"
            sizes.append(psutil.Process(talk.process.pid).memory_info().rss)
        assert sizes[-1] - sizes[100] < 5e6
