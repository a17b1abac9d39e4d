"""The adapters that come with the package, for a library that has nothing yet."""

from pathlib import Path

from datasets_tools.storage import sha256_file
from lora_diffusion.library.adding import NewSample, add
from lora_diffusion.library.rows import adapter_named
from lora_diffusion.library.store import Store
from lora_diffusion.library.values import Details, Lineage, Version

__all__ = ["SHIPPED", "seed"]

SHIPPED = Path(__file__).parents[1] / "demo" / "adapters"
BY = "lora-diffusion"


def seed(store: Store, *, when: str, folder: Path = SHIPPED) -> list[Version]:
    """Add each .safetensors of `folder` under its file name as approved, unless that was done before.

    The pictures of the folder of the same name are its samples.

    A name that people use already is left to them. Return what was added.
    """
    added = []
    for path in sorted(folder.glob("*.safetensors")):
        if not _is_there(store, path):
            version = add(
                store,
                path,
                name=path.stem,
                by=BY,
                when=when,
                details=Details(owner=BY, tags=("demo",), licence="OFL-1.1", weight_low=0.5, weight_high=1.2),
                lineage=Lineage(method="train"),
                samples=[NewSample(path=sample) for sample in sorted((folder / path.stem).glob("*.png"))],
                reason="comes with lora-diffusion",
                stage="approved",
            )
            added.append(version)
    return added


def _is_there(store: Store, path: Path) -> bool:
    with store.reading() as connection:
        mine = connection.execute(
            "SELECT 1 FROM versions WHERE sha256 = ? AND by = ?", (sha256_file(path), BY)
        ).fetchone()
        return mine is not None or adapter_named(connection, path.stem) is not None
