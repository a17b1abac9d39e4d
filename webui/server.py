"""The app: FastAPI owns who one is, files and REST; the pages are mounted in it once per language."""

import asyncio
import json
import os
import threading
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import Body, FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from datasets_tools import DatasetError
from lora_diffusion import LoraDiffusionError
from webui.actions import act, actions, as_json
from webui.errors import NotAllowed, StudioError, TooMany
from webui.gate import Gate
from webui.guard import Guard, cookie_name, over_tls
from webui.sessions import Session
from webui.studio import Studio
from webui.text import LANGUAGES, Text, language_of

__all__ = ["create_app"]

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
MAX_UPLOAD = "32mb"
QUEUE = 64
THREADS = 200
"""Every picture that somebody waits for holds one of them; the usual 40 would leave none for the pages."""
MAX_AT_ONCE = 16
"""Actions of one user that scripts may have under way."""
SWEEP_SECONDS = 3600.0
MAKES_TOKENS = "users.token"

_STATIC = Path(__file__).parent / "static"

_Name = Annotated[str, Form(max_length=200)]
_Secret = Annotated[str, Form(max_length=1000)]


def create_app(
    home: Path, *, hosts: Collection[str] = LOCAL_HOSTS, secure: bool = False, pages: bool = True
) -> FastAPI:
    """Return the app over one home folder.

    `hosts` are the names under which it may be called; `secure` says that TLS is in front. Without `pages` there is
    REST alone.
    """
    studio = Studio(home)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await anyio.to_thread.run_sync(studio.start)
        sweeping = asyncio.create_task(_sweep(studio))
        yield
        sweeping.cancel()
        await anyio.to_thread.run_sync(studio.close)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.studio = studio
    _rest(app, studio)
    _sign_in(app, studio, secure=secure)
    _answer_errors(app, studio)
    if pages:
        from webui.pages import ORDER

        _shorten(app, studio, ORDER)
        asyncio.run(_mount_pages(app, studio))
        roots = [f"/{each}" for each in LANGUAGES]
        app.add_middleware(Gate, roots=roots, pages=ORDER, uploads=studio.uploads, lost=_Lost(studio))
    app.add_middleware(Guard, sessions=studio.sessions, users=studio.users, hosts=hosts, secure=secure)
    return app


def _session(request: Request) -> Session:
    found: Session | None = request.scope.get("studio.session")
    if found is None:
        raise NotAllowed("sign in first")
    return found


async def _sweep(studio: Studio) -> None:
    while True:
        await anyio.to_thread.run_sync(studio.uploads.sweep)
        await asyncio.sleep(SWEEP_SECONDS)


class _Turns:
    """Counts what each user has under way."""

    def __init__(self) -> None:
        self._lock, self._under_way = threading.Lock(), Counter[str]()

    @contextmanager
    def one(self, user: str) -> Iterator[None]:
        with self._lock:
            if self._under_way[user] >= MAX_AT_ONCE:
                raise TooMany("too much at once", hint="wait for the answers to what you asked")
            self._under_way[user] += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way[user] -= 1


async def _heard(request: Request, events: Iterator[Any]) -> list[Any]:
    """Return all events; where nobody listens any more, close what tells them, which ends its work."""
    told: list[Any] = []
    while (event := await anyio.to_thread.run_sync(next, events, _OVER)) is not _OVER:
        told.append(event)
        if await request.is_disconnected():
            await anyio.to_thread.run_sync(getattr(events, "close", lambda: None))
            break
    return told


_OVER = object()


