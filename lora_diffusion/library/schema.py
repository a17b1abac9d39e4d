"""The tables, as numbered migrations that are only ever added to.

Every row of every table but `migrations` follows from the events (see `ledger`), so a new column needs a default: that
is what rows have whose events know nothing of it.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lora_diffusion.errors import UsageError

__all__ = ["KEYS", "MIGRATIONS", "Migration", "applied", "migrate"]


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A step from one form of the database to the next."""

    name: str
    statements: tuple[str, ...]


_ADAPTERS = Migration(
    name="adapters",
    statements=(
        """CREATE TABLE events (
            number INTEGER PRIMARY KEY, at TEXT NOT NULL, by TEXT NOT NULL, what TEXT NOT NULL, subject TEXT NOT NULL,
            reason TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
            previous TEXT NOT NULL, hash TEXT NOT NULL)""",
        "CREATE INDEX events_by_subject ON events (subject)",
        "CREATE TABLE objects (sha256 TEXT PRIMARY KEY NOT NULL, bytes INTEGER NOT NULL, suffix TEXT NOT NULL)",
        """CREATE TABLE adapters (
            id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL UNIQUE, current INTEGER NOT NULL)""",
        """CREATE TABLE manifests (
            id TEXT PRIMARY KEY NOT NULL, count INTEGER NOT NULL, images TEXT NOT NULL)""",
        """CREATE TABLE versions (
            adapter TEXT NOT NULL REFERENCES adapters (id), number INTEGER NOT NULL,
            sha256 TEXT NOT NULL REFERENCES objects (sha256), fingerprint TEXT NOT NULL, family TEXT NOT NULL,
            stage TEXT NOT NULL CHECK (stage IN ('draft', 'in_review', 'approved', 'retired')),
            blocked TEXT NOT NULL DEFAULT '', at TEXT NOT NULL, by TEXT NOT NULL, facts TEXT NOT NULL,
            "trigger" TEXT NOT NULL, weight REAL NOT NULL, weight_low REAL, weight_high REAL, brand TEXT NOT NULL,
            owner TEXT NOT NULL, tags TEXT NOT NULL, licence TEXT NOT NULL, expires TEXT NOT NULL, notes TEXT NOT NULL,
            card TEXT NOT NULL, thumbnail TEXT NOT NULL, presets TEXT NOT NULL,
            method TEXT NOT NULL, run TEXT NOT NULL, plan TEXT NOT NULL, manifest TEXT REFERENCES manifests (id),
            PRIMARY KEY (adapter, number), UNIQUE (adapter, sha256))""",
        "CREATE INDEX versions_by_fingerprint ON versions (fingerprint)",
        """CREATE TABLE parents (
            adapter TEXT NOT NULL, number INTEGER NOT NULL, place INTEGER NOT NULL, fingerprint TEXT NOT NULL,
            name TEXT NOT NULL, weight REAL NOT NULL,
            PRIMARY KEY (adapter, number, place),
            FOREIGN KEY (adapter, number) REFERENCES versions (adapter, number))""",
        "CREATE INDEX parents_by_fingerprint ON parents (fingerprint)",
        """CREATE TABLE samples (
            adapter TEXT NOT NULL, number INTEGER NOT NULL, sha256 TEXT NOT NULL REFERENCES objects (sha256),
            place INTEGER NOT NULL, prompt TEXT NOT NULL, seed INTEGER, weight REAL,
            PRIMARY KEY (adapter, number, sha256),
            FOREIGN KEY (adapter, number) REFERENCES versions (adapter, number))""",
    ),
)
_PICTURES = Migration(
    name="pictures",
    statements=(
        """CREATE TABLE pictures (
            id TEXT PRIMARY KEY NOT NULL, place INTEGER NOT NULL UNIQUE,
            sha256 TEXT NOT NULL REFERENCES objects (sha256), at TEXT NOT NULL, by TEXT NOT NULL, prompt TEXT NOT NULL,
            settings TEXT NOT NULL, starred INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL)""",
        """CREATE TABLE picture_adapters (
            picture TEXT NOT NULL REFERENCES pictures (id), place INTEGER NOT NULL, fingerprint TEXT NOT NULL,
            name TEXT NOT NULL, weight REAL NOT NULL, PRIMARY KEY (picture, place))""",
        "CREATE INDEX picture_adapters_by_fingerprint ON picture_adapters (fingerprint)",
    ),
)
_REVIEW = Migration(
    name="comments and withdrawals",
    statements=(
        """CREATE TABLE comments (
            id INTEGER PRIMARY KEY NOT NULL, adapter TEXT NOT NULL, number INTEGER NOT NULL, at TEXT NOT NULL,
            by TEXT NOT NULL, text TEXT NOT NULL,
            FOREIGN KEY (adapter, number) REFERENCES versions (adapter, number))""",
        "CREATE INDEX comments_by_version ON comments (adapter, number)",
        """CREATE TABLE withdrawals (
            sha256 TEXT PRIMARY KEY NOT NULL, at TEXT NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL)""",
    ),
)
_REINSTATED = Migration(
    name="reinstated pictures",
    statements=("ALTER TABLE withdrawals ADD COLUMN lifted TEXT NOT NULL DEFAULT ''",),
)
MIGRATIONS: Sequence[Migration] = (_ADAPTERS, _PICTURES, _REVIEW, _REINSTATED)

KEYS: Mapping[str, tuple[str, ...]] = {
    "objects": ("sha256",),
    "adapters": ("id",),
    "manifests": ("id",),
    "versions": ("adapter", "number"),
    "parents": ("adapter", "number", "place"),
    "samples": ("adapter", "number", "sha256"),
    "pictures": ("id",),
    "picture_adapters": ("picture", "place"),
    "comments": ("id",),
    "withdrawals": ("sha256",),
}
"""The columns that tell the rows of a table apart."""


def applied(connection: sqlite3.Connection) -> int:
    """Return how many migrations a database has seen; 0 for a new one. Raises UsageError for one from the future."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone():
        return 0
    count = int(connection.execute("SELECT count(*) FROM migrations").fetchone()[0])
    if count > len(MIGRATIONS):
        raise UsageError(
            f"the library was written by a newer lora-diffusion (form {count}; this one knows {len(MIGRATIONS)})",
            hint="update lora-diffusion, for example with pip install --upgrade lora-diffusion",
        )
    return count


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring a database to the newest form, all of it or nothing; another process may do the same at once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL)"
        )
        for number, each in list(enumerate(migrations, 1))[applied(connection) :]:
            for statement in each.statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (number, each.name))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
