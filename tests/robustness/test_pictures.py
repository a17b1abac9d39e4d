"""Any picture is trained on, or listed with its reason; the rest goes on, quietly, and bombs cost next to nothing."""

import json
import re
import subprocess
import sys

import pytest

from datasets_tools import load_image
from datasets_tools.image import FORMATS
from tests.datasets_tools.page import Page
from tests.robustness.pictures import BOMBS, EITHER, READ, bombs, cases, ycck

CASES = list(cases())

# All in one process of its own: what C libraries write to the terminal is seen only from outside.
VERBS = """
import json, sys
from pathlib import Path
from datasets_tools.check import DataSettings, check_folder
from datasets_tools.prepare import prepare_folder
from datasets_tools.report import write_report
folder, page = Path(sys.argv[1]), Path(sys.argv[2])
report = check_folder(folder, DataSettings())
prepared = prepare_folder(folder, DataSettings())
write_report(report, page)
print(json.dumps({
    "sights": [sight.record.file for sight in report.sights],
    "refused": {one.file: one.reason for one in report.findings if one.code == "image-unreadable"},
    "remedies": [one.remedy for one in report.findings if one.severity == "blocks"],
    "quarantined": {one.file: one.reason for one in prepared.quarantined},
    "images": prepared.images,
}))
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Check and prepare a folder of all cases and write its page, once; return what was said of them."""
    root = tmp_path_factory.mktemp("corpus")
    folder = root / "pictures"
    folder.mkdir()
    for name, data, _ in CASES:
        (folder / name).write_bytes(data)
    command = [sys.executable, "-W", "default", "-c", VERBS, str(folder), str(root / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    manifest = {row["file"]: row for row in map(json.loads, lines)}
    said = json.loads(done.stdout)
    return {**said, "manifest": manifest, "stderr": done.stderr, "root": root, "folder": folder}


@pytest.mark.parametrize(("name", "data", "expected"), CASES, ids=[name for name, _, _ in CASES])
def test_each_picture_is_in_the_manifest_or_refused_with_its_reason(outcome, name, data, expected):
    reason = outcome["refused"].get(name)
    assert (name in outcome["manifest"]) == (reason is None)
    assert outcome["quarantined"].get(name) == reason
    if expected == READ:
        assert reason is None
    elif expected != EITHER:
        assert expected in str(reason)


def test_nothing_is_dropped_without_being_listed(outcome):
    names = {name for name, _, _ in CASES}
    assert outcome["manifest"].keys() | outcome["refused"].keys() == names
    assert outcome["images"] == len(outcome["manifest"]) == len(outcome["sights"]) > 150
    assert len(outcome["refused"]) > 100


def test_no_library_writes_to_the_terminal(outcome):
    assert outcome["stderr"] == ""


def test_reasons_speak_of_the_picture_and_not_of_the_code_that_read_it(outcome):
    inner = re.compile(r"Error|<_io|0x[0-9a-f]{6}|Plugin|DOS attack|decoder error|MAX_|b'", re.IGNORECASE)
    assert {name: reason for name, reason in outcome["refused"].items() if inner.search(reason)} == {}
    assert all(reason.startswith("it ") and "\n" not in reason for reason in outcome["refused"].values())
    assert all(outcome["remedies"])


def test_the_page_has_every_picture_and_every_refusal(outcome):
    page = Page((outcome["root"] / "page.html").read_text(encoding="utf-8"))
    missing = [name for name in (*outcome["manifest"], *outcome["refused"]) if name not in page.text]
    assert missing == []


def test_no_file_beside_the_manifest_is_made_and_no_picture_is_touched(outcome):
    assert {path.name for path in outcome["folder"].iterdir()} == {name for name, _, _ in CASES} | {"manifest.jsonl"}
    assert all((outcome["folder"] / name).read_bytes() == data for name, data, _ in CASES)


@pytest.mark.parametrize("colour", [(200, 40, 30), (20, 200, 60), (250, 250, 250), (5, 5, 5)])
def test_inverted_inks_of_photoshop_come_out_in_their_colours(colour):
    found = load_image(ycck(colour)).getpixel((16, 16))
    assert max(abs(a - b) for a, b in zip(found, colour, strict=True)) <= 4


def test_a_picture_with_a_known_kind_that_cannot_be_read_is_not_called_truncated(outcome):
    """Copying a whole file again would be in vain."""
    for name in ("tiff half float.tif", "jpeg 12 bit.jpg"):
        assert "rare kind" in outcome["refused"][name]


def test_the_limit_that_is_told_is_the_limit_that_is_applied(outcome):
    told = [reason for name, reason in outcome["refused"].items() if name.startswith(BOMBS)]
    assert len(told) >= 8
    assert all("at most 64,000,000" in reason for reason in told)


MEASURE = """
import os, resource, sys, time
from pathlib import Path
from datasets_tools.errors import UnreadableImage
from datasets_tools.image import load_image
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
load_image(Path(sys.argv[1]))  # what the libraries take to begin with is not the bomb's
for name in sys.argv[2:]:
    if os.fork() == 0:
        before, began = peak(), time.perf_counter()
        try:
            load_image(Path(name))
        except UnreadableImage:
            print(time.perf_counter() - began, (peak() - before) * 1024, Path(name).name, sep="|", flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures each bomb in a fork of its own")
def test_a_bomb_is_refused_within_a_tenth_of_a_second_and_64_megabytes(tmp_path):
    harmless = tmp_path / "harmless.png"
    harmless.write_bytes(next(data for name, data, _ in CASES if name == "mode RGB.png"))
    dangerous = [*bombs(), *(case for case in CASES if case[0].endswith("bomb.png"))]
    for name, data, _ in dangerous:
        assert len(data) < 100_000
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name, _, _ in dangerous]
    command = [sys.executable, "-c", MEASURE, str(harmless), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split("|") for line in done.stdout.splitlines()]
    cost = {name: (float(seconds), int(extra)) for seconds, extra, name in lines}
    assert cost.keys() == {name for name, _, _ in dangerous}
    assert {name: found for name, found in cost.items() if found[0] > 0.1 or found[1] > 64_000_000} == {}


def test_this_pillow_reads_every_format_that_is_promised():
    assert {"JPEG", "PNG", "WEBP", "TIFF", "BMP"} <= set(FORMATS)
