"""Edits of chosen pictures touch no other, and edits by name are checked before anything is edited."""

import pytest
from PIL import Image

from datasets_tools import (
    InvalidSetting,
    OnlyFor,
    apply_edits,
    describe_pictures,
    edit_named,
    exclude_pictures,
    set_captions,
    undo_edits,
)


@pytest.fixture
def folder(tmp_path):
    for name in ("[a].png", "a.png", "b.png"):
        Image.new("RGB", (40, 40), "red").save(tmp_path / name)
    (tmp_path / "b.txt").write_text("[trigger], a boat\n")
    return tmp_path


def captions(folder):
    return {each.file: each.caption for each in describe_pictures(folder)}


def test_a_caption_is_set_for_one_picture_alone_and_can_be_undone(folder):
    set_captions(folder, {"[a].png": "two\nlines"})
    assert captions(folder) == {"[a].png": "two, lines", "a.png": "", "b.png": "[trigger], a boat"}
    undo_edits(folder)
    assert captions(folder)["[a].png"] == ""


def test_a_caption_of_no_picture_is_refused(folder):
    with pytest.raises(InvalidSetting, match="not a picture"):
        set_captions(folder, {"a.png": "x", "*": "everything"})
    assert captions(folder)["a.png"] == ""


def test_an_edit_for_some_leaves_the_others(folder):
    edit = edit_named("append", {"text": "sea"})
    apply_edits(folder, [OnlyFor(edit=edit, files=frozenset({"b.png"}))])
    assert captions(folder) == {"[a].png": "", "a.png": "", "b.png": "[trigger], a boat, sea"}


def test_a_description_says_what_is_left_out_and_where_captions_stand(folder):
    exclude_pictures(folder, ["a.png"])
    rows = {each.file: each for each in describe_pictures(folder)}
    assert [each.excluded for each in rows.values()] == [False, True, False]
    assert [each.source for each in rows.values()] == ["", "", "b.txt"]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("repalce", {}, "did you mean replace"),
        ("replace", {}, "needs old"),
        ("replace", {"old": "a", "colour": 1}, "has no colour"),
        ("replace", {"old": 3}, "old of replace is 3"),
        ("replace", {"old": "a", "regex": 1}, "regex of replace is 1"),
        ("dropout", {"probability": True}, "probability of dropout is True"),
        ("replace", {"old": "(", "regex": True}, "not a pattern"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_by_name(name, options, said):
    with pytest.raises(InvalidSetting, match=said):
        edit_named(name, options)
