"""Every changed byte is found, and nothing is found where nothing changed."""

import random
import sqlite3

import pytest

from lora_diffusion.errors import CorruptFile, LoraDiffusionError
from lora_diffusion.library import Library
from lora_diffusion.library.schema import KEYS, MIGRATIONS, migrate
from tests.library import made
from tests.library.made import ANN, BEN

TABLES = ("events", "migrations", *KEYS)
ROWIDS = {("comments", "id"), ("events", "number"), ("migrations", "number")}


@pytest.fixture
def full(library, files, drawn):
    made.fill(library, files, drawn)
    return library


@pytest.fixture
def damage(full):
    """Another program with the same database open, which keeps no rule."""
    connection = sqlite3.connect(full.home / "library.db", isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    yield connection
    connection.close()


def serious(library, head=""):
    return [each for each in library.verify(head) if each.severity != "notes"]


def other(value):
    if value is None:
        return "x"
    return value + 1 if isinstance(value, int | float) else f"{value}x"


def test_a_whole_library_has_no_faults(full):
    assert full.verify() == []
    assert full.verify(full.head()) == []


@pytest.mark.parametrize("table", TABLES)
def test_a_change_in_any_column_of_any_row_is_found(full, damage, table):
    columns = [row[1] for row in damage.execute(f"PRAGMA table_info({table})")]
    rows = damage.execute(f"SELECT rowid FROM {table}").fetchall()
    assert rows
    for (rowid,) in rows:
        for column in columns:
            before = damage.execute(f'SELECT "{column}" FROM {table} WHERE rowid = ?', (rowid,)).fetchone()[0]
            key = rowid
            if (table, column) in ROWIDS:
                key = rowid + 1000
                damage.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?', (key, rowid))
            else:
                damage.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?', (other(before), rowid))
            assert serious(full), f"{table}.{column} of row {rowid}"
            damage.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?', (before, key))
    assert full.verify() == []


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_went_or_came_is_found(full, damage, table):
    columns = ", ".join(f'"{row[1]}"' for row in damage.execute(f"PRAGMA table_info({table})"))
    for (rowid,) in damage.execute(f"SELECT rowid FROM {table}").fetchall():
        row = damage.execute(f"SELECT {columns} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        damage.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
        assert serious(full), f"{table} without row {rowid}"
        marks = ", ".join("?" * len(row))
        damage.execute(f"INSERT INTO {table} (rowid, {columns}) VALUES (?, {marks})", (rowid, *row))
    assert full.verify() == []


def test_two_events_that_changed_places_are_found(full, damage):
    for first, second in ((1, -1), (2, 1), (-1, 2)):
        damage.execute("UPDATE events SET number = ? WHERE number = ?", (second, first))
    assert serious(full)


def test_a_history_that_was_cut_off_with_its_rows_is_found_by_its_head(full, damage):
    head = full.head()
    number = full.comment("ink", "the last word", **ANN) and full.history()[0].number
    cut = full.head()
    damage.execute("DELETE FROM events WHERE number = ?", (number,))
    damage.execute("DELETE FROM comments WHERE text = 'the last word'")
    assert full.verify(head) == []
    assert [each.code for each in full.verify(cut)] == ["head"]


def test_a_flip_of_any_byte_of_an_object_is_found(full):
    draw = random.Random(3)
    for path in list(full._store.objects.files()):
        path.chmod(0o644)
        data = path.read_bytes()
        for at in draw.sample(range(len(data)), 25):
            path.write_bytes(data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :])
            assert [each.code for each in full.verify()] == ["object"], f"{path.name} at {at}"
        path.write_bytes(data)
    assert full.verify() == []


def test_a_missing_cut_or_linked_object_is_found(full, tmp_path):
    path = full.path("ink")
    moved = path.rename(tmp_path / "moved")
    assert [each.code for each in full.verify()] == ["object"]
    path.symlink_to(moved)
    assert [each.code for each in full.verify()] == ["object"]
    path.unlink()
    path.write_bytes(moved.read_bytes()[:-1])
    assert "bytes instead of" in full.verify()[0].reason


def test_a_file_that_nobody_knows_is_noted_and_no_fault(full):
    stranger = full.home / "objects" / "ab" / "stranger"
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text("x")
    (found,) = full.verify()
    assert (found.code, found.severity, found.file) == ("unknown", "notes", "objects/ab/stranger")


def test_a_changed_schema_is_found(full, damage):
    damage.execute("DROP INDEX comments_by_version")
    assert [each.code for each in full.verify()] == ["schema"]


def test_a_database_that_is_none_is_one_fault_or_one_error(full):
    home = full.home
    full.close()
    data = bytearray((home / "library.db").read_bytes())
    data[4096 : 4096 * 6] = bytes(4096 * 5)
    (home / "library.db").write_bytes(data)
    with pytest.raises(CorruptFile, match="damaged"), Library.open(home) as found:
        found.versions()
    (home / "library.db").write_bytes(b"no database " * 1000)
    with pytest.raises(CorruptFile, match="damaged"):
        Library.open(home)


def test_a_flip_of_any_byte_of_the_database_is_found_or_hits_what_holds_nothing(full, damage):
    """A byte of free space, of a counter or of the name of an index may change; what a row holds may not."""
    damage.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage.close()
    home, before = full.home, _state(full)
    full.close()
    path, draw = home / "library.db", random.Random(1)
    data = path.read_bytes()
    written = [at for at, byte in enumerate(data) if byte]
    found = 0
    for at in draw.sample(written, 150):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :])
        for beside in home.glob("library.db-*"):
            beside.unlink()
        try:
            with Library.open(home) as library:
                if serious(library):
                    found += 1
                else:
                    assert _state(library) == before, f"byte {at}"
        except LoraDiffusionError:
            found += 1
    assert found > 140


def _state(library):
    return library.versions(every=True), library.samples("ink"), library.pictures(), library.history()


def test_rows_of_columns_that_came_later_have_their_default(full, damage):
    from lora_diffusion.library.schema import Migration

    added = "ALTER TABLE versions ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'"
    damage.row_factory = sqlite3.Row
    migrate(damage, (*MIGRATIONS, Migration(name="mood", statements=(added,))))
    assert {each.code for each in full.verify()} == {"migrations", "schema"}
    assert damage.execute("SELECT mood FROM versions").fetchone()[0] == "calm"
    full.describe("ink", **BEN, notes="still works")
