import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from datasets_tools import storage
from datasets_tools.errors import DatasetError, InvalidSetting, OutOfSpace
from datasets_tools.storage import (
    append_line,
    free_bytes,
    human_bytes,
    remove_file,
    remove_leftovers,
    replacing,
    replacing_folder,
    require_space,
    sha256_file,
    write_bytes,
    write_json,
    write_text,
)


class Stopped(BaseException):
    """As KeyboardInterrupt and SystemExit: not an Exception."""


def fail_at(monkeypatch, number, error):
    """Raise `error` at the n-th boundary (0 never) and return the list that fills with what was passed."""
    passed = []

    def boundary(kind, path):
        passed.append((kind, path))
        if len(passed) == number:
            raise error

    monkeypatch.setattr(storage, "_boundary", boundary)
    return passed


def count_boundaries(monkeypatch, write):
    passed = fail_at(monkeypatch, 0, None)
    write()
    return len(passed)


def fill_folder(path):
    with replacing_folder(path) as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "a.bin").write_bytes(b"aaa")
        (aside / "b.bin").write_bytes(b"bbb")


@pytest.mark.parametrize("error", [Stopped(), OSError(errno.EIO, "broken disk"), OSError(errno.ENOSPC, "full")])
def test_a_fault_at_any_boundary_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch, error):
    total = count_boundaries(monkeypatch, lambda: write_bytes(tmp_path / "probe", b"x"))
    assert total >= 4
    (tmp_path / "probe").unlink()
    for number in range(1, total + 1):
        file = tmp_path / f"file {number}.json"
        file.write_bytes(b"old")
        fail_at(monkeypatch, number, error)
        with pytest.raises((Stopped, OSError, OutOfSpace)):
            write_bytes(file, b"new and longer")
        renamed = number == total  # only the last boundary, forcing the folder, lies behind the rename
        assert file.read_bytes() == (b"new and longer" if renamed else b"old")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"file {n}.json" for n in range(1, total + 1)]


def test_a_fault_at_any_boundary_leaves_no_half_folder(tmp_path, monkeypatch):
    total = count_boundaries(monkeypatch, lambda: fill_folder(tmp_path / "probe"))
    assert total >= 7  # write, two files, two folders, rename, parent
    for number in range(1, total + 1):
        folder = tmp_path / f"folder {number}"
        fail_at(monkeypatch, number, Stopped())
        with pytest.raises(Stopped):
            fill_folder(folder)
        assert folder.exists() == (number == total)
        if folder.exists():
            assert (folder / "deep/a.bin").read_bytes() == b"aaa"
    assert remove_leftovers(tmp_path) == 0


