"""Small pictures of what is being drawn, without the VAE's decoder: colours as a linear map of latents.

A latent cell says mostly what colour its square has, so a matrix that is fitted once per VAE shows the picture at the
size of its latents; decoding it would cost as much as several steps.
"""

import io
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from lora_diffusion.families.base import Components, Family
from lora_diffusion.seeds import generator

__all__ = ["MAX_JPEG", "Preview", "as_jpeg", "linear_preview", "watched"]

MAX_JPEG = 40_000
"""Bytes of a preview: a line of JSON that carries it stays below 64 kB, the buffer of a pipe."""
PATCHES, SIDE = 12, 64
"""What the map is fitted on; 12 patches of 64 pixels give 768 cells of 8 pixels for at most 16 + 1 unknowns each."""
SHOWN = 256
"""Longer side of a preview in pixels."""


class Preview:
    """Shows latents as small pictures. `linear_preview` makes one."""

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix

    def __call__(self, latents: Tensor) -> list[Image.Image]:
        """Return one RGB picture for each of the latents [n, c, h, w]; its longer side is SHOWN."""
        shown = latents.detach().float().cpu()
        colours = torch.einsum("nchw,cr->nrhw", shown, self._matrix[:-1]) + self._matrix[-1][None, :, None, None]
        levels = (colours.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return [_enlarged(Image.fromarray(each.numpy(), "RGB")) for each in levels]


_fitted: "WeakKeyDictionary[torch.nn.Module, Preview]" = WeakKeyDictionary()


def linear_preview(family: Family, components: Components) -> Preview:
    """Return the preview of a base model, fitted on its first use: seeded patches that its VAE encodes."""
    vae = components.vae
    if vae not in _fitted:
        patches = _patches()
        latents = family.encode_images(components, patches * 2 - 1).cpu()
        cells = functional.adaptive_avg_pool2d(patches, (latents.shape[-2], latents.shape[-1]))
        known = latents.permute(0, 2, 3, 1).flatten(0, 2)
        known = torch.cat([known, torch.ones(len(known), 1)], dim=1)
        wanted = cells.permute(0, 2, 3, 1).flatten(0, 2)
        _fitted[vae] = Preview(torch.linalg.lstsq(known, wanted, driver="gelsd").solution)
    return _fitted[vae]


def _patches() -> Tensor:
    """Return seeded patches [n, 3, h, w] in 0..1: fields of strong colours at four scales, then the plain ones.

    Plain white and black are there because most pictures have them; without them a white background looks green.
    """
    draw = generator(0, "preview")
    patches = []
    for number in range(PATCHES):
        coarse = (torch.rand((1, 3, *[(2, 3, 5, 8)[number % 4]] * 2), generator=draw) * 2 - 0.5).clamp(0, 1)
        patches.append(functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=False))
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    plain = torch.cat([corners, corners[[0, -1, -1]], torch.full((1, 3), 0.5)])
    return torch.cat([*patches, plain[:, :, None, None].expand(-1, -1, SIDE, SIDE)])


def _enlarged(image: Image.Image) -> Image.Image:
    factor = SHOWN / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BICUBIC)


def as_jpeg(images: Sequence[Image.Image]) -> bytes:
    """Return the pictures side by side as one JPEG of at most MAX_JPEG bytes."""
    sheet = Image.new("RGB", (sum(each.width for each in images), max(each.height for each in images)))
    left = 0
    for each in images:
        sheet.paste(each, (left, 0))
        left += each.width
    while True:
        for quality in (80, 60, 40):
            file = io.BytesIO()
            sheet.save(file, format="JPEG", quality=quality)
            if file.tell() <= MAX_JPEG:
                return file.getvalue()
        sheet = sheet.resize((max(1, sheet.width // 2), max(1, sheet.height // 2)))


def watched(scheduler: Any) -> Any:
    """Let a scheduler remember, as `denoised`, the picture without noise that its last step expected."""
    take = scheduler.step

    def step(*inputs: Any, **options: Any) -> Any:
        found = take(*inputs, **options)
        # solvers of several steps keep what they expected instead of returning it
        scheduler.denoised = found[1] if len(found) > 1 else scheduler.model_outputs[-1]
        return found

    step.__signature__ = _signature(take)  # type: ignore[attr-defined]  # pipelines look whether it takes eta
    scheduler.step = step
    return scheduler


def _signature(function: Any) -> Any:
    import inspect

    return inspect.signature(function)