def _rest(app: FastAPI, studio: Studio) -> None:
    turns = _Turns()

    @app.get("/api")
    def list_actions() -> JSONResponse:
        listed = [
            {
                "name": each.name, "role": each.role, "says": each.says, "same_as": each.same_as, "writes": each.writes,
                "arguments": each.arguments.model_json_schema(),
            }
            for each in actions().values()
        ]  # fmt: skip
        return JSONResponse(listed)

    @app.post("/api/{name}")
    async def do(
        request: Request, name: str, arguments: Annotated[dict[str, Any] | None, Body()] = None
    ) -> JSONResponse:
        session = _session(request)
        user = session.user
        if session.by_token and name == MAKES_TOKENS:  # or who stole one would outlive its end
            raise NotAllowed("a token makes no other token", hint="sign in and make it under Settings")
        with turns.one(user.name):
            found = await anyio.to_thread.run_sync(lambda: act(studio, user, name, **(arguments or {})))
            if isinstance(found, Iterator):
                found = await _heard(request, found)
            told = await anyio.to_thread.run_sync(as_json, found, studio.files.share, studio.without_places)
            return JSONResponse(told)

    @app.get("/files/{number}")
    def file(request: Request, number: str, download: bool = False, side: int = 0) -> Response:
        found = studio.files.find(number, _session(request).user)
        path, media = found.path, found.media
        if side and found.inline:
            path, media = studio.thumbnail(found.path, side), "image/webp"
        headers = {"cache-control": "private, max-age=3600"}
        if not found.inline:
            headers["content-security-policy"] = "sandbox; default-src 'none'"
        kind = "attachment" if download or not found.inline else "inline"
        return FileResponse(path, media_type=media, filename=found.name, content_disposition_type=kind, headers=headers)

    @app.get("/favicon.ico")
    def favicon() -> Response:
        return FileResponse(_STATIC / "favicon.svg", media_type="image/svg+xml")

    @app.get("/")
    def start(request: Request) -> Response:
        return RedirectResponse(f"/{_language(request, studio)}/", status_code=303)


def _language(request: Request, studio: Studio) -> str:
    session: Session | None = request.scope.get("studio.session")
    chosen = studio.setting(session.user, "language") if session else ""
    return language_of(request.headers.get("accept-language", ""), chosen)


def _reads(request: Request) -> bool:
    """Return whether a person asks, rather than a script."""
    return request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", "")


def _shorten(app: FastAPI, studio: Studio, names: Collection[str]) -> None:
    """Lead from the address of a page without a language to the page in the visitor's."""

    def lead(request: Request) -> Response:
        if not _reads(request):
            raise HTTPException(404)
        page = request.url.path.strip("/")
        query = f"?{request.url.query}" if request.url.query else ""
        path = "" if page == "home" else page
        return RedirectResponse(f"/{_language(request, studio)}/{path}{query}", status_code=303)

    for name in names:
        app.add_api_route(f"/{name}", lead, methods=["GET"], response_class=Response)


