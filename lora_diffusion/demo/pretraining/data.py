"""The rendered training pictures, in memory; nothing of them is written to disk."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from random import Random
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lora_diffusion.demo.canvas import Array, to_image
from lora_diffusion.demo.pretraining.textures import textured
from lora_diffusion.demo.scenes import random_scene
from lora_diffusion.seeds import seed_of

__all__ = ["Captioned", "captioned", "printed", "to_floats"]

Part = TypeVar("Part")

CHUNK = 500  # scenes that one process renders at a time: a few seconds

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """Pictures [n, 3, 128, 128] as uint8 with one caption each."""

    pictures: Tensor
    captions: Sequence[str]


def captioned(n: int, *, seed: int) -> Captioned:
    """Render n scenes for the denoiser, 30 % of them in a generic look."""
    parts = _in_processes(_captioned_part, n, seed)
    return Captioned(
        pictures=_stacked([pictures for pictures, _ in parts]),
        captions=[caption for _, captions in parts for caption in captions],
    )


def printed(n: int, *, seed: int) -> Tensor:
    """Render n pictures for the VAE [n, 3, 128, 128] as uint8: scenes in many looks, and 30 % textures."""
    return _stacked(_in_processes(_printed_part, n, seed))


def to_floats(pictures: Tensor, device: torch.device) -> Tensor:
    """Return uint8 pictures as bfloat16 in -1..1 on a device, channels last."""
    floats = pictures.to(device).float() / 127.5 - 1
    return floats.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)


def _in_processes(render: Callable[[int, int], Part], n: int, seed: int) -> list[Part]:
    sizes = [min(CHUNK, n - start) for start in range(0, n, CHUNK)]
    seeds = [seed_of(seed, part, "render") for part in range(len(sizes))]
    if len(sizes) == 1:
        return [render(sizes[0], seeds[0])]
    # spawned, not forked: torch's threads do not survive a fork
    with ProcessPoolExecutor(min(len(sizes), os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        return list(pool.map(render, sizes, seeds))


def _captioned_part(n: int, seed: int) -> tuple[Bytes, list[str]]:
    rng = Random(seed)
    scenes = [random_scene(rng, looks=0.3) for _ in range(n)]
    return np.stack([_to_bytes(scene.picture) for scene in scenes]), [scene.caption for scene in scenes]


def _printed_part(n: int, seed: int) -> Bytes:
    rng = Random(seed)
    return np.stack([_to_bytes(_printed_one(rng)) for _ in range(n)])


def _printed_one(rng: Random) -> Array:
    return textured(rng) if rng.random() < 0.3 else random_scene(rng, looks=0.45).picture


def _to_bytes(picture: Array) -> Bytes:
    return np.asarray(to_image(picture))


def _stacked(parts: Sequence[Bytes]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()
