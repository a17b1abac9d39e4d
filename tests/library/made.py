"""What the tests of the library put into it."""

import torch
from PIL import Image

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.adapter import Adapter, write_adapter
from lora_diffusion.generation.picture import Picture, Settings

WHEN = "2026-01-31T09:00:00+00:00"
ANN = {"by": "ann", "when": WHEN}
BEN = {"by": "ben", "when": WHEN}
IMAGES = tuple(digit * 64 for digit in "0123456789abcdef")

_MODULE = "denoiser.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def adapter(path, seed, rank=1, metadata=None):
    draw = torch.Generator().manual_seed(seed)
    down, up = torch.randn(rank, 320, generator=draw), torch.randn(320, rank, generator=draw)
    modules = {_MODULE: Weights(down=down, up=up, alpha=float(rank))}
    write_adapter(Adapter(name=path.stem, family="sd1", modules=modules), path, metadata=metadata or {})
    return path


def picture(path, seed, prompt="an inkwash fox", adapters=None, fingerprints=None):
    settings = Settings(
        prompt=prompt, seed=seed, width=16, height=16, steps=2, guidance=5.0, sampler="DDIM", base="demo",
        adapters=adapters or {"ink": 0.8}, fingerprints=fingerprints or {},
    )  # fmt: skip
    return Picture(image=Image.new("RGB", (16, 16), (seed, 80, 90)), settings=settings).save(path)


def approved(library, ref):
    library.promote(ref, "in_review", **ANN)
    return library.promote(ref, "approved", **BEN)


def fill(library, files, drawn):
    """One of everything that the library can hold, so that no table is empty."""
    from lora_diffusion.library import Details, Lineage, NewSample

    library.add(
        files[0],
        name="Ink",
        **ANN,
        details=Details(
            trigger="inkwash", tags=("Wet", "blau"), weight=0.8, weight_low=0.5, weight_high=1.2, notes="n",
            presets={"soft": "0.5@no-text"},
        ),
        lineage=Lineage(
            manifest=((IMAGES[1], "a.png"), (IMAGES[2], "b.png")), plan="[run]\nsteps = 3\n", run="runs/ink",
            method="train",
        ),
        samples=[NewSample(path=drawn[0]), NewSample(path=drawn[1])],
    )  # fmt: skip
    library.add(files[1], name="Paper", **BEN, lineage=Lineage(parents=(("ink", 0.5),), method="concat"))
    library.describe("ink", **ANN, thumbnail=library.samples("ink")[0].sha256)
    approved(library, "ink")
    library.comment("ink@1", "the blue is right", **BEN)
    found = library.add_picture(drawn[2], **ANN, settings={"prompt": "a fox", "seed": 2}, adapters=[("ink", 0.8)])
    library.star(found.id, **BEN)
    library.withdraw(IMAGES[9], **BEN, reason="consent was revoked")
