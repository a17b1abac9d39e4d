"""The pictures of a run as encoded tensors, and the global batch of every step."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from datasets_tools.batches import Batches, share
from datasets_tools.bucket import BucketRule, Crop, bucket_for, crop_for
from datasets_tools.cache import TensorCache, cache_key
from datasets_tools.caption import with_trigger
from datasets_tools.manifest import Manifest, Record
from datasets_tools.scan import scan
from lora_diffusion.embedded import picture_folder
from lora_diffusion.errors import PlanError
from lora_diffusion.families.base import Components, Conditioning, Family
from lora_diffusion.seeds import generator
from lora_diffusion.training.events import Encoded, OnEvent
from lora_diffusion.training.plan import DataPlan, LossPlan, RunPlan

__all__ = ["GlobalBatch", "MicroBatch", "TrainingData", "bucket_rule", "load_manifest", "rgb"]

CODE_VERSION = 1  # of rendering and encoding: raise it when the same picture gives other latents

_log = logging.getLogger("lora_diffusion")


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What one process runs at once; every tensor has n samples in its first dimension.

    `weights` is 0 for samples that only fill up a process's share, 1 for the others.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    text: Conditioning
    weights: Tensor


@dataclass(frozen=True, kw_only=True)
class GlobalBatch:
    """What one step sees: indices of pictures, and all that is drawn for them, as a function of (seed, step)."""

    step: int
    indices: tuple[int, ...]
    data: "TrainingData"

    @property
    def size(self) -> int:
        return len(self.indices)

    @property
    def files(self) -> list[str]:
        return [self.data.records[index].file for index in self.indices]

    def micro_batches(self, rank: int, world: int, size: int) -> list[MicroBatch]:
        """Return the share of one process in pieces of at most `size` samples; all processes get equally many."""
        mine = share(range(self.size), rank, world)
        pieces = [mine[start : start + (size or len(mine))] for start in range(0, len(mine), size or len(mine))]
        return [self._collate(piece) for piece in pieces]

    def _collate(self, places: Sequence[int | None]) -> MicroBatch:
        real = [place or 0 for place in places]
        indices = [self.indices[place] for place in real]
        latents = torch.stack([self.data.latents[index] for index in indices])
        text = [self.data.text(self.step, index) for index in indices]
        return MicroBatch(
            latents=latents,
            noise=torch.stack([self.data.noise(self.step, index) for index in indices]),
            timesteps=self.data.timesteps(self.step, self.size)[real],
            text={key: torch.stack([each[key] for each in text]) for key in text[0]},
            weights=torch.tensor([0.0 if place is None else 1.0 for place in places]),
        )


class TrainingData:
    """Every picture of a manifest, encoded, with its caption as tokens or as conditioning."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        data: DataPlan,
        loss: LossPlan,
        run: RunPlan,
        family: Family,
        components: Components,
        cache: Path,
        rule: BucketRule,
        train_text: bool,
        on_event: OnEvent,
    ) -> None:
        self.records = manifest.records
        buckets = [bucket_for(record.width, record.height, rule) for record in self.records]
        store = TensorCache(cache)
        self.latents = _encode_all(manifest, rule, data, family, components, store, on_event)
        captions = [with_trigger(record.caption, data.trigger) for record in self.records]
        self._texts = _texts([*captions, ""], family, components, store, encode=not train_text)
        self._batches = Batches(buckets, run.batch_size, run.seed)
        self._seed = run.seed
        self._caption_dropout = data.caption_dropout
        self._noise_offset = loss.noise_offset
        self._timesteps = components.objective.timesteps
        self.captions = captions

    def global_batch(self, step: int) -> GlobalBatch:
        return GlobalBatch(step=step, indices=self._batches.at(step).indices, data=self)

    def text(self, step: int, index: int) -> Conditioning:
        dropped = torch.rand(1, generator=generator(self._seed, step, index, "caption")).item()
        return self._texts[-1 if dropped < self._caption_dropout else index]

    def noise(self, step: int, index: int) -> Tensor:
        shape = self.latents[index].shape
        noise = torch.randn(shape, generator=generator(self._seed, step, index, "noise"))
        if self._noise_offset:
            offset = torch.randn(shape[0], 1, 1, generator=generator(self._seed, step, index, "offset"))
            noise = noise + self._noise_offset * offset
        return noise

    def timesteps(self, step: int, count: int) -> Tensor:
        """Return timesteps [count], each uniform but spread evenly over the batch: less noise in the gradient.

        (Kingma et al. 2021, "Variational Diffusion Models", appendix I.1.)
        """
        start = torch.rand(1, generator=generator(self._seed, step, "timestep"), dtype=torch.float64)
        spread = (start + torch.arange(count, dtype=torch.float64) / count) % 1.0
        return (spread * self._timesteps).long()


