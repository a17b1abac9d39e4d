"""Users and one's own settings."""

from typing import Annotated, Literal

from pydantic import Field

from webui.actions import At, action
from webui.errors import BadRequest
from webui.sessions import Token
from webui.users import LOCAL, Role, User

Name = Annotated[str, Field(min_length=1, max_length=64)]
Password = Annotated[str, Field(max_length=200)]


@action(role="admin", writes=False)
def list_(at: At) -> list[User]:
    """List the users."""
    return at.studio.users.all()


@action(role="admin", same_as="user add")
def add(at: At, *, name: Name, role: Role = "creator", password: Password) -> User:
    """Add a user; from the first on everybody has to sign in, so the first is an admin."""
    first = not at.studio.users
    if first and role != "admin":
        raise BadRequest("the first user has to be an admin", hint="choose the role admin")
    user = at.studio.users.add(name, role, password, when=at.when)
    if first:
        at.studio.hand_over(user)
    return user


@action(role="admin", same_as="user change")
def change(at: At, *, name: Name, role: Role | None = None, password: Password | None = None) -> User:
    """Give a user another role or password."""
    return at.studio.users.change(name, role=role, password=password)


@action(role="admin", same_as="user remove")
def remove(at: At, *, name: Name) -> None:
    """Take a user's access away at once."""
    at.studio.users.remove(name)


@action(role="viewer")
def token(at: At, *, label: Annotated[str, Field(max_length=80)] = "") -> dict[str, str]:
    """Make a token with which a script does what you may do. It is shown once."""
    if at.user == LOCAL:
        raise BadRequest("a token needs a user", hint="add one: lora-diffusion user add NAME --role admin")
    return {"token": at.studio.sessions.issue(at.user, label, when=at.when)}


@action(role="viewer", writes=False)
def tokens(at: At) -> list[Token]:
    """List your tokens: what each is for, since when it is there, and when it was last used."""
    return at.studio.sessions.tokens(at.user)


@action(role="viewer")
def revoke(at: At, *, id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]) -> None:
    """End one of your tokens at once."""
    at.studio.sessions.revoke(at.user, id)


@action(role="viewer", writes=False)
def prefer(at: At, *, language: Literal["", "en", "de"] | None = None, tour: bool | None = None) -> None:
    """Keep a preference of yours: the language of the pages, and whether the tour is shown."""
    if language is not None:
        at.studio.keep_setting(at.user, "language", language)
    if tour is not None:
        at.studio.keep_setting(at.user, "tour", "shown" if tour else "seen")


@action(role="viewer", writes=False)
def preferences(at: At) -> dict[str, object]:
    """Return your preferences."""
    return {
        "language": at.studio.setting(at.user, "language"),
        "tour": at.studio.setting(at.user, "tour", "shown") == "shown",
    }
