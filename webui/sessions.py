"""Signed-in browsers and the tokens of scripts. Only hashes of secrets are stored."""

import hashlib
import secrets
import time
from dataclasses import dataclass

from webui.store import Store
from webui.users import LOCAL, User, Users

__all__ = ["IDLE_SECONDS", "Session", "Sessions"]

IDLE_SECONDS = 12 * 3600.0
LONGEST_SECONDS = 14 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Session:
    user: User
    csrf: str


class Sessions:
    def __init__(self, store: Store, users: Users) -> None:
        self._store, self._users = store, users

    def begin(self, user: User, *, now: float | None = None) -> str:
        """Return the secret for the cookie of a new session, and forget those that ended."""
        now = time.time() if now is None else now
        secret = secrets.token_urlsafe(32)
        self._store.write(
            "delete from sessions where seen < ? or created < ?", (now - IDLE_SECONDS, now - LONGEST_SECONDS)
        )
        self._store.write(
            "insert into sessions values (?, ?, ?, ?, ?)",
            (_digest(secret), user.name, secrets.token_urlsafe(32), now, now),
        )
        return secret

    def find(self, secret: str, *, now: float | None = None) -> Session | None:
        """Return the session of a cookie, unless it ended or its user is gone. The role is the present one."""
        now = time.time() if now is None else now
        row = self._store.row("select * from sessions where token = ?", (_digest(secret),))
        if row is None or row["seen"] < now - IDLE_SECONDS or row["created"] < now - LONGEST_SECONDS:
            return None
        user = self._present(row["user"])
        if user is None:
            return None
        if now - row["seen"] > 60:
            self._store.write("update sessions set seen = ? where token = ?", (now, row["token"]))
        return Session(user=user, csrf=row["csrf"])

    def end(self, secret: str) -> None:
        self._store.write("delete from sessions where token = ?", (_digest(secret),))

    def issue(self, user: User, label: str, *, when: str) -> str:
        """Return a new token with which a script is this user."""
        token = secrets.token_urlsafe(32)
        self._store.write("insert into tokens values (?, ?, ?, ?)", (_digest(token), user.name, label[:80], when))
        return token

    def bearer(self, token: str) -> User | None:
        row = self._store.row("select user from tokens where token = ?", (_digest(token),))
        return self._present(row["user"]) if row else None

    def _present(self, name: str) -> User | None:
        """A session without a password counts for as long as the studio has no users."""
        return (None if self._users else LOCAL) if name == LOCAL.name else self._users.find(name)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
