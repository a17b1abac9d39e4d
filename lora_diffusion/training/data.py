"""The global batch of every step, and all that is drawn for it, as functions of the seed and the step."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from datasets_tools.batches import Batches, share
from datasets_tools.caption import with_trigger
from datasets_tools.edit import tags_of, vary_tags
from lora_diffusion.families.base import Conditioning
from lora_diffusion.seeds import generator, seed_of
from lora_diffusion.training.encode import EncodedSet, EncodedSources, Texts
from lora_diffusion.training.plan import DataPlan, TrainPlan

__all__ = ["CaptionPlan", "Draw", "GlobalBatch", "MicroBatch", "Stream", "TrainingData", "varied"]

REGULARISATION_SHARE = 4
"""Style pictures of a step for each regularisation picture. On one core a step of 8 takes 1.4 times as long with them,
1.5 times with the answers of the base model."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What one process runs at once; every tensor has n samples in its first dimension.

    `weights` is 0 for samples that only fill up a process's share, 1 for the others; `masks` [n, h, w] weighs the
    pixels of the latents, None all alike. With `base_answers` the target is what the base model answers without the
    adapter.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    text: Conditioning
    weights: Tensor
    masks: Tensor | None = None
    base_answers: bool = False


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A sample in a step. `again` counts its earlier copies in the same batch, so that each gets its own noise."""

    index: int
    again: int = 0


@dataclass(frozen=True, kw_only=True)
class GlobalBatch:
    """What one step sees of one folder: samples, and all that is drawn for them, as a function of (seed, step).

    Its mean loss counts `gain` times.
    """

    step: int
    draws: tuple[Draw, ...]
    stream: "Stream"

    @property
    def gain(self) -> float:
        return self.stream.gain

    @property
    def size(self) -> int:
        return len(self.draws)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(self.stream.pictures.samples[draw.index].record.file for draw in self.draws)

    def micro_batches(self, rank: int, world: int, size: int) -> list[MicroBatch]:
        """Return the share of one process in pieces of at most `size` samples; all processes get equally many."""
        mine = share(range(self.size), rank, world)
        pieces = [mine[start : start + (size or len(mine))] for start in range(0, len(mine), size or len(mine))]
        return [self._collate(piece) for piece in pieces]

    @cached_property
    def _chunks(self) -> int:
        """The longest caption of the whole step decides, so that nothing depends on who runs which part of it."""
        return max(self.stream.chunks(self.step, draw) for draw in self.draws)

    def _collate(self, places: Sequence[int | None]) -> MicroBatch:
        real = [place or 0 for place in places]
        draws = [self.draws[place] for place in real]
        text = [self.stream.text(self.step, draw, chunks=self._chunks) for draw in draws]
        views = [self.stream.latents(self.step, draw) for draw in draws]
        latents = torch.stack([latents for latents, _ in views])
        return MicroBatch(
            latents=latents,
            noise=torch.stack([self.stream.noise(self.step, draw) for draw in draws]),
            timesteps=self.stream.timesteps(self.step, self.size)[real],
            text={key: torch.stack([each[key] for each in text]) for key in text[0]},
            weights=torch.tensor([0.0 if place is None else 1.0 for place in places]),
            masks=_stacked([mask for _, mask in views], latents),
            base_answers=self.stream.base_answers,
        )


@dataclass(frozen=True, kw_only=True)
class CaptionPlan:
    """How captions vary from look to look."""

    trigger: str = ""
    dropout: float = 0.0
    shuffle: bool = False
    keep: int = 0
    tag_dropout: float = 0.0

    @classmethod
    def of(cls, data: DataPlan) -> "CaptionPlan":
        return cls(
            trigger=data.trigger,
            dropout=data.caption_dropout,
            shuffle=data.shuffle_tags,
            keep=data.keep_tags,
            tag_dropout=data.tag_dropout,
        )


class Stream:
    """The batches of one folder and every draw for them; no draw depends on another or on who asks."""

    def __init__(
        self,
        pictures: EncodedSet,
        texts: Texts,
        *,
        seed: int,
        batch_size: int,
        captions: CaptionPlan,
        timesteps: int,
        noise_offset: float,
        gain: float = 1.0,
        base_answers: bool = False,
    ) -> None:
        self.pictures = pictures
        self.gain = gain
        self.base_answers = base_answers
        self._texts = texts
        self._seed = seed
        self._captions = captions
        self._timesteps = timesteps
        self._noise_offset = noise_offset
        repeats = [sample.repeats for sample in pictures.samples]
        self._batches = Batches([sample.bucket for sample in pictures.samples], batch_size, seed, repeats)

    def batch(self, step: int) -> GlobalBatch:
        seen: Counter[int] = Counter()
        draws = []
        for index in self._batches.at(step).indices:
            draws.append(Draw(index=index, again=seen[index]))
            seen[index] += 1
        return GlobalBatch(step=step, draws=tuple(draws), stream=self)

    def chunks(self, step: int, draw: Draw) -> int:
        """Return in how many chunks the step reads a sample's caption."""
        return self._texts.chunks(self._caption(step, draw))

    def text(self, step: int, draw: Draw, *, chunks: int = 1) -> Conditioning:
        """Return what the step says of a sample: its caption in at least so many chunks, and its size where the family
        tells that."""
        return {**self._texts(self._caption(step, draw), chunks=chunks), **self.pictures.sizes[draw.index]}

    def _caption(self, step: int, draw: Draw) -> str:
        plan = self._captions
        dropped = torch.rand(1, generator=self._generator(step, draw, "caption")).item()
        if dropped < plan.dropout:
            return ""
        caption = self.pictures.samples[draw.index].caption
        if plan.shuffle or plan.tag_dropout:
            caption = varied(caption, plan, _numbers(self._generator(step, draw, "tags")))
        return caption

    def latents(self, step: int, draw: Draw) -> tuple[Tensor, Tensor | None]:
        """Return the latents of the view that the step sees, and the mask turned with it."""
        views, mask = self.pictures.latents[draw.index], self.pictures.masks[draw.index]
        if len(views) == 1:
            return views[0], mask
        drawn = torch.rand(1, generator=self._generator(step, draw, "view"), dtype=torch.float64).item()
        chosen = int(drawn * len(views))
        flipped = self.pictures.samples[draw.index].views[chosen].flip
        return views[chosen], mask.flip(-1) if mask is not None and flipped else mask

    def noise(self, step: int, draw: Draw) -> Tensor:
        shape = self.pictures.latents[draw.index][0].shape
        noise = torch.randn(shape, generator=self._generator(step, draw, "noise"))
        if self._noise_offset:
            offset = torch.randn(shape[0], 1, 1, generator=self._generator(step, draw, "offset"))
            noise = noise + self._noise_offset * offset
        return noise

    def timesteps(self, step: int, count: int) -> Tensor:
        """Return timesteps [count], each uniform but spread evenly over the batch: less noise in the gradient.

        (Kingma et al. 2021, "Variational Diffusion Models", appendix I.1.)
        """
        start = torch.rand(1, generator=generator(self._seed, step, "timestep"), dtype=torch.float64)
        spread = (start + torch.arange(count, dtype=torch.float64) / count) % 1.0
        return (spread * self._timesteps).long()

    def _generator(self, step: int, draw: Draw, purpose: str) -> torch.Generator:
        copy = (draw.again,) if draw.again else ()
        return generator(self._seed, step, draw.index, purpose, *copy)


