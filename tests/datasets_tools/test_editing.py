import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_tools import storage
from datasets_tools.caption import find_captions
from datasets_tools.edit import Append, Prepend, Remove, Replace, Shuffle, edited
from datasets_tools.editing import (
    apply_edits,
    edit_history,
    exclude_pictures,
    include_pictures,
    preview_edits,
    undo_edits,
    write_captions,
)
from datasets_tools.errors import DatasetError, InvalidManifest, InvalidSetting, NoImages
from datasets_tools.listing import list_folder
from tests.datasets_tools import corpus

CSV = b'\xef\xbb\xbffile_name;text;note\r\ne.png;"from csv; quoted";1\r\ng.png;untouched;"2\r\n3"\r\n'
JSONL = b'{"file_name":"d.png",  "caption":"from json", "owner":"Ada"}\n{"file_name": "g2.png", "text": "other"}\n'
SET = {
    "a.png": b"x",
    "a.txt": b"a house\r\n",
    "b.png": b"x",
    "b.caption": b"a boat",
    "c.png": b"x",
    "c.png.txt": "un café".encode("cp1252"),
    "d.png": b"x",
    "e.png": b"x",
    "f.png": b"x",
    "g.png": b"x",
    "g2.png": b"x",
    "sub/h.png": b"x",
    "sub/metadata.csv": b"file_name,text\nh.png,deep\n",
    "metadata.csv": CSV,
    "metadata.jsonl": JSONL,
}


@pytest.fixture
def folder(tmp_path):
    for name, data in SET.items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "set"


