"""Worker processes see what this process sees, and a file that kills one of them is a finding."""

import os
import subprocess
import sys

import pytest

from datasets_tools import workers
from datasets_tools.image import Limits
from datasets_tools.journal import Journal
from datasets_tools.look import Look, look_at
from datasets_tools.scan import scan_folder
from datasets_tools.workers import Workers
from tests.datasets_tools.corpus import bomb, encoded, photos, scene


def messy(folder):
    photos(folder, 6)
    (folder / "empty.png").write_bytes(b"")
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "line\nbreak ü.jpg").write_bytes(encoded(scene(seed=9), "JPEG", quality=30))
    return folder


def test_other_processes_see_the_same(tmp_path):
    folder = messy(tmp_path)
    files = sorted(path.name for path in folder.iterdir() if path.suffix != ".txt")
    look = Look(folder=folder, background=(1, 2, 3), limits=Limits(max_side=90))
    with Workers(look, 2) as others:
        for file in files:
            here, there = look_at(file, look), others.look(file)
            assert str(here.refused) == str(there.refused)
            if here.refused is None:
                assert here == there


def test_a_scan_of_many_files_gives_the_same_in_one_process_and_in_several(tmp_path, monkeypatch):
    folder = messy(tmp_path)
    alone = scan_folder(folder, workers=1)
    monkeypatch.setattr("datasets_tools.scan._MANY", 2)
    several = scan_folder(folder, workers=3, journal=Journal(tmp_path / ".journal"))
    again = scan_folder(folder, workers=3, journal=Journal(tmp_path / ".journal"))
    assert alone == several == again


def test_a_file_that_kills_its_worker_is_a_finding_and_the_rest_goes_on(tmp_path):
    photos(tmp_path, 4)
    script = tmp_path / "sitecustomize.py"  # every worker dies when it opens this file, as by a fault in a decoder
    script.write_text(
        "import os, datasets_tools.image as image\n"
        "read = image.read_bytes\n"
        "def deadly(path, limits):\n"
        "    if 'photo 02' in str(path):\n"
        "        os.kill(os.getpid(), 11)\n"
        "    return read(path, limits)\n"
        "image.read_bytes = deadly\n"
    )
    code = (
        "import sys, datasets_tools.scan as scan\n"
        "scan._MANY = 2\n"
        "found = scan.scan_folder(sys.argv[1], workers=2)\n"
        "print([one.file for one in found.findings if one.code == 'image-unreadable'], len(found.manifest.records))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "['photo 02.png'] 3"


def test_a_file_that_never_ends_is_given_up(tmp_path, monkeypatch):
    photos(tmp_path, 2)
    monkeypatch.setattr(workers, "_SECONDS", 0.0)
    with Workers(Look(folder=tmp_path), 1) as others:
        refused = others.look("photo 00.png").refused
        assert refused is not None
        assert "for ever" in str(refused)
        monkeypatch.setattr(workers, "_SECONDS", 60.0)
        assert others.look("photo 01.png").refused is None  # by a new worker


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="counts processes in /proc")
def test_no_worker_outlives_the_scan(tmp_path):
    photos(tmp_path, 2)
    with Workers(Look(folder=tmp_path), 2) as others:
        others.look("photo 00.png")
        started = [process.pid for process in others._started]
        assert started
    assert not [pid for pid in started if os.path.isdir(f"/proc/{pid}")]
