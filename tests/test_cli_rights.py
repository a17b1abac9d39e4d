"""`lora-diffusion rights`: what is stated on the command line stands in rights.csv and can be undone."""

import json

import pytest

from lora_diffusion.cli import run
from tests import tiny


def answer(capsys, *arguments, code=0):
    """Run a command with --json and return its object."""
    found = run([*map(str, arguments), "--json"])
    printed = capsys.readouterr()
    assert found == code, printed.err
    return json.loads(printed.out)


@pytest.fixture
def folder(tmp_path):
    return tiny.pictures(tmp_path / "p", 3)


def test_rights_are_stated_for_all_or_some_listed_and_undone(capsys, folder):
    names = [row["file"] for row in answer(capsys, "rights", "list", folder)["rights"]]
    answer(capsys, "rights", "set", folder, "--owner", "Ana", "--licence", "in house")
    done = answer(capsys, "rights", "set", folder, names[0], "--expires", "2030-12-31", "--consent", "by mail")
    assert [row["file"] for row in done["rights"]] == [names[0]]
    rows = answer(capsys, "rights", "list", folder)["rights"]
    assert [row["owner"] for row in rows] == ["Ana"] * 3
    assert [row["expires"] for row in rows] == ["2030-12-31", "", ""]
    answer(capsys, "caption", "undo", folder)
    answer(capsys, "caption", "undo", folder)
    assert not (folder / "rights.csv").exists()


def test_what_cannot_be_stated_is_refused_with_the_remedy(capsys, folder):
    assert run(["rights", "set", str(folder), "--expires", "31.12.2030"]) == 2
    assert "YYYY-MM-DD" in capsys.readouterr().err
    assert run(["rights", "set", str(folder), "no.png", "--owner", "Ana"]) == 2
    assert "no.png is not a picture" in capsys.readouterr().err
    assert not (folder / "rights.csv").exists()


def test_a_check_that_requires_rights_is_satisfied_by_what_is_stated(capsys, folder):
    answer(capsys, "check", folder, "rights=require", "resolution=128", code=1)
    answer(capsys, "rights", "set", folder, "--owner", "Ana")
    found = answer(capsys, "check", folder, "rights=require", "resolution=128")
    assert found["counts"]["rights_missing"] == 0


def test_a_name_that_a_terminal_would_obey_is_printed_harmless(capsys, folder):
    next(folder.glob("*.png")).rename(folder / "a\x1b]0;owned\x07\u202e.png")
    assert run(["rights", "list", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "a\ufffd]0;owned\ufffd\ufffd.png" in printed
