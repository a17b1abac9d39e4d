"""What may leave the studio, and who may send it out.

An approved style may be exported by creators and above; a draft, one in review and a retired one by trainers and above,
who make and test styles, and its file's name says what it is. A blocked one, whose pictures were withdrawn, leaves only
as a private archive, by trainers and above.
"""

import re

from lora_diffusion import Version
from webui.errors import NotAllowed
from webui.users import User, allows

__all__ = ["file_name", "may_release", "require_release"]


def may_release(user: User, version: Version, *, archived: bool = False) -> bool:
    """Say whether a user may export a version; `archived` is as a private archive."""
    if version.blocked:
        return archived and allows(user, "trainer")
    return allows(user, "creator" if version.stage == "approved" else "trainer")


def require_release(user: User, version: Version, *, archived: bool = False) -> None:
    """Raise NotAllowed where a user may not export a version."""
    if may_release(user, version, archived=archived):
        return
    if version.blocked:
        raise NotAllowed(
            f"{version.ref} is blocked: {version.blocked}",
            hint="a trainer may keep it as a private archive; for others, train it again without these pictures",
        )
    raise NotAllowed(
        f"{version.ref} is not approved, and {user.name} is {user.role}",
        hint="ask an approver to approve it, or a trainer to export it as it is",
    )


def file_name(version: Version, suffix: str) -> str:
    """Return how a file of a version is called: Autumn-v3.safetensors, Autumn-v3-draft.safetensors before approval."""
    stage = "blocked" if version.blocked else version.stage.replace("_", "-")
    said = "" if stage == "approved" else f"-{stage}"
    name = re.sub(r"\s+", "-", version.name)
    return f"{name}-v{version.number}{said}{suffix}"
