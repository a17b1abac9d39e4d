"""What tells two versions apart: settings that differ, and samples side by side."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lora_diffusion.library.rows import find, lineage_of, samples_of, version_of
from lora_diffusion.library.store import Store
from lora_diffusion.library.values import Comparison, Difference, Lineage, Sample, Version

__all__ = ["compare"]


def compare(store: Store, first: str, second: str) -> Comparison:
    """Return what tells two versions apart; as `Library.compare` says."""
    with store.reading() as connection:
        rows = [find(connection, ref) for ref in (first, second)]
        versions = [version_of(row) for row in rows]
        lineages = [lineage_of(connection, row) for row in rows]
        samples = [samples_of(connection, store.objects, row) for row in rows]
    sides = [_settings(version, lineage) for version, lineage in zip(versions, lineages, strict=True)]
    return Comparison(
        first=versions[0],
        second=versions[1],
        settings=tuple(_differences(*sides)),
        samples=tuple(_pairs(*samples)),
    )


def _settings(version: Version, lineage: Lineage) -> dict[tuple[str, str], str]:
    facts = asdict(version.facts)
    metadata = facts.pop("metadata")
    facts |= {"family": version.family, "bytes": version.bytes, "fingerprint": version.fingerprint}
    facts |= {"pictures": version.images, "method of making": lineage.method}
    facts |= {"parents": [f"{name}:{weight:g}" for name, weight in lineage.parents]}
    sections: dict[str, Mapping[str, Any]] = {
        "plan": _flat(tomllib.loads(lineage.plan)),
        "file": facts,
        "metadata": metadata,
        "details": asdict(version.details),
    }
    return {(name, key): _text(value) for name, found in sections.items() for key, value in found.items()}


def _flat(values: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= _flat(value, f"{start}{key}.") if isinstance(value, dict) else {f"{start}{key}": value}
    return result


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {each}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _differences(first: Mapping[tuple[str, str], str], second: Mapping[tuple[str, str], str]) -> list[Difference]:
    keys = dict.fromkeys((*first, *second))
    both = {(section, key): (first.get((section, key), ""), second.get((section, key), "")) for section, key in keys}
    order = ("plan", "file", "metadata", "details")
    found = sorted((each for each, (one, other) in both.items() if one != other), key=lambda each: order.index(each[0]))
    return [Difference(section=each[0], key=each[1], first=both[each][0], second=both[each][1]) for each in found]


def _pairs(first: list[Sample], second: list[Sample]) -> list[tuple[Sample | None, Sample | None]]:
    """Pair samples of one prompt and seed; of several, those with the same weight before others."""
    pairs: list[tuple[Sample | None, Sample | None]] = []
    left = list(second)
    alone: list[tuple[Sample | None, Sample | None]] = []
    for one in first:
        alike = [other for other in left if (other.prompt, other.seed) == (one.prompt, one.seed)]
        match = next((other for other in alike if other.weight == one.weight), alike[0] if alike else None)
        if match is None:
            alone.append((one, None))
        else:
            left.remove(match)
            pairs.append((one, match))
    return [*pairs, *alone, *((None, other) for other in left)]
