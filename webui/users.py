"""Who may do what: users with a role and a password, and a brake on guessing.

Passwords are kept as scrypt (RFC 7914) with a salt of their own, N = 2^15, r = 8, p = 1: about 0.1 s and 32 MB a try.
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Literal, get_args

from webui.errors import BadRequest, NotAllowed, NotFound, TooMany
from webui.store import Store

__all__ = ["LOCAL", "ROLES", "Role", "User", "Users", "allows"]

Role = Literal["viewer", "creator", "trainer", "approver", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may."""

MIN_PASSWORD, MAX_PASSWORD = 10, 200
FREE_TRIES, LONGEST_WAIT = 5, 900.0

_COST = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 2**20}


@dataclass(frozen=True, kw_only=True)
class User:
    name: str
    role: Role


LOCAL = User(name="you", role="admin")
"""Who one is on a machine of one's own, where no user was added."""


def allows(user: User, role: Role) -> bool:
    return ROLES.index(user.role) >= ROLES.index(role)


class Users:
    """The users of a studio. `now` is seconds since the epoch, for the brake."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __bool__(self) -> bool:
        return self._store.row("select 1 from users where not disabled") is not None

    def all(self) -> list[User]:
        rows = self._store.rows("select name, role from users where not disabled order by name")
        return [User(name=row["name"], role=row["role"]) for row in rows]

    def find(self, name: str) -> User | None:
        row = self._store.row("select name, role from users where name = ? and not disabled", (name,))
        return User(name=row["name"], role=row["role"]) if row else None

    def add(self, name: str, role: Role, password: str, *, when: str) -> User:
        """Add a user. Raises BadRequest for a name that is taken or a password that is too short."""
        if not name.strip() or len(name) > 64 or not name.isprintable() or name.casefold() == LOCAL.name:
            raise BadRequest(f"{name[:64]!r} cannot be a name", hint="use 1 to 64 printable characters")
        stored = _stored(_checked(password))
        with self._store.writing() as connection:
            taken = connection.execute("select disabled from users where name = ?", (name,)).fetchone()
            if taken and not taken["disabled"]:
                raise BadRequest(f"there is already a user {name}", hint="choose another name")
            connection.execute(
                "insert into users (name, role, password, created) values (?, ?, ?, ?) on conflict (name) do update "
                "set role = excluded.role, password = excluded.password, disabled = 0",
                (name, role, stored, when),
            )
        return User(name=name, role=role)

    def change(self, name: str, *, role: Role | None = None, password: str | None = None) -> User:
        """Give a user another role or password; a new password ends all their sessions and tokens."""
        user = self._require(name)
        stored = _stored(_checked(password)) if password is not None else None
        with self._store.writing() as connection:
            if role and role != "admin" and user.role == "admin":
                _require_another_admin(connection, name)
            if role:
                connection.execute("update users set role = ? where name = ?", (role, name))
            if stored:
                connection.execute("update users set password = ? where name = ?", (stored, name))
                connection.execute("delete from sessions where user = ?", (user.name,))
                connection.execute("delete from tokens where user = ?", (user.name,))
        return self._require(name)

    def remove(self, name: str) -> None:
        """Take a user's access away at once. The name stays taken in the records of what they did."""
        user = self._require(name)
        with self._store.writing() as connection:
            if user.role == "admin":
                _require_another_admin(connection, name)
            connection.execute("update users set disabled = 1 where name = ?", (name,))
            connection.execute("delete from sessions where user = ?", (user.name,))
            connection.execute("delete from tokens where user = ?", (user.name,))

    def sign_in(self, name: str, password: str, *, address: str, now: float | None = None) -> User:
        """Return the user. Raises NotAllowed, and TooMany after five tries for one name or from one address.

        A wrong name takes as long as a wrong password.
        """
        now = time.time() if now is None else now
        keys = (f"name:{name.casefold()[:64]}", f"address:{address}")
        self._brake(keys, now)
        row = self._store.row("select name, role, password from users where name = ? and not disabled", (name,))
        right = _matches(password, row["password"] if row else _NOBODY)
        if row is None or not right:
            raise NotAllowed("the name or the password is wrong", hint="try again, or ask an admin for a new password")
        for key in keys:
            self._store.write("delete from tries where key = ?", (key,))
        return User(name=row["name"], role=row["role"])

    def _brake(self, keys: tuple[str, ...], now: float) -> None:
        """Count a try before it is made, so that many at once are counted too."""
        with self._store.writing() as connection:
            connection.execute("delete from tries where free_at < ?", (now - LONGEST_WAIT,))
            rows = {key: connection.execute("select * from tries where key = ?", (key,)).fetchone() for key in keys}
            wait = max((row["free_at"] - now for row in rows.values() if row), default=0.0)
            if wait > 0:
                raise TooMany("too many tries", hint=f"try again in {wait:.0f} s")
            for key, row in rows.items():
                count = (row["count"] if row else 0) + 1
                pause = 0.0 if count < FREE_TRIES else min(LONGEST_WAIT, 2.0 ** (count - FREE_TRIES + 1))
                connection.execute("replace into tries values (?, ?, ?)", (key, count, now + pause))

    def _require(self, name: str) -> User:
        found = self.find(name)
        if found is None:
            raise NotFound(f"there is no user {name}", hint=f"users are: {', '.join(u.name for u in self.all())}")
        return found


def _require_another_admin(connection: "object", name: str) -> None:
    import sqlite3

    assert isinstance(connection, sqlite3.Connection)
    others = connection.execute(
        "select 1 from users where role = 'admin' and not disabled and name != ?", (name,)
    ).fetchone()
    if others is None:
        raise BadRequest(f"{name} is the only admin", hint="make someone else an admin first")


def _checked(password: str) -> str:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise BadRequest(
            "the password is too short or too long", hint=f"use {MIN_PASSWORD} to {MAX_PASSWORD} characters"
        )
    return password


def _stored(password: str) -> str:
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${_hash(password, salt).hex()}"


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password[:MAX_PASSWORD].encode(errors="replace"), salt=salt, dklen=32, **_COST)


def _matches(password: str, stored: str) -> bool:
    _, salt, digest = stored.split("$")
    return hmac.compare_digest(_hash(password, bytes.fromhex(salt)), bytes.fromhex(digest))


_NOBODY = f"scrypt${'00' * 16}${'00' * 32}"
