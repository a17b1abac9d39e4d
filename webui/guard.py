"""What every request passes before anything else sees it: host, origin, size, session, CSRF token; and headers.

Pages of Gradio cannot do without inline scripts and eval, so the content policy keeps others out but is no defence
against injected markup: everything that users wrote is escaped where it is shown.
"""

import hmac
import re
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.sessions import Session, Sessions
from webui.users import LOCAL, Users

__all__ = [
    "CSRF_COOKIE",
    "CSRF_HEADER",
    "MAX_BODY",
    "MAX_UPLOAD_BODY",
    "ROLE_COOKIE",
    "Guard",
    "cookie_name",
    "over_tls",
]

CSRF_COOKIE, CSRF_HEADER = "studio_csrf", "x-csrf-token"
ROLE_COOKIE = "studio_role"
"""Tells the pages what to leave out; what one may do is decided in `act` alone."""
MAX_BODY, MAX_UPLOAD_BODY = 8 * 2**20, 2**30
"""Bytes of a call, of which 4000 file names are the largest; and of uploads that are dropped at once."""

_SAFE = {"GET", "HEAD", "OPTIONS"}
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{1,5})?")
_SAYS_ADDRESS = {b"x-forwarded-host", b"x-gradio-server"}
"""Headers by which Gradio would let anybody say where the studio is; a proxy passes the Host that it was asked for."""
_OPEN = ("/login", "/favicon.ico")
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
}


def cookie_name(secure: bool) -> str:
    return "__Host-studio" if secure else "studio"


def over_tls(scope: Scope, secure: bool) -> bool:
    """Say whether a browser asks over TLS: here, or at a proxy on this machine (X-Forwarded-Proto)."""
    return secure or scope["scheme"] == "https"


class Guard:
    """ASGI middleware. `hosts` are the names under which the studio may be called; `secure` says that TLS is used."""

    def __init__(self, app: ASGIApp, *, sessions: Sessions, users: Users, hosts: Collection[str], secure: bool) -> None:
        self._app, self._sessions, self._users = app, sessions, users
        self._hosts, self._secure = frozenset(hosts), secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["headers"] = [each for each in scope["headers"] if each[0] not in _SAYS_ADDRESS]
        headers, fresh = Headers(scope=scope), ""
        secure = over_tls(scope, self._secure)
        refused = self._refused(scope, headers, secure)
        if refused is None:
            session, by_token = self._who(headers, secure)
            if session is None and not self._users and scope["method"] in _SAFE:
                fresh = self._sessions.begin(LOCAL)
                session = self._sessions.find(fresh)
            refused = self._unknown(scope, session) or self._forged(scope, headers, session, by_token)
            scope["studio.session"] = session
        cookies = self._cookies(headers, fresh, scope.get("studio.session"), secure)
        answer = _Answer(send, cookies, secure=secure)
        if refused is not None:
            await refused(scope, receive, answer)
            return
        try:
            await self._app(scope, _limited(receive, _most(scope)), answer)
        except _TooLong:
            if not answer.begun:
                await _says(413, "more than was said")(scope, receive, answer)

    def _refused(self, scope: Scope, headers: Headers, secure: bool) -> Response | None:
        host = headers.get("host", "").lower()
        if _name_of(host) not in self._hosts:
            return _says(403, "this address is not one of the studio's")
        length = headers.get("content-length") or "0"
        if not length.isdecimal() or int(length[:20]) > _most(scope):
            return _says(413, f"more than {_most(scope) // 2**20} MB at once")
        if scope["method"] in _SAFE:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        wanted = f"{'https' if secure else 'http'}://{host}"
        if (origin is not None and origin.lower() != wanted) or site not in (None, "same-origin", "none"):
            return _says(403, "requests from other sites change nothing here")
        return None

    def _who(self, headers: Headers, secure: bool) -> tuple[Session | None, bool]:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            user = self._sessions.bearer(token.strip())
            return (Session(user=user, csrf="") if user else None), True
        secret = _cookie(headers, cookie_name(secure))
        return (self._sessions.find(secret) if secret else None), False

    def _unknown(self, scope: Scope, session: Session | None) -> Response | None:
        path = scope["path"]
        if session is not None or path in _OPEN:
            return None
        if scope["method"] == "GET" and "text/html" in Headers(scope=scope).get("accept", ""):
            target = path if path.startswith("/") and not path.startswith("//") else "/"
            if target == path and scope["query_string"]:
                target += f"?{scope['query_string'].decode('latin-1')}"
            return RedirectResponse(f"/login?next={quote(target)}", status_code=303)
        return _says(401, "sign in first")

    def _forged(self, scope: Scope, headers: Headers, session: Session | None, by_token: bool) -> Response | None:
        """Refuse a change without the token that only our own pages can read; /login has no session to forge."""
        if scope["method"] in _SAFE or by_token or scope["path"] == "/login":
            return None
        if session is None or not hmac.compare_digest(headers.get(CSRF_HEADER, "").encode(), session.csrf.encode()):
            return _says(403, "the page is out of date: load it again")
        return None

    def _cookies(self, headers: Headers, fresh: str, session: Session | None, secure: bool) -> list[str]:
        """Return the cookies that the browser lacks."""
        rest = "; Path=/; SameSite=Strict" + ("; Secure" if secure else "")
        cookies = [f"{cookie_name(secure)}={fresh}; HttpOnly{rest}"] if fresh else []
        if session is not None and session.csrf:  # a token of a script has none and reads no cookies
            wanted = {CSRF_COOKIE: session.csrf, ROLE_COOKIE: session.user.role}
            cookies += [f"{name}={value}{rest}" for name, value in wanted.items() if _cookie(headers, name) != value]
        return cookies


class _Answer:
    """Adds headers to the answer on its way out."""

    def __init__(self, send: Send, cookies: list[str], *, secure: bool) -> None:
        self._send, self._cookies, self._secure = send, cookies, secure
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if self._secure:
                headers["strict-transport-security"] = "max-age=31536000"
            if headers.get("content-type", "").startswith("text/html"):
                headers["cache-control"] = "no-store"
            for cookie in self._cookies:
                headers.append("set-cookie", cookie)
        await self._send(message)


class _TooLong(Exception):
    """A body went on after it should have ended."""


def _most(scope: Scope) -> int:
    return MAX_UPLOAD_BODY if scope["path"].endswith("/gradio_api/upload") else MAX_BODY


def _name_of(host: str) -> str:
    """Return the name in a Host header, or nothing for what no browser sends."""
    found = _HOST.fullmatch(host)
    return (found["six"] or found["name"]) if found else ""


def _limited(receive: Receive, most: int) -> Receive:
    """Stop a body that is longer than it said."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise _TooLong
        return message

    return counted


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _says(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)
