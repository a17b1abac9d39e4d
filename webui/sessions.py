"""Signed-in browsers and the tokens of scripts. Only hashes of secrets are stored.

The person at this machine, who needs no password, gets a signed cookie and no row: whatever asks without a cookie, such
as a monitor that looks every second, leaves nothing behind.
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from webui.errors import NotFound, TooMany
from webui.store import Store
from webui.users import LOCAL, User, Users

__all__ = ["IDLE_SECONDS", "Session", "Sessions", "Token"]

IDLE_SECONDS = 12 * 3600.0
LONGEST_SECONDS = 14 * 86400.0
MOST_EACH = 20
"""Sessions of one user, of which the oldest goes; and tokens."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """Who asks. A script that shows its token has no `csrf`."""

    user: User
    csrf: str

    @property
    def by_token(self) -> bool:
        return not self.csrf


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token without its secret, which nobody keeps. `used` is empty until it is, and true to the minute."""

    id: str
    label: str
    created: str
    used: str


class Sessions:
    def __init__(self, store: Store, users: Users) -> None:
        self._store, self._users = store, users
        store.write("insert or ignore into settings values ('', 'session_key', ?)", (secrets.token_hex(32),))
        row = store.row("select value from settings where user = '' and key = 'session_key'")
        assert row is not None
        self._key = bytes.fromhex(row["value"])

    def begin(self, user: User, *, now: float | None = None) -> str:
        """Return the secret for the cookie of a new session, and forget those that ended."""
        now = time.time() if now is None else now
        secret = secrets.token_urlsafe(32)
        if user == LOCAL:
            said = f"{now:.0f}.{secret}"
            return f"{said}.{self._signed(said)}"
        self._store.write(
            "delete from sessions where seen < ? or created < ?", (now - IDLE_SECONDS, now - LONGEST_SECONDS)
        )
        self._store.write(
            "insert into sessions values (?, ?, ?, ?, ?)",
            (_digest(secret), user.name, secrets.token_urlsafe(32), now, now),
        )
        self._store.write(
            "delete from sessions where user = ? and rowid not in"
            " (select rowid from sessions where user = ? order by created desc, rowid desc limit ?)",
            (user.name, user.name, MOST_EACH),
        )
        return secret

    def find(self, secret: str, *, now: float | None = None) -> Session | None:
        """Return the session of a cookie, unless it ended or its user is gone. The role is the present one."""
        now = time.time() if now is None else now
        if secret.count(".") == 2:
            return self._local(secret, now)
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
        """Return a new token with which a script is this user. Raises TooMany for more than twenty."""
        if len(self._store.rows("select 1 from tokens where user = ?", (user.name,))) >= MOST_EACH:
            raise TooMany(f"there are {MOST_EACH} tokens of yours", hint="revoke one that is no longer used")
        token = secrets.token_urlsafe(32)
        self._store.write(
            "insert into tokens (token, user, label, created) values (?, ?, ?, ?)",
            (_digest(token), user.name, label[:80], when),
        )
        return token

    def tokens(self, user: User) -> list[Token]:
        """List the tokens of a user, the newest first."""
        rows = self._store.rows(
            f"select {_TOKEN} as id, label, created, used from tokens where user = ? order by created desc, rowid desc",
            (user.name,),
        )
        return [Token(**dict(row)) for row in rows]

    def revoke(self, user: User, id: str) -> None:
        """End a token of a user at once. Raises NotFound."""
        if not self._store.write(f"delete from tokens where user = ? and {_TOKEN} = ?", (user.name, id)):
            raise NotFound("there is no such token of yours", hint="it may be revoked already; list them again")

    def bearer(self, token: str, *, now: float | None = None) -> User | None:
        """Return whose token it is, and note when it was used."""
        row = self._store.row("select token, user, used from tokens where token = ?", (_digest(token),))
        if row is None:
            return None
        minute = datetime.fromtimestamp(time.time() if now is None else now, UTC).replace(second=0, microsecond=0)
        if row["used"] != minute.isoformat():
            self._store.write("update tokens set used = ? where token = ?", (minute.isoformat(), row["token"]))
        return self._present(row["user"])

    def _local(self, secret: str, now: float) -> Session | None:
        said, _, signature = secret.rpartition(".")
        begun, _, _ = said.partition(".")
        if self._users or not hmac.compare_digest(self._signed(said).encode(), signature.encode()):
            return None
        fresh = now - LONGEST_SECONDS < float(begun) <= now + 60
        return Session(user=LOCAL, csrf=self._signed(f"csrf.{secret}")) if fresh else None

    def _signed(self, said: str) -> str:
        return hmac.new(self._key, said.encode(errors="replace"), hashlib.sha256).hexdigest()

    def _present(self, name: str) -> User | None:
        """A session without a password counts for as long as the studio has no users."""
        return (None if self._users else LOCAL) if name == LOCAL.name else self._users.find(name)


_TOKEN = "substr(token, 1, 16)"
"""What a token is called: the beginning of its hash, of which no secret follows."""


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
