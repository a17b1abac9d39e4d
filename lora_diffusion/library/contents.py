"""What stands in the package.json of a package: everything that is in the zip, and what the library says of it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lora_diffusion.library.values import Details, Lineage

__all__ = ["CARD", "CONTENTS", "LARGEST", "Contents", "PackedFile", "PackedSample"]

CONTENTS = "package.json"
CARD = "card.html"
LARGEST = 4 << 30
"""Bytes of one package when unpacked; an adapter of rank 128 for SDXL with text encoders has 1.7 GB in fp32."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackedFile(_Part):
    """A file of the zip."""

    path: str = Field(max_length=200)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: int = Field(ge=0, le=LARGEST)


class PackedSample(_Part):
    """A sample among the files."""

    path: str
    prompt: str = ""
    seed: int | None = None
    weight: float | None = None


class Contents(_Part):
    """`adapter` and the paths of the samples are among `files`, and `files` are all that is in the zip beside this."""

    format: Literal["lora-diffusion package"] = "lora-diffusion package"
    version: Literal[1] = 1
    name: str
    number: int
    family: str
    privacy: str
    details: Details
    lineage: Lineage
    adapter: str
    samples: tuple[PackedSample, ...] = Field(default=(), max_length=500)
    files: tuple[PackedFile, ...] = Field(max_length=600)