def files(folder):
    """Every file that a person sees."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: (folder / name).read_bytes() for name in names if "/." not in f"/{name}"}


def captions(folder):
    listing = list_folder(folder)
    found = find_captions(folder, listing.pictures, listing.texts)
    return {image: caption.text for image, caption in found.by_image.items()}


BRAND = [Prepend(text="brndx")]


def test_each_caption_is_written_back_where_it_came_from(folder):
    before = captions(folder)
    applied = apply_edits(folder, BRAND)
    assert captions(folder) == {image: f"brndx, {text}" for image, text in before.items()} | {"f.png": "brndx"}
    sources = {one.file: one.source for one in applied.edited}
    assert sources == {
        "a.png": "a.txt",
        "b.png": "b.caption",
        "c.png": "c.png.txt",
        "d.png": "metadata.jsonl",
        "e.png": "metadata.csv",
        "f.png": "f.txt",
        "g.png": "metadata.csv",
        "g2.png": "metadata.jsonl",
        "sub/h.png": "sub/metadata.csv",
    }
    assert set(applied.entry.files) == set(sources.values())


def test_every_other_row_and_column_of_a_metadata_file_stays(folder):
    apply_edits(folder, [Replace(old="from", new="of")])
    assert (folder / "metadata.csv").read_bytes() == CSV.replace(b"from csv", b"of csv")
    rows = list(map(json.loads, (folder / "metadata.jsonl").read_bytes().splitlines()))
    assert rows[0] == {"file_name": "d.png", "caption": "of json", "owner": "Ada"}
    assert (folder / "metadata.jsonl").read_bytes().endswith(JSONL.splitlines(keepends=True)[1])


def test_a_preview_says_what_would_change_and_changes_nothing(folder):
    before = files(folder)
    preview = preview_edits(folder, BRAND)
    assert files(folder) == before
    assert not (folder / ".captions").exists()
    assert preview == apply_edits(folder, BRAND).edited
    assert [(one.before, one.after) for one in preview if one.file == "a.png"] == [("a house", "brndx, a house")]


def test_undoing_restores_every_byte_and_removes_what_was_made(folder):
    before = files(folder)
    applied = apply_edits(folder, BRAND)
    assert files(folder) != before
    assert undo_edits(folder).files == applied.entry.files
    assert files(folder) == before


def test_changes_are_undone_one_by_one_from_the_last(folder):
    states = [files(folder)]
    for word in ("one", "two", "three"):
        apply_edits(folder, [Append(text=word)], when=f"at {word}")
        states.append(files(folder))
    assert [undo_edits(folder).when for _ in range(2)] == ["at three", "at two"]
    assert files(folder) == states[1]
    apply_edits(folder, [Append(text="four")])
    assert [undo_edits(folder).what for _ in range(2)] == [('put "four" last',), ('put "one" last',)]
    assert files(folder) == states[0]
    with pytest.raises(DatasetError, match="is undone"):
        undo_edits(folder)


def test_the_history_tells_what_was_done(folder):
    assert edit_history(folder) == ()
    apply_edits(folder, [Prepend(text="x"), Remove(text="deep")], select="a.png", when="2030-01-01 12:00")
    apply_edits(folder, BRAND)
    undo_edits(folder)
    first, second = edit_history(folder)
    assert first.what == ('put "x" first', 'remove tag "deep"')
    assert (first.number, first.when, first.files, first.undone) == (1, "2030-01-01 12:00", ("a.txt",), False)
    assert second.undone


def test_edits_that_change_nothing_leave_no_trace_in_the_history(folder):
    before = files(folder)
    applied = apply_edits(folder, [Replace(old="zebra", new="x")])
    assert (applied.entry, applied.edited) == (None, ())
    assert (files(folder), edit_history(folder)) == (before, ())


@pytest.mark.parametrize("change", [lambda path: path.write_text("mine"), Path.unlink])
def test_undoing_refuses_where_a_file_was_changed_since_and_restores_nothing(folder, change):
    apply_edits(folder, BRAND)
    change(folder / "b.caption")
    now = files(folder)
    with pytest.raises(DatasetError, match=r"b\.caption was changed since"):
        undo_edits(folder)
    assert files(folder) == now


@pytest.mark.parametrize(
    ("select", "touched"),
    [("a.png", {"a.png"}), ("sub/*", {"sub/h.png"}), ("[ab].png", {"a.png", "b.png"}), ("h.*", {"sub/h.png"})],
)
def test_a_glob_selects_pictures_by_path_or_name(folder, select, touched):
    assert {one.file for one in apply_edits(folder, BRAND, select=select).edited} == touched


def test_a_glob_that_matches_nothing_is_refused(folder):
    with pytest.raises(InvalidSetting, match=r"'\*\.jpg'"):
        apply_edits(folder, BRAND, select="*.jpg")


def test_a_caption_file_that_cannot_be_read_is_never_overwritten(folder):
    (folder / "f.txt").write_bytes(b"\0broken")
    before = files(folder)
    with pytest.raises(DatasetError, match=r"f\.txt has a NUL byte"):
        apply_edits(folder, BRAND)
    assert files(folder) == before


def test_an_edit_that_fails_on_one_caption_changes_none(folder):
    before = files(folder)
    with pytest.raises(InvalidSetting, match="cannot replace"):
        apply_edits(folder, [Prepend(text="x"), Replace(old="deep", new=r"\7", regex=True)])
    assert files(folder) == before


def test_a_missing_folder_is_named_and_not_made(tmp_path):
    with pytest.raises(NoImages, match="does not exist"):
        apply_edits(tmp_path / "no", BRAND)
    assert not (tmp_path / "no").exists()


def test_a_new_sidecar_belongs_to_one_picture_only(folder):
    (folder / "d.jpg").write_bytes(b"x")
    apply_edits(folder, BRAND, select="d.jpg")
    assert (folder / "d.jpg.txt").read_text() == "brndx\n"
    assert captions(folder)["d.png"] == "from json"


def test_pictures_that_share_a_sidecar_are_edited_together(folder):
    (folder / "a.jpg").write_bytes(b"x")
    (folder / "a.txt").write_bytes(b"one, two, three, four, five")
    preview = preview_edits(folder, [Shuffle(keep=0)], select="a.*")
    assert {one.file for one in preview} == {"a.png", "a.jpg"}
    assert len({one.after for one in preview}) == 1
    apply_edits(folder, [Shuffle(keep=0)], select="a.*")
    assert captions(folder)["a.png"] == captions(folder)["a.jpg"] == preview[0].after


def test_a_caption_that_stands_for_a_folder_is_left_to_the_others(folder):
    (folder / "sub" / "metadata.csv").write_bytes(b"file_name,text\n*,deep\n")
    (folder / "sub" / "i.png").write_bytes(b"x")
    apply_edits(folder, BRAND, select="h.png")
    assert (folder / "sub" / "h.txt").read_text() == "brndx, deep\n"
    assert captions(folder)["sub/i.png"] == "deep"


def test_a_spreadsheet_in_an_old_encoding_becomes_utf8_that_spreadsheets_know(folder):
    (folder / "metadata.csv").write_bytes("file_name;text\ng.png;grün\n".encode("cp1252"))
    apply_edits(folder, [Append(text="日本")], select="g.png")
    assert (folder / "metadata.csv").read_bytes() == "file_name;text\ng.png;grün, 日本\n".encode("utf-8-sig")


def test_a_utf16_table_stays_one(folder):
    (folder / "metadata.csv").write_bytes("file_name\ttext\ng.png\tgrün\n".encode("utf-16"))
    apply_edits(folder, [Append(text="日本")], select="g.png")
    assert (folder / "metadata.csv").read_bytes().decode("utf-16") == "file_name\ttext\ng.png\tgrün, 日本\n"


class Stopped(BaseException):
    """As KeyboardInterrupt and SystemExit: not an Exception."""


def stop_from(monkeypatch, number, *, once):
    """Stop at the n-th boundary, or at every one from there on, as a dead process would."""
    passed = []

    def boundary(kind, path):
        passed.append(kind)
        if (len(passed) == number) if once else (len(passed) >= number):
            raise Stopped

    monkeypatch.setattr(storage, "_boundary", boundary)
    return passed


def boundaries(folder, monkeypatch, do):
    copy = folder.parent / "probe"
    shutil.copytree(folder, copy)
    passed = stop_from(monkeypatch, 0, once=True)
    do(copy)
    monkeypatch.undo()
    return len(passed)


def brand(folder):
    """Edit a sidecar, a row and a caption that is new: one of each kind, because every step is tried."""
    return apply_edits(folder, BRAND, select="[adf].png")


def test_an_interruption_at_any_point_leaves_everything_as_it_was(folder, monkeypatch):
    before = files(folder)
    total = boundaries(folder, monkeypatch, lambda copy: brand(copy))
    assert total > 15
    for number in range(1, total + 1):
        stop_from(monkeypatch, number, once=True)
        with pytest.raises(Stopped):
            brand(folder)
        monkeypatch.undo()
        assert files(folder) == before
    assert brand(folder).entry is not None
    undo_edits(folder)
    assert files(folder) == before


def test_after_a_kill_at_any_point_undoing_restores_every_byte(folder, monkeypatch):
    before = files(folder)
    total = boundaries(folder, monkeypatch, lambda copy: brand(copy))
    for number in range(1, total + 1):
        stop_from(monkeypatch, number, once=False)
        with pytest.raises(Stopped):
            brand(folder)
        monkeypatch.undo()
        if edit_history(folder) and not edit_history(folder)[-1].undone:
            undo_edits(folder)
        assert files(folder) == before


def test_undoing_that_was_killed_at_any_point_can_be_done_again(folder, monkeypatch):
    before = files(folder)
    brand(folder)
    total = boundaries(folder, monkeypatch, undo_edits)
    for number in range(1, total):
        stop_from(monkeypatch, number, once=False)
        with pytest.raises(Stopped):
            undo_edits(folder)
        monkeypatch.undo()
        if not edit_history(folder)[-1].undone:
            undo_edits(folder)
        assert files(folder) == before
        brand(folder)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_real_kill_between_two_files_is_undone_by_the_next_process(folder):
    before = files(folder)
    code = f"""
