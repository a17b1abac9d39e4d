"""Reads a corpus of damaged files in a process of its own, and says how long and how much memory they took.

Run as `python -m tests.files.hostile FOLDER COUNT`: the last line is a JSON object.
"""

import json
import random
import resource
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lora_diffusion.errors import LoraDiffusionError
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.files.inspect import inspect_adapter


def mutations(seeds: list[bytes], count: int) -> Iterator[bytes]:
    """Yield damaged copies of good files: cut, extended, flipped, shuffled, spliced, with other headers, and noise."""
    draw = random.Random(0)
    makers = (_cut, _flipped, _appended, _spliced, _noise, _header_bytes, _header_values, _payload, _renamed)
    for at in range(count):
        yield makers[at % len(makers)](draw, draw.choice(seeds), seeds)


def _cut(draw: random.Random, good: bytes, _: list[bytes]) -> bytes:
    return good[: draw.randrange(len(good))]


def _flipped(draw: random.Random, good: bytes, _: list[bytes]) -> bytes:
    bad = bytearray(good)
    for _time in range(draw.randrange(1, 30)):
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
    return bytes(bad)


def _appended(draw: random.Random, good: bytes, _: list[bytes]) -> bytes:
    return good + draw.randbytes(draw.randrange(1, 5000))


def _spliced(draw: random.Random, good: bytes, seeds: list[bytes]) -> bytes:
    other = draw.choice(seeds)
    return good[: draw.randrange(len(good))] + other[draw.randrange(len(other)) :]


def _noise(draw: random.Random, good: bytes, _: list[bytes]) -> bytes:
    start = draw.choice((b"", good[:8], good[:9], good[:200], struct.pack("<Q", draw.randrange(2**20)) + b"{"))
    return start + draw.randbytes(draw.randrange(4000))


def _split(good: bytes) -> tuple[bytes, bytes]:
    length = struct.unpack("<Q", good[:8])[0]
    return good[8 : 8 + length], good[8 + length :]


def _joined(header: bytes, payload: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + payload


def _header_bytes(draw: random.Random, good: bytes, _: list[bytes]) -> bytes:
    header, payload = _split(good)
    bad = bytearray(header)
    for _time in range(draw.randrange(1, 10)):
        bad[draw.randrange(len(bad))] = draw.choice(b'{}[]",:0123456789abcdeF -\\\x00\xff')
    return _joined(bytes(bad), payload)


_ODD = (
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    10**400,
    "",
    "x",
    "F99",
    "F32",
    "BF16",
    "I64",
    [],
    [0],
    [2**20, 2**20],
    {},
)


def _header_values(draw: random.Random, good: bytes, _: list[bytes]) -> bytes:
    """The same payload under a header that parses, with values that no writer gives."""
    header, payload = _split(good)
    parsed = json.loads(header)
    for _time in range(draw.randrange(1, 4)):
        name = draw.choice(sorted(parsed))
        entry = parsed[name]
        if isinstance(entry, dict) and entry and draw.random() < 0.8:
            entry[draw.choice(sorted(entry))] = draw.choice(_ODD)
        else:
            parsed[name] = draw.choice(_ODD)
    return _joined(json.dumps(parsed).encode(), payload)


def _payload(draw: random.Random, good: bytes, _: list[bytes]) -> bytes:
    """Values of any size, NaN and infinity among them, under a good header without our hash."""
    header, payload = _split(good)
    parsed = json.loads(header)
    parsed["__metadata__"].pop("lora_diffusion.sha256_v2", None)
    return _joined(json.dumps(parsed).encode(), draw.randbytes(len(payload)))


def _renamed(draw: random.Random, good: bytes, _: list[bytes]) -> bytes:
    """Tensors under names that belong to others, so that shapes and roles no longer fit."""
    header, payload = _split(good)
    parsed = json.loads(header)
    parsed["__metadata__"].pop("lora_diffusion.sha256_v2", None)
    names = [name for name in parsed if name != "__metadata__"]
    shuffled = dict(zip(names, draw.sample(names, len(names)), strict=True))
    leaves = ("hada_w1_a", "lokr_w1", "lokr_w2", "lokr_t2", "diff", "dora_scale", "w_norm", "lora_mid.weight")
    result = {}
    for name, entry in parsed.items():
        new = shuffled.get(name, name)
        stem, _, _leaf = new.partition(".")
        result[f"{stem}.{draw.choice(leaves)}" if name != "__metadata__" and draw.random() < 0.2 else new] = entry
    return _joined(json.dumps(result).encode(), payload)


def main(folder: Path, count: int) -> dict[str, object]:
    seeds = [path.read_bytes() for path in sorted(folder.glob("*.safetensors"))]
    path, outcome, slowest, crashes = folder / "mutated.bin", {"read": 0, "refused": 0}, 0.0, []
    for good in sorted(folder.glob("*.safetensors")):
        read_adapter(good)
        inspect_adapter(good)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for at, bad in enumerate(mutations(seeds, count)):
        path.write_bytes(bad)
        for reader in (read_adapter, inspect_adapter):
            start = time.perf_counter()
            try:
                reader(path)
                outcome["read"] += 1
            except LoraDiffusionError:
                outcome["refused"] += 1
            except Exception as error:  # noqa: BLE001 - the whole point
                crashes.append(f"{at} {reader.__name__}: {type(error).__name__}: {error}")
            slowest = max(slowest, time.perf_counter() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {**outcome, "crashes": crashes[:20], "slowest_s": slowest, "grown_mb": grown / 1024}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))) + "\n")
