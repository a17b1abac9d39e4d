"""What the library hands out. Times are ISO-8601 in UTC, names of people plain text, hashes SHA-256 in hex."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from datasets_tools.finding import Finding

__all__ = [
    "STAGES",
    "Comment",
    "Comparison",
    "Details",
    "Difference",
    "Event",
    "Facts",
    "Fault",
    "LibraryPicture",
    "Lineage",
    "Package",
    "PictureState",
    "Sample",
    "Stage",
    "Uses",
    "Version",
    "Withdrawal",
]

Stage = Literal["draft", "in_review", "approved", "retired"]
STAGES: tuple[Stage, ...] = ("draft", "in_review", "approved", "retired")

PictureState = Literal["", "approved", "off_brand"]

Fault = Finding
"""What `Library.verify` finds: `file` is where, "blocks" is damage, "notes" is harmless."""


class _Value:
    """A frozen value that can become plain JSON."""

    def to_dict(self) -> dict[str, Any]:
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, _Value):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True, kw_only=True)
class Details(_Value):
    """What people say about a version.

    `weight` is what to begin with, from `weight_low` to `weight_high` is where it works. `expires` is YYYY-MM-DD, the
    last day of the licence. `card` is text for those who receive it. `thumbnail` is the hash of a picture that the
    library keeps. `presets` maps names to weights per block, as in {"logo safe": "0.8@unet.up=1.2@text=0"}.
    """

    trigger: str = ""
    weight: float = 1.0
    weight_low: float | None = None
    weight_high: float | None = None
    brand: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    licence: str = ""
    expires: str = ""
    notes: str = ""
    card: str = ""
    thumbnail: str = ""
    presets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Lineage(_Value):
    """Where a version comes from.

    `manifest` holds (SHA-256, file name) of each training picture, `plan` the TOML of the run, `run` its name or
    folder. `parents` are (reference or fingerprint, weight): what it was blended of, or continued from. `method` is how
    it came about: "train", or the method of a blend.
    """

    manifest: tuple[tuple[str, str], ...] = ()
    plan: str = ""
    run: str = ""
    parents: tuple[tuple[str, float], ...] = ()
    method: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts(_Value):
    """What the file of a version holds, as reading it in full found when it was added."""

    dialect: str = ""
    methods: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()
    components: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Version(_Value):
    """One adapter file under a name; `id` stands for the name through every renaming.

    `fingerprint` is the same for the same weights in any dialect. `current` says whether the name alone means this
    version. `blocked` is why it may not be approved: a training picture was withdrawn. `images` counts its training
    pictures. `by` and `at` tell who added it and when.
    """

    id: str
    name: str
    number: int
    stage: Stage
    current: bool
    blocked: str
    sha256: str
    bytes: int
    fingerprint: str
    family: str
    at: str
    by: str
    images: int
    details: Details
    facts: Facts

    @property
    def ref(self) -> str:
        """How to name exactly this version."""
        return f"{self.name}@{self.number}"

    @property
    def warning(self) -> str:
        """What whoever draws with it should know, or nothing."""
        return f"{self.ref} is blocked: {self.blocked}" if self.blocked else ""

    def to_dict(self) -> dict[str, Any]:
        return {"ref": self.ref, **super().to_dict()}


@dataclass(frozen=True, kw_only=True)
class Sample(_Value):
    """A picture that shows what a version does. `seed` and `weight` are None where nobody said."""

    prompt: str
    seed: int | None
    weight: float | None
    sha256: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Event(_Value):
    """One change. `subject` names what was changed; `before` and `after` map rows to the columns that changed."""

    number: int
    at: str
    by: str
    what: str
    subject: str
    reason: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class LibraryPicture(_Value):
    """A drawn picture that is kept. `adapters` are (reference or fingerprint, weight) that it was drawn with."""

    id: str
    sha256: str
    path: Path
    at: str
    by: str
    settings: Mapping[str, Any]
    adapters: tuple[tuple[str, float], ...]
    starred: bool
    state: PictureState
    reason: str


@dataclass(frozen=True, kw_only=True)
class Comment(_Value):
    ref: str
    at: str
    by: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Difference(_Value):
    """One setting that differs; "" where a side lacks it. `section` is plan, file, metadata or details."""

    section: str
    key: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Comparison(_Value):
    """`samples` are pairs of the same prompt and seed first, then those that only one side has."""

    first: Version
    second: Version
    settings: tuple[Difference, ...]
    samples: tuple[tuple[Sample | None, Sample | None], ...]


@dataclass(frozen=True, kw_only=True)
class Uses(_Value):
    """What was made of a version: `blends` of it, versions whose run `continued` from it, `pictures` drawn with it."""

    blends: tuple[Version, ...] = ()
    continued: tuple[Version, ...] = ()
    pictures: tuple[LibraryPicture, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Withdrawal(_Value):
    """A training picture that may no longer be used, and what it touches.

    `versions` were trained on it, `descendants` blended of those or continued from them, at any distance, and
    `pictures` were drawn with any of these.
    """

    sha256: str
    reason: str
    versions: tuple[Version, ...]
    descendants: tuple[Version, ...]
    pictures: tuple[LibraryPicture, ...]


@dataclass(frozen=True, kw_only=True)
class Package(_Value):
    """A written package; `withheld` are the metadata keys that the privacy profile left out of the adapter."""

    path: Path
    sha256: str
    files: tuple[str, ...]
    withheld: tuple[str, ...] = ()
