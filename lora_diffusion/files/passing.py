"""Bytes that go from one file into another as they are: hashed once, on their way, for both of them."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lora_diffusion.files.checkpoint import Checkpoint
from lora_diffusion.files.hashes import HASH_KEY
from lora_diffusion.files.safe import SafeFile

__all__ = ["Passed", "Sources", "verified_beside"]

Sources = Mapping[str, tuple[SafeFile, str]]
"""Tensors of a file that lie in another one with the same bytes: that file and the name there, by name here."""


class Passed:
    """The tensors of a base that go by as they lie: which, and their digests as soon as they are known."""

    def __init__(self) -> None:
        self._names: dict[Path, set[str]] = {}
        self._digests: dict[Path, dict[str, bytes]] = {}

    def expect(self, sources: Sources) -> None:
        """Say what will go by."""
        for file, name in sources.values():
            self._names.setdefault(file.path, set()).add(name)

    def take(self, sources: Sources, written: Mapping[str, bytes]) -> None:
        """Say which digests were made of what went by; `written` holds them by the names of the new file."""
        for name, (file, old) in sources.items():
            self._digests.setdefault(file.path, {})[old] = written[name]

    def others(self, file: SafeFile) -> set[str]:
        """Return the names of what does not go by."""
        return set(file.entries) - self._names.get(file.path, set())

    def digests(self, file: SafeFile) -> dict[str, bytes]:
        return self._digests.get(file.path, {})


@contextmanager
def verified_beside(checkpoint: Checkpoint, passed: Passed) -> Iterator[None]:
    """Verify a base while it is read for something else. A damaged one explains whatever else went wrong.

    Raises CorruptFile, at the end of the block, where a file of ours is not what was written.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="verify") as beside:
        verifying = [(file, beside.submit(_others, file, passed)) for file in checkpoint.files]
        try:
            yield
        finally:
            for file, others in verifying:
                known = others.result()
                if HASH_KEY in file.hash_keys:
                    file.verify(passed.digests(file) | known)


def _others(file: SafeFile, passed: Passed) -> dict[str, bytes]:
    """A hash of the older kind takes all bytes in their order; without any there is nothing to compare with."""
    if HASH_KEY in file.hash_keys:
        return file.digests(passed.others(file))
    file.verify()
    return {}
