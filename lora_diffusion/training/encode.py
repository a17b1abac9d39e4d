"""Pictures, masks and captions as the tensors that training reads, each computed once and kept in a cache."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from datasets_tools.cache import TensorCache, cache_key
from datasets_tools.journal import Journal
from lora_diffusion.adapters.inject import choose_targets
from lora_diffusion.devices import DTYPES, choose_device
from lora_diffusion.errors import PlanError
from lora_diffusion.families import detect, locate
from lora_diffusion.families.attention import use_attention
from lora_diffusion.families.base import Components, Conditioning, Family, Tokens
from lora_diffusion.training.asking import journal_path
from lora_diffusion.training.events import Encoded, OnEvent, Scanned, ignore
from lora_diffusion.training.masks import MaskFile, mask_pixels, require_unchanged
from lora_diffusion.training.plan import TrainPlan
from lora_diffusion.training.processes import settled
from lora_diffusion.training.run import Run
from lora_diffusion.training.samples import PictureSet, Sample, Sources, load_sources, rgb
from lora_diffusion.training.views import View, applied

__all__ = ["EncodedSet", "EncodedSources", "Encoder", "Texts", "encode_sources", "fill_cache"]

CODE_VERSION = 3  # of rendering and encoding: raise it when the same picture gives other latents
_MASK_RULES = 2  # of what a mask may be: raise it when a mask in the cache could be one that is now refused

_DRAWN = 256  # captions that vary and are kept encoded: 60 MB for the 77 x 768 fp32 of Stable Diffusion 1.5
_COUNTED = 4096  # captions whose length in chunks is kept

_log = logging.getLogger("lora_diffusion")


@dataclass(frozen=True, kw_only=True)
class EncodedSet:
    """A folder as tensors: latents [c, h, w] by sample and view, masks [h, w] in 0..1 by sample (None: all ones).

    `sizes` is what the family tells its denoiser of the size and crop of each sample, beside the text. All of it is
    held in memory: 64 kB a view at 512 x 512 pixels.
    """

    samples: tuple[Sample, ...]
    latents: tuple[tuple[Tensor, ...], ...]
    masks: tuple[Tensor | None, ...]
    sizes: tuple[Conditioning, ...]


@dataclass(frozen=True, kw_only=True)
class EncodedSources:
    """What `Sources` becomes."""

    style: EncodedSet
    regularisation: EncodedSet | None
    validation: EncodedSet | None


class Encoder:
    """The encoders of a base model with the cache of their results; `made` counts what was not in it, by kind.

    Everything that decides a result is in its key: the picture's content, crop, view and background, the encoder's
    weights, the device and the kernel of its attention.
    """

    def __init__(self, family: Family, components: Components, cache: TensorCache, *, plan: TrainPlan) -> None:
        self._family = family
        self._components = components
        self._cache = cache
        self._background = plan.data.background
        self._mask_floor = plan.data.mask_floor
        self._attention = plan.run.attention
        self._max_tokens = plan.data.max_tokens
        self.made: Counter[str] = Counter()

    def latents(self, sample: Sample, view: View) -> Tensor:
        """Return the latents [c, h, w] of a sample in fp32.

        Raises PlanError where the VAE overflows its dtype, and for a picture that changed since it was scanned.
        """
        key = self._picture_key(sample, kind="latents", view=asdict(view), encoder=self._of_pictures)
        return self._get("latents", key, lambda: {"latents": self._encoded(sample, view)})["latents"]

    def mask(self, sample: Sample, like: Tensor) -> Tensor | None:
        """Return the weights [h, w] of a sample for latents [c, h, w], or None where all of it counts alike.

        Raises what `mask_pixels` raises of a mask that is not in the cache.
        """
        found = sample.mask
        if found is None:
            return None
        kind = {"kind": "mask", "mask": found.sha256, "alpha": found.alpha, "grid": list(like.shape[-2:])}
        key = self._picture_key(sample, **kind, rules=_MASK_RULES)
        mask = self._get("masks", key, lambda: {"mask": _rendered_mask(found, sample, like)})["mask"]
        return None if mask.min() == 1 else self._mask_floor + (1 - self._mask_floor) * mask

    def sizes(self, sample: Sample) -> Conditioning:
        """Return what the denoiser is told of a sample's size: nothing in most families."""
        record, crop = sample.record, sample.crop
        return self._family.size_ids((record.width, record.height), crop.box[:2], crop.size)

    def text(self, caption: str) -> Conditioning:
        """Return the conditioning of one caption from the cache."""
        tokens = {name: ids.tolist() for name, ids in self.tokens(caption).items()}  # tokenizers can be exchanged
        key = cache_key(kind="text", tokens=tokens, encoder=self._of_texts, version=CODE_VERSION)
        return self._get("texts", key, lambda: self.fresh_text(caption))

    def fresh_text(self, caption: str) -> dict[str, Tensor]:
        """Return the conditioning of one caption, encoded now."""
        with torch.no_grad():
            return _first(self._family.encode_tokens(self._components, self._tokens(caption)))

    def tokens(self, caption: str) -> dict[str, Tensor]:
        """Return the token ids [chunks * length] of one caption by text encoder."""
        return _first(self._tokens(caption))

    def chunks(self, caption: str) -> int:
        """Return in how many chunks one caption is read."""
        return self._family.chunks(self._components, [caption], tokens=self._max_tokens)

    def is_cut(self, caption: str) -> bool:
        """Say whether the end of a caption is not read."""
        return self._family.chunks(self._components, [caption], tokens=sys.maxsize) > self.chunks(caption)

    def _tokens(self, caption: str) -> Tokens:
        return self._family.tokenize(self._components, [caption], chunks=self.chunks(caption))

    @cached_property
    def _of_pictures(self) -> list[str]:
        return [self._components.device.type, self._components.fingerprint(self._components.vae)]

    @cached_property
    def _of_texts(self) -> list[str]:
        encoders = [self._components.fingerprint(each) for each in self._components.text_encoders.values()]
        return [self._components.device.type, self._attention, *encoders]

    def _picture_key(self, sample: Sample, **parts: object) -> str:
        return cache_key(
            picture=sample.record.sha256,
            resized=list(sample.crop.resized),
            box=list(sample.crop.box),
            background=self._background,
            version=CODE_VERSION,
            **parts,
        )

    def _get(self, kind: str, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        def counted() -> Mapping[str, Tensor]:
            self.made[kind] += 1
            return make()

        return self._cache.get(key, counted)

    def _encoded(self, sample: Sample, view: View) -> Tensor:
        from datasets_tools.image import open_picture, read_bytes, render, to_pixels

        data = read_bytes(sample.path)  # once: what is kept under a hash must be of those very bytes
        require_unchanged(sample.path, sha256(data).hexdigest(), sample.record.sha256)
        opened = open_picture(data, background=rgb(self._background), name=str(sample.path))
        picture = applied(view, render(opened.image, sample.crop))
        pixels = torch.from_numpy(to_pixels(picture)).unsqueeze(0)
        latents = self._family.encode_images(self._components, pixels)[0].cpu().contiguous()
        if not latents.isfinite().all():
            raise PlanError(
                f"{sample.record.file}: the base model's VAE gives NaN or infinity in {self._components.dtype}",
                hint="set run.precision=bf16 or no",
            )
        return latents


class Texts:
    """Captions as training reads them: conditioning where the text encoders are frozen, else token ids.

    What was `prepared` is kept; another caption, as it is drawn at one step only, is made when asked for.
    `chunks` is in how many chunks a caption is read.
    """

    def __init__(self, encoder: Encoder, *, train_text: bool) -> None:
        self.chunks: Callable[[str], int] = lru_cache(_COUNTED)(encoder.chunks)
        self._train_text = train_text
        self._keep: Callable[[str], Conditioning] = encoder.tokens if train_text else encoder.text
        self._kept: dict[str, Conditioning] = {}
        self._drawn = lru_cache(_DRAWN)(encoder.tokens if train_text else encoder.fresh_text)

    def prepare(self, captions: Iterable[str]) -> None:
        """Encode captions that stay as they are, through the cache."""
        for caption in captions:
            if caption not in self._kept:
                self._kept[caption] = self._keep(caption)

    def __call__(self, caption: str, *, chunks: int = 1) -> Conditioning:
        """Return one caption; where it is shorter than `chunks`, empty ones follow, as behind a prompt in drawing."""
        found = self._one(caption)
        lacking = chunks - self.chunks(caption) if chunks > 1 else 0
        return self._filled(found, lacking) if lacking > 0 else found

    def _one(self, caption: str) -> Conditioning:
        found = self._kept.get(caption)
        return self._drawn(caption) if found is None else found

    def _filled(self, text: Conditioning, chunks: int) -> Conditioning:
        empty = self._one("")
        has_length = empty.keys() if self._train_text else {"context"}
        return {
            key: torch.cat([value, *[empty[key]] * chunks]) if key in has_length else value
            for key, value in text.items()
        }


def encode_sources(
    sources: Sources, encoder: Encoder, texts: Texts, plan: TrainPlan, on_event: OnEvent
) -> EncodedSources:
    """Encode every view of every sample, its mask and the captions that do not vary; tell `Encoded` after each view."""
    total = sum(len(sample.views) for each in sources.sets for sample in each.samples)
    done = 0

    def encode(found: PictureSet) -> EncodedSet:
        nonlocal done
        latents, masks = [], []
        for sample in found.samples:
            views = []
            for view in sample.views:
                made, began = encoder.made["latents"], time.perf_counter()
                views.append(encoder.latents(sample, view))
                seconds = time.perf_counter() - began if encoder.made["latents"] > made else 0.0
                done += 1
                cached = done - encoder.made["latents"]
                on_event(Encoded(done=done, total=total, cached=cached, seconds=seconds))
            latents.append(tuple(views))
            masks.append(encoder.mask(sample, views[0]))
        _name_unmasked(found, masks)
        return EncodedSet(
            samples=found.samples,
            latents=tuple(latents),
            masks=tuple(masks),
            sizes=tuple(map(encoder.sizes, found.samples)),
        )

    encoded = EncodedSources(
        style=encode(sources.style),
        regularisation=encode(sources.regularisation) if sources.regularisation else None,
        validation=encode(sources.validation) if sources.validation else None,
    )
    varies = plan.data.shuffle_tags or plan.data.tag_dropout > 0
    constant = [each for each in sources.sets if not (varies and each is sources.style)]
    texts.prepare(["", *(sample.caption for each in constant for sample in each.samples)])
    _name_cut(sources, encoder)
    return encoded


def fill_cache(plan: TrainPlan, *, today: date | None = None, on_event: OnEvent = ignore) -> int:
    """Encode what a training of this plan will read into its cache; return how many entries were new.

    The base model's denoiser is let go at once: encoding needs the VAE and the text encoders. Raises what `train` would
    raise about pictures and base model; rights are compared with `today`.
    """
    plan = settled(plan)
    path = locate(plan.base.path)
    family = detect(path, plan.base.family)
    resolution, bucket_step = family.geometry(path)
    sources = load_sources(
        plan,
        resolution=resolution,
        step=bucket_step,
        today=today,
        journal=Journal(journal_path(plan)),
        on_progress=lambda done, total: on_event(Scanned(done=done, total=total)),
    )
    dtype, device = DTYPES[plan.run.precision], choose_device(plan.run.device)
    components = family.load(path, dtype=dtype, device=device, tokenizer=plan.base.tokenizer)
    use_attention(components.denoiser, components.text_encoders, plan.run.attention)
    targets = choose_targets(family.slots(components), plan.adapter, family.targets)
    components.denoiser = torch.nn.Identity()
    with TensorCache(Run(Path(plan.run.out), plan).cache) as cache:
        encoder = Encoder(family, components, cache, plan=plan)
        texts = Texts(encoder, train_text=any(each.startswith("text_encoder") for each in targets))
        encode_sources(sources, encoder, texts, plan, on_event)
    return encoder.made.total()


def _rendered_mask(mask: MaskFile, sample: Sample, like: Tensor) -> Tensor:
    """Return the mask through the picture's crop, averaged down to the grid of the latents."""
    rows, columns = like.shape[-2:]
    seen = mask_pixels(mask, sample.record, sample.crop)
    if seen is None:
        return torch.ones(rows, columns)
    values = torch.frombuffer(bytearray(seen.tobytes()), dtype=torch.uint8).view(1, seen.height, seen.width)
    return F.adaptive_avg_pool2d(values.float() / 255, (rows, columns))[0]


def _name_unmasked(found: PictureSet, masks: list[Tensor | None]) -> None:
    whole = {
        sample.record.file for sample, mask in zip(found.samples, masks, strict=True) if sample.mask and mask is None
    }
    if whole:
        _log.info("nothing is masked in %s; all of each counts", ", ".join(sorted(whole)))


def _name_cut(sources: Sources, encoder: Encoder) -> None:
    cut = [sample.record.file for each in sources.sets for sample in each.samples if encoder.is_cut(sample.caption)]
    if cut:
        _log.warning(
            "the captions of %d pictures are cut, the first is that of %s; raise data.max_tokens or shorten them",
            len(cut),
            cut[0],
        )


def _first(text: Conditioning) -> dict[str, Tensor]:
    return {key: value[0].cpu().contiguous() for key, value in text.items()}