def test_files_are_forced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    passed = fail_at(monkeypatch, 0, None)
    fill_folder(tmp_path / "new")
    kinds = [kind for kind, _ in passed]
    rename = kinds.index("rename")
    forced = [path.name for kind, path in passed[:rename] if kind == "fsync"]
    assert {"a.bin", "b.bin", "deep"} <= set(forced)
    assert passed[rename + 1] == ("fsync", tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_kill_in_the_middle_leaves_the_old_file_and_a_leftover_that_can_be_removed(tmp_path):
    (tmp_path / "a.json").write_text("old")
    code = f"""
import os, signal
from pathlib import Path
from datasets_tools import storage
storage._boundary = lambda kind, path: kind == "rename" and os.kill(os.getpid(), signal.SIGKILL)
storage.write_text(Path({str(tmp_path)!r}) / "a.json", "new")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert (tmp_path / "a.json").read_text() == "old"
    assert remove_leftovers(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_file_is_removed_and_its_folder_forced(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "x")
    passed = fail_at(monkeypatch, 0, None)
    remove_file(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []
    assert passed[-1] == ("fsync", tmp_path)
    remove_file(tmp_path / "a.txt")


def test_an_error_of_the_writer_passes_through_and_keeps_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(file) as temporary:
        temporary.write_text(str(1 / 0))
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_refusal_while_reading_elsewhere_is_not_blamed_on_the_file_written(tmp_path):
    with pytest.raises(PermissionError), replacing(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "no", "/elsewhere/secret.txt")


def test_the_temporary_keeps_the_suffix_and_the_folder(tmp_path):
    with replacing(tmp_path / "new folder" / "sheet ü.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path / "new folder"
        temporary.write_bytes(b"x")


def test_json_and_text_are_read_back_as_written(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Grüße 日本", "n": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "Grüße 日本", "n": [1, 2.5, None]}
    write_text(tmp_path / "a.txt", "a\r\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"a\r\nb\n"


def test_not_a_number_is_refused_before_the_file_is_touched(tmp_path):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert json.loads((tmp_path / "a.json").read_text()) == [1]


def test_an_existing_folder_is_never_replaced(tmp_path):
    for existing in (tmp_path / "folder", tmp_path / "file"):
        existing.mkdir() if existing.name == "folder" else existing.write_text("x")
        with pytest.raises(DatasetError, match="exists already") as refused:
            fill_folder(existing)
        assert "another name" in refused.value.hint


def test_lines_are_appended_whole(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for number in range(3):
        append_line(file, json.dumps({"step": number, "who": "ü"}))
    assert [json.loads(line)["step"] for line in file.read_text(encoding="utf-8").splitlines()] == [0, 1, 2]
    with pytest.raises(InvalidSetting, match="line break"):
        append_line(file, "a\nb")


def test_lines_of_several_writers_never_mix(tmp_path):
    file = tmp_path / "metrics.jsonl"
    code = f"""
import sys
from pathlib import Path
from datasets_tools.storage import append_line
for n in range(300):
    append_line(Path({str(file)!r}), sys.argv[1] * 200)
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, letter]) for letter in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    lines = file.read_text().splitlines()
    assert len(lines) == 900
    assert {len(set(line)) for line in lines} == {1}


def test_a_half_line_on_a_full_disk_is_cut_off_again(tmp_path, monkeypatch):
    file = tmp_path / "metrics.jsonl"
    append_line(file, "one")
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:2]))
    with pytest.raises(OutOfSpace):
        append_line(file, "two")
    assert file.read_text() == "one\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_said_with_the_path_and_the_remedy(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")
    with pytest.raises(OutOfSpace) as full, replacing(file), open("/dev/full", "wb", buffering=0) as device:
        device.write(b"x")
    assert str(file) in str(full.value)
    assert "free some space" in full.value.hint
    assert file.read_bytes() == b"old"
    with pytest.raises(OutOfSpace):
        append_line(Path("/dev/full"), "x")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of a file through the kernel")
def test_a_writer_in_rust_on_a_full_disk_is_understood(tmp_path):
    from safetensors import SafetensorError

    with pytest.raises(OutOfSpace), replacing(tmp_path / "a.safetensors"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(tmp_path, monkeypatch, number):
    fail_at(monkeypatch, 1, OSError(number, os.strerror(number)))
    with pytest.raises(DatasetError, match="cannot be written") as refused:
        write_text(tmp_path / "a.txt", "x")
    assert str(tmp_path) in refused.value.hint


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(DatasetError, match="cannot be written"):
        write_text(tmp_path / "a.txt", "x")
    tmp_path.chmod(stat.S_IRWXU)


def test_a_file_where_a_folder_is_needed_and_a_name_too_long_are_said(tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_text(tmp_path / "taken" / "a.txt", "x")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_text(tmp_path / ("n" * 400), "x")


def test_space_is_asked_for_before_the_work(tmp_path):
    require_space(tmp_path / "not yet there", 1, "the cache")
    assert free_bytes(tmp_path / "not" / "yet") > 0
    with pytest.raises(OutOfSpace, match="the cache needs 1000000") as full:
        require_space(tmp_path, 10**18, "the cache")
    assert "free" in full.value.hint


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1536, "1.5 kB"), (2.5e9, "2.5 GB")])
def test_sizes_are_written_as_people_read_them(count, text):
    assert human_bytes(count) == text


def test_hash_of_a_file(tmp_path):
    write_bytes(tmp_path / "a", b"abc")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")