class TrainingData:
    """What a run trains on: the style, and beside it what holds the base model where it is."""

    def __init__(self, sources: EncodedSources, texts: Texts, *, plan: TrainPlan, timesteps: int) -> None:
        seed, size = plan.run.seed, plan.run.batch_size
        offset = plan.loss.noise_offset
        self.captions = [sample.caption for sample in sources.style.samples]
        self._style = Stream(
            sources.style,
            texts,
            seed=seed,
            batch_size=size,
            captions=CaptionPlan.of(plan.data),
            timesteps=timesteps,
            noise_offset=offset,
        )
        self._ordinary: Stream | None = None
        if sources.regularisation:
            self._ordinary = Stream(
                sources.regularisation,
                texts,
                seed=seed_of(seed, "regularisation"),
                batch_size=-(-size // REGULARISATION_SHARE),
                captions=CaptionPlan(),  # as they are: the empty caption is meant to learn the style
                timesteps=timesteps,
                noise_offset=offset,
                gain=plan.data.regularisation_weight,
                base_answers=plan.data.regularisation_target == "base",
            )

    def global_batch(self, step: int) -> GlobalBatch:
        """Return the style pictures that a step sees, counted from 0."""
        return self._style.batch(step)

    def regularisation_batch(self, step: int) -> GlobalBatch | None:
        """Return the ordinary pictures that a step sees beside them: a quarter as many, rounded up."""
        return self._ordinary.batch(step) if self._ordinary else None


def varied(caption: str, plan: CaptionPlan, numbers: Iterator[float]) -> str:
    """Return a caption with its tags varied; the tag that holds the trigger comes first and always stays."""
    tags, trigger = tags_of(caption), plan.trigger.strip()
    # a tag holds the trigger exactly where adding it once more changes nothing; a trigger with commas is several tags
    holding = tuple(tag for tag in tags if with_trigger(tag, trigger) == tag) or tags_of(trigger) if trigger else ()
    ordered = ", ".join((*holding, *(tag for tag in tags if tag not in holding)))
    keep = len(holding) + plan.keep
    return vary_tags(ordered, keep=keep, shuffle=plan.shuffle, dropout=plan.tag_dropout, numbers=numbers)


def _numbers(source: torch.Generator) -> Iterator[float]:
    while True:
        yield torch.rand(1, generator=source, dtype=torch.float64).item()


def _stacked(masks: Sequence[Tensor | None], latents: Tensor) -> Tensor | None:
    """Return masks as one tensor [n, h, w], or None where none of these samples has one."""
    if all(mask is None for mask in masks):
        return None
    whole = torch.ones(latents.shape[-2:])
    return torch.stack([whole if mask is None else mask for mask in masks])
