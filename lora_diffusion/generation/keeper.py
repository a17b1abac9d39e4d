"""Base models and adapters that stay loaded between pictures, as many as memory is meant to hold."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lora_diffusion.errors import UsageError
from lora_diffusion.families import locate
from lora_diffusion.files.adapter import Adapter, read_adapter
from lora_diffusion.generation.generator import Generator
from lora_diffusion.parts import PartSpec

__all__ = ["Keeper", "Wanted"]

OnLoad = Callable[[str, str], None]
"""Called before something is loaded, with what it is ("base", "adapter") and its name."""

_Key = tuple[str, int, int]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An adapter that a picture takes; `name` is what it is called there, empty for its own name."""

    part: PartSpec
    name: str = ""


@dataclass(kw_only=True)
class _Base:
    generator: Generator
    worn: list[tuple[_Key, str, str]] = field(default_factory=list)
    """What is in place, in order: the file, the name that was asked for, the name there."""


class Keeper:
    """Holds the last base models and adapters that were used; a file that changed is another one.

    What a generator wears is exactly what a picture asks for, in its order, so the picture is the one that a fresh
    process draws. Adapters that are not worn wait in main memory, as they were read.
    """

    def __init__(
        self, *, bases: int = 1, adapters: int = 8, device: str = "auto", precision: str = "auto", on_load: OnLoad
    ) -> None:
        self._limits, self._device, self._precision = (bases, adapters), device, precision
        self._on_load = on_load
        self._bases: OrderedDict[tuple[str, str, int, int], _Base] = OrderedDict()
        self._adapters: OrderedDict[_Key, Adapter] = OrderedDict()

    def generator(self, base: str, *, tokenizer: str = "", wanted: Sequence[Wanted] = ()) -> Generator:
        """Return a base model that wears these adapters. Raises as `Generator.open` and `Generator.add` do."""
        found = self._base(base, tokenizer)
        keys = [_key(Path(each.part.source)) for each in wanted]
        asked = [(key, each.name) for key, each in zip(keys, wanted, strict=True)]
        same = _common([(key, name) for key, name, _ in found.worn], asked)
        for _, _, name in reversed(found.worn[same:]):
            found.generator.remove(name)
        del found.worn[same:]
        for key, each in list(zip(keys, wanted, strict=True))[same:]:
            adapter = self._adapter(key, Path(each.part.source))
            found.worn.append((key, each.name, found.generator.add(adapter, each.part, name=each.name)))
        found.generator.blend = {name: each.part for (_, _, name), each in zip(found.worn, wanted, strict=True)}
        return found.generator

    def unload(self) -> None:
        """Give all memory back."""
        import gc

        import torch

        self._bases.clear()
        self._adapters.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _base(self, base: str, tokenizer: str) -> _Base:
        path = locate(base)
        file = path / "model_index.json" if path.is_dir() else path
        key = (base, tokenizer, *_key(file)[1:])
        if key not in self._bases:
            while len(self._bases) >= self._limits[0]:  # first, so that never one more than the limit is in memory
                self._bases.popitem(last=False)
            self._on_load("base", base)
            opened = Generator.open(base, device=self._device, precision=self._precision, tokenizer=tokenizer)
            self._bases[key] = _Base(generator=opened)
        self._bases.move_to_end(key)
        return self._bases[key]

    def _adapter(self, key: _Key, path: Path) -> Adapter:
        if key not in self._adapters:
            self._on_load("adapter", path.stem)
            self._adapters[key] = read_adapter(path)
            while len(self._adapters) > self._limits[1]:
                self._adapters.popitem(last=False)
        self._adapters.move_to_end(key)
        return self._adapters[key]


def _common(first: Sequence[object], second: Sequence[object]) -> int:
    """Return how many of the first elements are equal."""
    equal = [one == other for one, other in zip(first, second, strict=False)]
    return [*equal, False].index(False)


def _key(path: Path) -> _Key:
    try:
        found = path.stat()
    except OSError:
        raise UsageError(f"there is no file {path}", hint="it was moved or deleted; choose it again") from None
    return str(path), found.st_mtime_ns, found.st_size