import os, signal
from datasets_tools import storage
from datasets_tools.edit import Prepend
from datasets_tools.editing import apply_edits
renamed = []
def boundary(kind, path):
    renamed.append(kind)
    if renamed.count("rename") == 4:
        os.kill(os.getpid(), signal.SIGKILL)
storage._boundary = boundary
apply_edits({str(folder)!r}, [Prepend(text="brndx")])
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    changed = {name for name, data in files(folder).items() if data != before.get(name)}
    assert len(changed) == 2  # of the record and two captions the record is hidden
    undo_edits(folder)
    assert files(folder) == before


def test_two_processes_that_edit_at_once_lose_nothing(folder):
    code = """
import sys
from datasets_tools.edit import Append
from datasets_tools.editing import apply_edits
for number in range(5):
    apply_edits(sys.argv[1], [Append(text=f"{sys.argv[2]}{number}")])
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(folder), name]) for name in "xy"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(edit_history(folder)) == 10
    for text in captions(folder).values():
        assert {f"{name}{number}" for name in "xy" for number in range(5)} <= set(text.split(", "))


def test_a_record_that_is_damaged_or_leads_out_of_the_folder_is_refused(folder):
    apply_edits(folder, BRAND, select="a.png")
    record = folder / ".captions" / "000001.json"
    record.write_text(record.read_text().replace('"a.txt"', '"../a.txt"'))
    with pytest.raises(InvalidManifest, match="leads out of the folder"):
        undo_edits(folder)
    record.write_text("{")
    with pytest.raises(InvalidManifest, match=r"000001\.json is damaged"):
        edit_history(folder)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_record_that_leads_out_through_a_link_is_refused(folder):
    (folder / "sub").rename(folder.parent / "elsewhere")
    (folder / "sub").mkdir()
    (folder / "sub" / "h.png").write_bytes(b"x")
    apply_edits(folder, BRAND, select="h.png")
    shutil.rmtree(folder / "sub")
    (folder / "sub").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(InvalidManifest, match=r"'sub/h\.txt', which leads out"):
        undo_edits(folder)


def test_a_folder_that_cannot_keep_the_undo_data_is_refused_and_stays(folder):
    (folder / ".captions").write_text("in the way")
    before = files(folder)
    with pytest.raises(DatasetError, match="cannot be written") as refused:
        apply_edits(folder, BRAND)
    assert refused.value.hint
    assert files(folder) == before


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(max_examples=20, deadline=None)
@given(texts=st.tuples(TEXTS, TEXTS, TEXTS), word=st.sampled_from(["x", 'a; "b", c', "日本 🎨"]), old=st.booleans())
def test_any_captions_in_any_source_are_edited_and_come_back(tmp_path_factory, texts, word, old):
    folder = tmp_path_factory.mktemp("set")
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(b"x")
    (folder / "a.txt").write_bytes(texts[0].encode("utf-8-sig" if old else "utf-8"))
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-16" if old else "utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("file_name", "text"), ("b.png", texts[1])])
    (folder / "metadata.jsonl").write_text(
        json.dumps({"file_name": "c.png", "text": texts[2]}, ensure_ascii=not old), encoding="utf-8"
    )
    before, was = files(folder), captions(folder)
    edits = [Append(text=word)]
    applied = apply_edits(folder, edits)
    assert captions(folder) == {image: edited(text, edits, file=image) for image, text in was.items()}
    assert len(applied.edited) == 3
    undo_edits(folder)
    assert files(folder) == before


def test_pictures_are_left_out_and_taken_in_again_beside_what_the_rows_say(folder):
    before = files(folder)
    exclude_pictures(folder, ["d.png", "sub/h.png"], when="today")
    found = find_captions(folder, ["d.png", "e.png", "sub/h.png"], ["metadata.jsonl"])
    assert set(found.excluded) == {"d.png", "sub/h.png"}
    assert (found.by_image["d.png"].text, found.rights["d.png"].owner) == ("from json", "Ada")
    include_pictures(folder, ["sub/h.png"])
    assert set(find_captions(folder, ["d.png", "sub/h.png"], ["metadata.jsonl"]).excluded) == {"d.png"}
    assert [entry.what for entry in edit_history(folder)] == [("exclude 2 pictures",), ("include 1 picture",)]
    undo_edits(folder)
    undo_edits(folder)
    assert files(folder) == before


def test_a_picture_of_a_folder_that_is_left_out_can_be_taken_in(folder):
    (folder / "sub" / "metadata.csv").write_bytes(b"file_name,exclude\n*,true\n")
    include_pictures(folder, ["sub/h.png"])
    texts = ["metadata.jsonl", "sub/metadata.csv"]
    assert set(find_captions(folder, ["sub/h.png", "sub/i.png"], texts).excluded) == {"sub/i.png"}


def test_metadata_is_made_where_it_is_absent(folder):
    (folder / "metadata.jsonl").unlink()
    exclude_pictures(folder, ["a.png"])
    assert (folder / "metadata.jsonl").read_text() == '{"file_name": "a.png", "exclude": true}\n'


def test_excluding_what_is_no_picture_or_is_out_already_changes_nothing(folder):
    with pytest.raises(InvalidSetting, match=r"zebra\.png"):
        exclude_pictures(folder, ["a.png", "zebra.png"])
    assert include_pictures(folder, ["a.png"]).entry is None
    assert edit_history(folder) == ()


@dataclass(frozen=True)
class Shouting:
    """A captioner that fails on one picture and says nothing about another."""

    name: str = "shouting"

    def caption(self, file):
        if file.name == "j.png":
            raise RuntimeError("no")
        return "" if file.name == "k.png" else f"{file.stem.upper()}\n!"


def test_captions_are_written_only_where_there_is_none(folder, caplog):
    for name in ("i.png", "j.png", "k.png", "l.png"):
        (folder / name).write_bytes(b"x")
    (folder / "i.txt").write_text(" \n")
    exclude_pictures(folder, ["l.png"])
    before = files(folder)
    seen = []
    applied = write_captions(folder, Shouting(), on_progress=lambda *done: seen.append(done))
    assert {one.file: one.after for one in applied.edited} == {"f.png": "F, !", "i.png": "I, !"}
    assert applied.skipped == ("j.png", "k.png")
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "shouting failed" in caplog.text
    assert {name for name, data in files(folder).items() if before.get(name) != data} == {"f.txt", "i.txt"}
    undo_edits(folder)
    assert files(folder) == before


def test_all_captions_are_replaced_on_request_and_can_be_undone(folder, monkeypatch):
    monkeypatch.setattr("datasets_tools.editing._BATCH", 2)
    (folder / "metadata.csv").write_bytes(b'file_name,text\ne.png,"two\nlines"\ng.png,last\n')
    before = files(folder)
    write_captions(folder, Shouting(), overwrite=True)
    assert captions(folder) == {
        f"{path}.png": f"{path[-1:] if '/' in path else path}".upper() + ", !"
        for path in ("a", "b", "c", "d", "e", "f", "g", "g2", "sub/h")
    }
    undo_edits(folder)
    assert files(folder) == before


def test_what_was_captioned_before_a_stop_stays_and_can_be_undone(folder, monkeypatch):
    monkeypatch.setattr("datasets_tools.editing._BATCH", 2)
    for number in range(6):
        (folder / f"z{number}.png").write_bytes(b"x")
    before = files(folder)

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_captions(folder, Shouting(), on_progress=stop)
    assert set(files(folder)) - set(before) == {"f.txt", "z0.txt", "z1.txt", "z2.txt"}
    undo_edits(folder)
    assert files(folder) == before


def test_pictures_whose_captions_no_file_can_hold_are_named_before_any_is_captioned(folder, monkeypatch):
    monkeypatch.setattr("datasets_tools.editing._BATCH", 2)
    for ending in ("png", "jpg"):  # equal stems: the caption file is named after the whole name, 259 bytes
        (folder / f"{'x' * 251}.{ending}").write_bytes(b"x")
    before, seen = files(folder), []
    with pytest.raises(DatasetError, match=r"xxx\.(png|jpg)\.txt cannot be written") as refused:
        write_captions(folder, Shouting(), on_progress=lambda *done: seen.append(done))
    assert "shorter name" in refused.value.hint
    assert (files(folder), seen, edit_history(folder)) == (before, [], ())


@pytest.mark.parametrize("change", [preview_edits, apply_edits])
def test_a_folder_in_the_place_of_a_caption_is_named_and_nothing_is_written(folder, change):
    (folder / "f.txt").mkdir()
    before = files(folder)
    with pytest.raises(DatasetError, match=r"f\.txt cannot be written: a folder has that name"):
        change(folder, BRAND)
    assert (files(folder), edit_history(folder)) == (before, ())


def test_undoing_refuses_where_a_folder_took_the_place_of_a_file_and_restores_nothing(folder):
    apply_edits(folder, BRAND)
    (folder / "b.caption").unlink()
    (folder / "b.caption").mkdir()
    before = files(folder)
    with pytest.raises(DatasetError, match=r"b\.caption cannot be read"):
        undo_edits(folder)
    assert files(folder) == before


def test_four_thousand_captions_are_edited_and_undone(tmp_path):
    rows = "".join(f"{number}.png,caption {number}\n" for number in range(4_000))
    (tmp_path / "metadata.csv").write_text("file_name,text\n" + rows)
    for number in range(4_000):
        os.link(tmp_path / "0.png", tmp_path / f"{number}.png") if number else (tmp_path / "0.png").write_bytes(b"x")
    assert len(apply_edits(tmp_path, BRAND).edited) == 4_000
    assert captions(tmp_path)["3999.png"] == "brndx, caption 3999"
    undo_edits(tmp_path)
    assert (tmp_path / "metadata.csv").read_text() == "file_name,text\n" + rows


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes with names there")
def test_a_pipe_in_the_place_of_a_caption_is_refused_instead_of_waited_for(tmp_path):
    folder = corpus.photos(tmp_path / "set", 2, captions=False)
    os.mkfifo(folder / "photo 00.txt")
    for change in (preview_edits, apply_edits):
        with pytest.raises(DatasetError, match="is a pipe"):
            change(folder, [Prepend(text="x")])
    assert not (folder / "photo 01.txt").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_caption_that_is_a_link_out_of_the_folder_is_refused_and_nothing_is_copied_in(tmp_path):
    folder = corpus.photos(tmp_path / "set", 1, captions=False)
    (tmp_path / "secret.txt").write_text("the password")
    (folder / "photo 00.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(DatasetError, match="a link that leads out"):
        apply_edits(folder, [Prepend(text="x")])
    assert (folder / "photo 00.txt").is_symlink()
    assert not list((folder / ".captions").glob("*.json"))
