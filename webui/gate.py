"""What of Gradio is reachable: the routes that our pages use, uploads within a quota, no file that was not uploaded.

Gradio brings some sixty routes; most of its published holes were in those that nobody here needs. So what is not named
below is not there, and files and addresses inside a call are held against the uploads before Gradio looks at them.
"""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.errors import StudioError
from webui.refusals import as_sentence, refusal
from webui.text import Text
from webui.uploads import Uploads

__all__ = ["Gate"]

_READ = re.compile(
    r"(?:static|assets|svelte)/.*|(?:config|gradio_api/info|gradio_api/app_id)/?|theme\.css|favicon\.ico|manifest\.json"
    r"|robots\.txt|gradio_api/(?:startup-events|theme\.css|queue/data|upload_progress|heartbeat/[\w-]+)"
)
_WRITE = re.compile(r"gradio_api/(?:queue/join/?|upload/?|cancel|reset/?)")
_FILE, _UPLOAD, _JOIN = "gradio_api/file=", "gradio_api/upload", "gradio_api/queue/join"
_DEEPEST = 200
"""Of what a call may nest; our pages send four levels."""


class Gate:
    """ASGI middleware for the `pages` below each of `roots`; what lies elsewhere passes. `lost` answers 404."""

    def __init__(
        self, app: ASGIApp, *, roots: Collection[str], pages: Collection[str], uploads: Uploads, lost: ASGIApp
    ) -> None:
        self._app, self._roots, self._uploads, self._lost = app, tuple(roots), uploads, lost
        self._pages = frozenset(("", *pages))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = next((root for root in self._roots if (scope.get("path", "") + "/").startswith(f"{root}/")), None)
        if scope["type"] != "http" or root is None:
            await self._app(scope, receive, send)
            return
        path, t = scope["path"][len(root) + 1 :], Text(root[1:])
        session = scope.get("studio.session")
        if session and session.by_token:
            await _says(403, "a token is for /api; sign in to see pages")(scope, receive, send)
        elif not self._offered(scope["method"], path, _user(scope)):
            await self._lost(scope, receive, send)
        elif scope["method"] == "POST" and path.startswith(_UPLOAD):
            await self._upload(t, scope, receive, send)
        elif scope["method"] == "POST" and path.startswith(_JOIN):
            await self._join(t, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _offered(self, method: str, path: str, user: str) -> bool:
        if method in ("GET", "HEAD"):
            if path.startswith(_FILE):
                return self._uploads.holds(unquote(path.removeprefix(_FILE)), user)
            return path.removesuffix("/") in self._pages or _READ.fullmatch(path) is not None
        return method == "POST" and _WRITE.fullmatch(path) is not None

    async def _upload(self, t: Text, scope: Scope, receive: Receive, send: Send) -> None:
        length = Headers(scope=scope).get("content-length", "")
        if not length.isdecimal():
            await _says(411, refusal(t, "say how much is coming"))(scope, receive, send)
            return
        user, answer, gone = _user(scope), bytearray(), False
        try:
            coming = await anyio.to_thread.run_sync(self._uploads.reserve, user, int(length))
        except StudioError as error:
            said = " ".join(as_sentence(refusal(t, each)) for each in (str(error), error.hint))
            shown: Response = PlainTextResponse(said, error.status)  # Gradio shows it as it is
            await shown(scope, receive, send)
            return

        async def heard() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] == "http.disconnect"
            return message

        async def noted(message: Message) -> None:
            if gone:  # nobody hears the fault that Gradio takes this for
                return
            answer.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._uploads.came(_files_in(bytes(answer)), user)  # before the browser can ask for them
            await send(message)

        with coming, suppress(ClientDisconnect):
            await self._app(scope, heard, noted)

    async def _join(self, t: Text, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            user = _user(scope)
            fine = all(self._uploads.holds(path, user) for path in _paths(json.loads(body), _DEEPEST))
        except (ValueError, RecursionError):
            fine = False
        if not fine:
            said = refusal(t, "this call names a file or an address that was not uploaded here")
            await _says(422, said)(scope, receive, send)
            return
        told = False

        async def again() -> Message:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self._app(scope, again, send)


def _user(scope: Scope) -> str:
    session = scope.get("studio.session")
    return session.user.name if session else ""


def _files_in(answer: bytes) -> list[str]:
    """Return the paths that an upload was answered with; a refusal has none."""
    try:
        found = json.loads(answer)
    except ValueError:
        return []
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _paths(value: Any, depth: int) -> Iterator[object]:
    """Yield what a call names as a file. Raises ValueError where it is nested deeper than anybody means."""
    if depth == 0:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        yield from (part for each in value.values() for part in _paths(each, depth - 1))
    elif isinstance(value, list):
        yield from (part for each in value for part in _paths(each, depth - 1))


def _says(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text, "detail": text}, status_code=status)
