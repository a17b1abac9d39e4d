"""Start the server, where that is safe."""

import ipaddress
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from lora_diffusion import UsageError
from webui.server import LOCAL_HOSTS, create_app
from webui.studio import Studio

__all__ = ["allow_files", "require_safe", "serve"]

FILES = 8192
"""200 threads hold two files of each of three databases, 1200; then there are browsers and what they are sent."""


def serve(
    home: Path,
    *,
    host: str,
    port: int,
    names: Sequence[str],
    certificate: Path | None,
    key: Path | None,
    models: Sequence[Path],
    open_browser: bool,
    say: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C; jobs go on without it. Raises UsageError for an address that is not safe or not free."""
    import uvicorn

    if (certificate is None) != (key is None):
        raise UsageError("a certificate and its key belong together", hint="give --certificate and --key")
    require_safe(home, host)
    if models:
        Studio(home).remember_models(models)
    secure = certificate is not None
    if not _is_local(host) and not secure:
        say("warning: without --certificate and --key passwords cross the network unprotected; put TLS in front")
    allow_files()
    app = create_app(home, hosts=(*LOCAL_HOSTS, host, *names), secure=secure)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        ssl_certfile=certificate,
        ssl_keyfile=key,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    try:
        listening = config.bind_socket()
    except SystemExit as error:
        raise UsageError(f"port {port} is taken", hint="give another --port") from error
    address = f"{'https' if secure else 'http'}://{_shown(host)}:{listening.getsockname()[1]}/"
    say(f"studio: {address}   (Ctrl-C ends it; trainings go on)")
    if open_browser:
        webbrowser.open(address)
    uvicorn.Server(config).run(sockets=[listening])


def allow_files() -> None:
    """Let this process open as many files as it may, up to FILES: a usual 1024 is less than its threads need."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def require_safe(home: Path, host: str) -> None:
    """Raise UsageError for an address that others can reach while nobody has to sign in."""
    if _is_local(host):
        return
    studio = Studio(home)
    if not any(user.role == "admin" for user in studio.users.all()):
        raise UsageError(
            f"{host} can be reached by others, and nobody would have to sign in",
            hint="add yourself first: lora-diffusion user add NAME --role admin",
        )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