def load_manifest(data: DataPlan) -> Manifest:
    """Scan the folder of a plan. Broken files are named in the log and left out, never fatal for the rest.

    Raises PlanError when no picture has a caption and the plan requires them; NoImages when there is none.
    """
    found = scan(picture_folder(data.folder), trigger=data.trigger, background=rgb(data.background))
    for finding in found.findings:
        if finding.severity == "blocks":
            _log.warning("%s is left out: %s (%s)", finding.file, finding.reason, finding.remedy)
    captioned = [caption for caption in found.captions.by_image.values() if caption.text]
    if not captioned and data.captions == "require":
        raise PlanError(
            f"none of the {len(found.manifest.records)} pictures in {data.folder} has a caption",
            hint="write what each shows into a .txt beside it, or set data.captions=optional and a data.trigger",
        )
    if not captioned and not data.trigger:
        raise PlanError("without captions nothing calls the style up", hint="set data.trigger to a word of your own")
    return found.manifest


def bucket_rule(data: DataPlan, *, resolution: int, step: int) -> BucketRule:
    """Return the bucket rule of a plan; what it leaves open is the base model's resolution and bucket step, in pixels.

    Raises PlanError where the plan's step is no multiple of the base model's.
    """
    if data.bucket_step % step:
        raise PlanError(
            f"data.bucket_step {data.bucket_step} is no multiple of {step}, which this base model needs",
            hint="leave data.bucket_step at 0",
        )
    return BucketRule(resolution=data.resolution or resolution, step=data.bucket_step or step)


def rgb(colour: str) -> tuple[int, int, int]:
    """Return "#rrggbb" as three numbers of 0..255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _encode_all(
    manifest: Manifest,
    rule: BucketRule,
    data: DataPlan,
    family: Family,
    components: Components,
    cache: TensorCache,
    on_event: OnEvent,
) -> list[Tensor]:
    encoder = components.fingerprint(components.vae)
    latents, cached = [], 0
    for done, record in enumerate(manifest.records, 1):
        crop = crop_for(record.width, record.height, bucket_for(record.width, record.height, rule))
        key = _key(record, crop, data, encoder)
        cached += cache.has(key)
        encode = partial(_encode, manifest, record, crop, data, family, components)
        latents.append(cache.get(key, encode)["latents"])
        on_event(Encoded(done=done, total=len(manifest.records), cached=cached))
    return latents


def _key(record: Record, crop: Crop, data: DataPlan, encoder: str) -> str:
    return cache_key(
        picture=record.sha256,
        resized=list(crop.resized),
        box=list(crop.box),
        background=data.background,
        encoder=encoder,
        version=CODE_VERSION,
    )


def _encode(
    manifest: Manifest, record: Record, crop: Crop, data: DataPlan, family: Family, components: Components
) -> dict[str, Tensor]:
    from datasets_tools.image import load_image, render, to_pixels

    picture = render(load_image(manifest.folder / record.file, background=rgb(data.background)), crop)
    pixels = torch.from_numpy(to_pixels(picture)).unsqueeze(0)
    latents = family.encode_images(components, pixels)[0].cpu().contiguous()
    if not latents.isfinite().all():
        raise PlanError(
            f"{record.file}: the base model's VAE gives NaN or infinity in {components.dtype}",
            hint="set run.precision=bf16 or no",
        )
    return {"latents": latents}


def _texts(
    captions: Sequence[str], family: Family, components: Components, cache: TensorCache, *, encode: bool
) -> list[Conditioning]:
    """Return one text per caption: conditioning where the encoder is frozen, else its token ids."""
    if not encode:
        return [_first(family.tokenize(components, [caption])) for caption in captions]
    encoders = [components.fingerprint(encoder) for encoder in components.text_encoders.values()]
    return [
        cache.get(
            cache_key(text=caption, encoders=encoders, version=CODE_VERSION),
            partial(_encode_text, caption, family, components),
        )
        for caption in captions
    ]


def _encode_text(caption: str, family: Family, components: Components) -> dict[str, Tensor]:
    with torch.no_grad():
        return _first(family.encode_tokens(components, family.tokenize(components, [caption])))


def _first(text: Conditioning) -> dict[str, Tensor]:
    return {key: value[0].cpu().contiguous() for key, value in text.items()}
