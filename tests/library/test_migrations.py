"""Older libraries become newer ones, whole or not at all."""

import sqlite3
import threading

import pytest

from lora_diffusion.errors import UsageError
from lora_diffusion.library import Library
from lora_diffusion.library.ledger import Writing
from lora_diffusion.library.schema import MIGRATIONS, Migration, applied, migrate
from tests.library.made import ANN, WHEN


def connect(home):
    home.mkdir(exist_ok=True)
    connection = sqlite3.connect(home / "library.db", isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


@pytest.mark.parametrize("count", range(len(MIGRATIONS) + 1))
def test_a_library_of_any_older_form_opens_with_all_that_it_holds(tmp_path, files, count):
    connection = connect(tmp_path)
    migrate(connection, MIGRATIONS[:count])
    if count:
        writing = Writing(connection, by="ann", when=WHEN, reason="")
        writing.put("objects", sha256="0" * 64, bytes=1, suffix=".x")
        assert writing.finish("older", "x")
    connection.close()
    with Library.open(tmp_path) as library:
        assert [event.what for event in library.history()] == ["older"] * bool(count)
        library.comment(library.add(files[0], name="Ink", **ANN).ref, "works", **ANN)
        codes = [each.code for each in library.verify()]
        assert codes == ["object"] * bool(count)  # the one that is named above was never there


def test_a_newer_library_is_left_alone(tmp_path):
    Library.open(tmp_path).close()
    connection = connect(tmp_path)
    connection.execute("INSERT INTO migrations VALUES (99, 'from the future')")
    connection.close()
    before = (tmp_path / "library.db").read_bytes()
    with pytest.raises(UsageError, match="newer") as error:
        Library.open(tmp_path)
    assert "update" in error.value.hint
    assert (tmp_path / "library.db").read_bytes() == before


def test_a_migration_that_fails_changes_nothing(tmp_path):
    connection = connect(tmp_path)
    migrate(connection, MIGRATIONS[:1])
    bad = Migration(name="bad", statements=("CREATE TABLE half (x)", "NONSENSE"))
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (*MIGRATIONS[:1], bad))
    assert applied(connection) == 1
    assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchone()
    connection.close()


def test_many_may_make_the_library_at_once(tmp_path):
    failed = []

    def make():
        try:
            Library.open(tmp_path).close()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with Library.open(tmp_path) as library:
        assert library.verify() == []


def test_the_names_of_migrations_never_change():
    """They stand in every library; add to this list, and change nothing in it."""
    assert [each.name for each in MIGRATIONS] == [
        "adapters",
        "pictures",
        "comments and withdrawals",
        "reinstated pictures",
    ]
