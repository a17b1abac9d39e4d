"""The verbs of the studio: `ui` serves it, `user` says who may come in, `studio` does any of its actions."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_diffusion.console import Json, answer, say
from lora_diffusion.errors import UsageError

__all__ = ["Home", "bases", "studio_app", "ui", "users_app"]

Home = Annotated[
    Path,
    typer.Option("--home", envvar="LORA_DIFFUSION_HOME", help="Folder of the library and the studio."),
]
HOME = Path("~/.lora-diffusion")

_LOCAL = ("127.0.0.1", "localhost", "::1")


def ui(
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 7860,
    home: Home = HOME,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Name under which browsers call it, such as studio.example.com.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option("--certificate", help="TLS certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its private key, PEM.")] = None,
    models: Annotated[
        list[Path] | None, typer.Option("--models", help="Folder of base models to choose from; remembered.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser.")] = True,
) -> None:
    """Serve the studio to the browser. Other machines are let in only where users were added."""
    from webui.serving import serve

    serve(
        home,
        host=host,
        port=port,
        names=name or [],
        certificate=certificate,
        key=key,
        models=models or [],
        open_browser=open_browser,
        say=say,
    )


def bases(
    folders: Annotated[list[Path], typer.Argument(help="Folders of base models.")],
    as_json: Json = False,
) -> None:
    """Say which base models lie in folders, and what they are."""
    from lora_diffusion.basefinding import find_bases

    found = [each for folder in folders for each in find_bases(folder)]
    lines = [
        f"{each.family or '-':6} {each.resolution or '-':>5}  {each.path}  {each.problem}".rstrip() for each in found
    ]
    answer({"bases": [each.to_dict() for each in found]}, as_json, "\n".join(lines) or "no base model was found")


users_app = typer.Typer(help="Who may use the studio.", no_args_is_help=True)
studio_app = typer.Typer(help="Do what the pages of the studio do, from a script.", no_args_is_help=True)


@users_app.command("add")
def add_user(
    name: str,
    role: Annotated[str, typer.Option("--role", help="viewer, creator, trainer, approver or admin.")] = "creator",
    password: Annotated[
        str,
        typer.Option("--password", prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for."),
    ] = "",
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Add a user; from the first on everybody has to sign in."""
    _act(home, "users.add", {"name": name, "role": role, "password": password}, as_json, f"{name} is {role}")


@users_app.command("list")
def list_users(home: Home = HOME, as_json: Json = False) -> None:
    """List the users and their roles."""
    _act(home, "users.list", {}, as_json)


@users_app.command("change")
def change_user(
    name: str,
    role: Annotated[str | None, typer.Option("--role")] = None,
    password: Annotated[str | None, typer.Option("--password", help="A new password; ends their sessions.")] = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Give a user another role or password."""
    given = {key: value for key, value in (("role", role), ("password", password)) if value is not None}
    _act(home, "users.change", {"name": name, **given}, as_json, f"{name} is changed")


@users_app.command("remove")
def remove_user(name: str, home: Home = HOME, as_json: Json = False) -> None:
    """Take a user's access away at once."""
    _act(home, "users.remove", {"name": name}, as_json, f"{name} has no access any more")


@studio_app.command("list")
def list_actions(as_json: Json = False) -> None:
    """List every action with its arguments."""
    from webui.actions import actions

    rows = [
        {"name": each.name, "role": each.role, "says": each.says, "arguments": list(each.arguments.model_fields)}
        for each in actions().values()
    ]
    lines = [f"{row['name']:28} {row['role']:9} {row['says']}" for row in rows]
    answer({"actions": rows}, as_json, "\n".join(lines))


@studio_app.command("do")
def do(
    name: str,
    arguments: Annotated[list[str] | None, typer.Argument(help="key=value; values that are JSON are read so.")] = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Do one action as the person at this machine."""
    given = {}
    for each in arguments or []:
        key, sign, value = each.partition("=")
        if not sign:
            raise UsageError(f"{each!r} is no key=value", hint="see `lora-diffusion studio list --json`")
        given[key] = _value(value)
    _act(home, name, given, as_json)


def _value(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _act(home: Path, name: str, arguments: dict[str, Any], as_json: bool, text: str = "") -> None:
    import json

    from webui.actions import act
    from webui.actions import as_json as plain
    from webui.errors import StudioError
    from webui.studio import Studio
    from webui.users import User

    studio = Studio(home)
    try:
        found = plain(act(studio, User(name=_login(), role="admin"), name, **arguments))
    except StudioError as error:
        raise UsageError(str(error), hint=error.hint) from error
    finally:
        studio.close()
    result = found if isinstance(found, dict) else {"result": found}
    answer(result, as_json, text or json.dumps(found, indent=2, ensure_ascii=False))


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user on this machine, as in a bare container
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
