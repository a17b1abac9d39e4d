"""Rights are stated where people find them, hold for exactly the pictures that were named, and can be taken back."""

import json

import pytest
from PIL import Image

from datasets_tools import InvalidSetting, Rights, describe_pictures, set_rights, undo_edits


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), "red").save(tmp_path / name)
    return tmp_path


def stated(folder):
    return {each.file: each.rights for each in describe_pictures(folder)}


def test_what_is_said_of_all_pictures_is_one_row_that_also_holds_for_later_ones(folder):
    set_rights(folder, owner="Ana", expires="2030-12-31")
    assert (folder / "rights.csv").read_text().splitlines()[1:] == ["*,Ana,,,,2030-12-31"]
    Image.new("RGB", (40, 40)).save(folder / "later.png")
    assert set(stated(folder).values()) == {Rights(owner="Ana", expires="2030-12-31")}


def test_what_is_said_of_one_picture_changes_no_other(folder):
    set_rights(folder, owner="Ana")
    done = set_rights(folder, files=["sub/c.png"], owner="Ben", licence="CC0")
    assert done.rights == {"sub/c.png": Rights(owner="Ben", licence="CC0")}
    assert [stated(folder)[name].owner for name in ("a.png", "b.png", "sub/c.png")] == ["Ana", "Ana", "Ben"]


def test_all_means_also_the_pictures_that_had_rows_of_their_own(folder):
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "a cat", "owner": "Old"}) + "\n")
    set_rights(folder, files=["b.png"], owner="Ben")
    set_rights(folder, owner="Ana")
    assert {rights.owner for rights in stated(folder).values()} == {"Ana"}
    assert stated(folder)["a.png"] == Rights(owner="Ana")


def test_other_columns_rows_and_line_ends_stay_as_they_are(folder):
    table = folder / "rights.csv"
    table.write_bytes(b"file_name;note;license\r\nb.png;keep; me\r\n\r\na.png;x;CC-BY\r\n")
    set_rights(folder, files=["a.png"], licence="CC0")
    lines = table.read_bytes().split(b"\r\n")
    assert lines[1] == b"b.png;keep; me"
    assert stated(folder)["a.png"].licence == "CC0"
    assert stated(folder)["b.png"].licence == "me"


def test_a_statement_is_taken_back_to_the_byte(folder):
    set_rights(folder, owner="Ana")
    before = (folder / "rights.csv").read_bytes()
    set_rights(folder, files=["a.png"], consent="by mail, 3 May")
    undo_edits(folder)
    assert (folder / "rights.csv").read_bytes() == before
    undo_edits(folder)
    assert not (folder / "rights.csv").exists()


def test_an_empty_value_takes_a_field_back(folder):
    set_rights(folder, owner="Ana", licence="CC0")
    set_rights(folder, owner="")
    assert stated(folder)["a.png"] == Rights(licence="CC0")


def test_a_value_stated_for_all_cannot_be_taken_back_for_one(folder):
    set_rights(folder, owner="Ana")
    before = (folder / "rights.csv").read_bytes()
    with pytest.raises(InvalidSetting, match=r"owner of a\.png is also stated"):
        set_rights(folder, files=["a.png"], owner="")
    assert (folder / "rights.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"expires": "31.12.2030"}, "no day"),
        ({"expires": "20301231"}, "no day"),
        ({"expires": "2030-02-30"}, "no day"),
        ({"owner": '=HYPERLINK("http://x","y")'}, "formula"),
        ({"source": "@SUM(A1)"}, "formula"),
        ({"owner": "x" * 1001}, "1001 signs"),
        ({}, "nothing is stated"),
        ({"files": [], "owner": "Ana"}, "no picture is named"),
        ({"files": ["nothere.png"], "owner": "Ana"}, "not a picture"),
        ({"files": ["../a.png"], "owner": "Ana"}, "not a picture"),
    ],
)
def test_what_cannot_be_stated_is_refused_and_nothing_is_written(folder, values, said):
    with pytest.raises(InvalidSetting, match=said):
        set_rights(folder, **values)
    assert not (folder / "rights.csv").exists()


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", 'He said "yes", twice', "@studio", "a\r\nb\x00c", "-x"])
def test_any_text_is_read_back_as_it_was_written_on_one_line(folder, text):
    set_rights(folder, files=["a.png"], owner=text)
    assert stated(folder)["a.png"].owner == text.replace("\r\n", ", ").replace("\x00", " ")
    assert stated(folder)["b.png"] == Rights()


@pytest.mark.parametrize("nobody", ["-", "n/a", "Unknown"])
def test_a_cell_that_is_only_filled_states_nobody(folder, nobody):
    set_rights(folder, owner=nobody)
    assert stated(folder)["a.png"] == Rights()
    (folder / "rights.csv").write_text(f"file_name,owner,licence\n*,{nobody},?\n", encoding="utf-8")
    assert stated(folder)["a.png"] == Rights()
