"""Sequences of values that are made when they are asked for: 100,000 pictures as objects take 300 MB, as rows 20."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar, overload

__all__ = ["Computed"]

T = TypeVar("T")


class Computed(Sequence[T]):
    """`count` values, each made by `make` from its index whenever it is read; equal to any sequence of equal values."""

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...

    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(self._make(place) for place in range(self._count)[index])
        return self._make(range(self._count)[index])  # negative ones count from the end, others raise IndexError

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # its values may be anything

    def __repr__(self) -> str:
        shown = chain((repr(value) for value in self[:3]), ["..."] if len(self) > 3 else [])
        return f"<{len(self)} values: {', '.join(shown)}>"