class _Lost:
    """Answers what is not there: people get a page that leads home, scripts JSON."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        await self.answer(request)(scope, receive, send)

    def answer(self, request: Request, said: str = "this is not here") -> Response:
        return self.page(request, 404) if _reads(request) else JSONResponse({"error": said}, status_code=404)

    def page(self, request: Request, status: int, said: str = "", hint: str = "") -> Response:
        from webui.context import Context

        t = Text(_language(request, self._studio))
        html = Context(self._studio, t, f"/{t.language}").render("not_found", said=said, hint=hint)
        return HTMLResponse(html, status_code=status)


def _sign_in(app: FastAPI, studio: Studio, *, secure: bool) -> None:
    def page(request: Request, error: StudioError | None = None) -> HTMLResponse:
        from webui.context import Context

        t = Text(language_of(request.headers.get("accept-language", "")))
        target = _local(request.query_params.get("next", "/"))
        html = Context(studio, t, "").render("login", error=error, target=target)
        return HTMLResponse(html, status_code=error.status if error else 200)

    @app.get("/login")
    def login_page(request: Request) -> Response:
        return page(request) if studio.users else RedirectResponse("/", status_code=303)

    @app.post("/login")
    def login(request: Request, name: _Name, password: _Secret) -> Response:
        address = request.client.host if request.client else ""
        try:
            user = studio.users.sign_in(name, password, address=address)
        except (NotAllowed, TooMany) as error:
            return page(request, error)
        tls = over_tls(request.scope, secure)
        studio.sessions.end(request.cookies.get(cookie_name(tls), ""))
        answer = RedirectResponse(_local(request.query_params.get("next", "/")), status_code=303)
        answer.set_cookie(
            cookie_name(tls), studio.sessions.begin(user), httponly=True, secure=tls, samesite="strict", path="/"
        )
        return answer

    @app.post("/logout")
    def logout(request: Request) -> Response:
        studio.sessions.end(request.cookies.get(cookie_name(over_tls(request.scope, secure)), ""))
        return JSONResponse({"next": "/login"})


def _local(target: str) -> str:
    """Return a path of this site, whatever was asked for."""
    parts = urlsplit(target)
    fine = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.netloc and target.isprintable()
    return target if fine else "/"


def _answer_errors(app: FastAPI, studio: Studio) -> None:
    lost = _Lost(studio)

    async def refused(request: Request, error: Exception) -> Response:
        status = error.status if isinstance(error, StudioError) else 422
        said, hint = (studio.without_places(each) for each in (str(error), getattr(error, "hint", "")))
        if _reads(request):
            return lost.page(request, status, said, hint)
        return JSONResponse({"error": said, "hint": hint}, status_code=status)

    async def unreadable(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        said = error.errors()[0]  # without what was sent: it may be no JSON at all
        where = ".".join(str(each) for each in said["loc"])[:200]
        return JSONResponse(
            {"error": f"{where}: {said['msg']}", "hint": "send an object of arguments"}, status_code=422
        )

    async def missing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404 and _reads(request):
            return lost.answer(request)
        return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)

    app.add_exception_handler(HTTPException, missing)
    app.add_exception_handler(RequestValidationError, unreadable)
    for kind in (StudioError, LoraDiffusionError, DatasetError):
        app.add_exception_handler(kind, refused)


async def _mount_pages(app: FastAPI, studio: Studio) -> None:
    """Build and mount the pages; in a loop, for outside of one gradio opens some that nobody closes."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ["GRADIO_TEMP_DIR"] = str(studio.home / "uploads")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"  # else a table of the last 10,000 calls is made at every call
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(2**31)
    import gradio as gr

    from webui.context import Context
    from webui.pages import build
    from webui.theme import CSS, theme

    def name_of(request: Request) -> str:
        return _session(request).user.name

    for language in LANGUAGES:
        root = f"/{language}"
        blocks = build(Context(studio, Text(language), root))
        blocks.queue(max_size=QUEUE, default_concurrency_limit=8, api_open=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="SSR mode is not supported")  # nobody asked for it
            gr.mount_gradio_app(
                app,
                blocks,
                root,
                auth_dependency=name_of,
                show_error=False,
                enable_monitoring=False,
                run_history=False,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                max_file_size=MAX_UPLOAD,
                allowed_paths=None,
                blocked_paths=[str(studio.home / f"{name}.db") for name in ("studio", "library", "jobs")],
                footer_links=[],
                app_kwargs={"openapi_url": None, "docs_url": None, "redoc_url": None},
                theme=theme(),
                css_paths=[CSS],
                head=_head(language),
                i18n=_own_words(Text(language)),
            )


_NAVIGATION = """@media (max-width: 600px) {
.nav-holder nav { flex-wrap: nowrap !important; justify-content: flex-start !important; overflow-x: auto;
  padding-inline: .5rem !important; }
.nav-holder nav a { flex: none; white-space: nowrap; } }"""
"""One line on a phone. It lies outside of what Gradio applies the style sheet of an app to."""


def _own_words(t: Text) -> Any:
    """Return what Gradio says to screen readers and has no word for itself: it would say the key."""
    import gradio as gr

    return gr.I18n(**{language: {"common.complete": t("common.complete")} for language in LANGUAGES})


_TOASTS = ("error", "warning", "info", "success", "close", "kind", "lost")
"""What Gradio says in messages, by the names that head.js knows."""


def _head(language: str) -> str:
    from webui.theme import roles

    script = "".join((Path(__file__).parent / name).read_text("utf-8") for name in ("head.js", "stream.js"))
    icon = "<link rel='icon' href='/favicon.ico' type='image/svg+xml'>"
    style = f"<style>{_NAVIGATION}\n{roles()}</style>"
    t = Text(language)
    words = json.dumps({each: t(f"common.toast_{each}") for each in _TOASTS})
    known = f"const STUDIO_LANGUAGE = {language!r}, STUDIO_WORDS = {words};"
    return f"{icon}{style}<script>{known}\n{script}</script>"
