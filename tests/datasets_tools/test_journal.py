"""A journal finds what was added, also after kills and damage."""

import threading

import pytest

from datasets_tools import storage
from datasets_tools.errors import OutOfSpace
from datasets_tools.journal import Journal


def test_rows_are_found_by_a_later_journal(tmp_path):
    first = Journal(tmp_path / "deep" / "scan.jsonl")
    first.add("a", {"n": 1})
    first.add("b", {"n": [1, "ü", None]})
    first.add("a", {"n": 2})
    for journal in (first, Journal(tmp_path / "deep" / "scan.jsonl")):
        assert journal.find("a") == {"n": 2}
        assert journal.find("b") == {"n": [1, "ü", None]}
        assert journal.find("c") is None


def test_a_damaged_line_is_as_if_it_were_not_there(tmp_path):
    path = tmp_path / "scan.jsonl"
    journal = Journal(path)
    for number in range(5):
        journal.add(f"key{number}", {"number": number})
    data = bytearray(path.read_bytes())
    lines = bytes(data).splitlines(keepends=True)
    start = len(lines[0]) + len(lines[1])
    for place in range(start, start + len(lines[2]) - 1):  # every byte of the third line, its newline apart
        damaged = bytearray(data)
        damaged[place] ^= 0x01
        path.write_bytes(damaged)
        again = Journal(path)
        assert again.find("key2") is None
        assert [again.find(f"key{number}") for number in (0, 1, 3, 4)] == [{"number": n} for n in (0, 1, 3, 4)]


def test_a_torn_last_line_does_not_spoil_the_next(tmp_path):
    path = tmp_path / "scan.jsonl"
    Journal(path).add("a", {"n": 1})
    Journal(path).add("b", {"n": 2})
    path.write_bytes(path.read_bytes()[:-5])
    journal = Journal(path)
    journal.add("c", {"n": 3})
    assert [Journal(path).find(key) for key in "abc"] == [{"n": 1}, None, {"n": 3}]


def test_many_threads_lose_nothing(tmp_path):
    journals = [Journal(tmp_path / "scan.jsonl") for _ in range(4)]

    def add(number):
        for row in range(100):
            journals[number].add(f"{number}-{row}", {"row": row})

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Journal(tmp_path / "scan.jsonl")
    assert all(found.find(f"{number}-{row}") == {"row": row} for number in range(4) for row in range(100))


def test_a_place_that_cannot_be_written_is_told_once(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    journal = Journal(tmp_path / "file" / "scan.jsonl")
    journal.add("a", {})
    journal.add("b", {})
    assert [record.getMessage().count("cannot be written") for record in caplog.records] == [1]


def test_a_full_disk_is_raised(tmp_path, monkeypatch):
    import errno

    def full(kind, path):
        raise OSError(errno.ENOSPC, "full", str(path))

    monkeypatch.setattr(storage, "_boundary", full)
    with pytest.raises(OutOfSpace):
        Journal(tmp_path / "scan.jsonl").add("a", {})


def test_ten_thousand_rows_take_half_a_megabyte_and_are_all_found(tmp_path):
    import tracemalloc

    path = tmp_path / "scan.jsonl"
    adding = Journal(path)
    for number in range(10_000):
        adding.add(f"key{number}", {"n": number})
    tracemalloc.start()
    journal = Journal(path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 600_000
    for found in (adding, journal):
        assert all(found.find(f"key{number}") == {"n": number} for number in range(0, 10_000, 7))
        assert found.find("key10000") is None
