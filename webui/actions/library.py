"""The library of styles: versions, stages, where they come from and where they went."""

from typing import Annotated, Literal

from pydantic import Field

from lora_diffusion import Version
from webui.actions import At, action

__all__ = ["Ref"]

Ref = Annotated[str, Field(min_length=1, max_length=80)]
Words = Annotated[str, Field(max_length=200)]


@action(role="viewer", writes=False, same_as="library list")
def list_(
    at: At,
    *,
    text: Words = "",
    stage: Literal["", "draft", "in_review", "approved", "retired"] = "",
    family: Words = "",
    tag: Words = "",
    every: bool = False,
) -> list[Version]:
    """List styles; without `every` the current version of each name."""
    return list(at.studio.library.versions(text=text, stage=stage, family=family, tag=tag, every=every))


@action(role="viewer", writes=False, same_as="library show")
def show(at: At, *, ref: Ref) -> Version:
    """Show one version."""
    return at.studio.library.version(ref)
