"""A loaded base model with live adapters."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import torch
from PIL import Image
from torch import Tensor

from lora_diffusion.adapters.inject import eject, load
from lora_diffusion.adapters.layer import Adapted
from lora_diffusion.devices import DTYPES, choose_device, choose_precision
from lora_diffusion.errors import TargetError, UsageError
from lora_diffusion.families import detect, locate
from lora_diffusion.families.attention import use_attention
from lora_diffusion.families.base import Components, Family
from lora_diffusion.files.adapter import Adapter, read_adapter
from lora_diffusion.generation.blend import Blend, require_one_family
from lora_diffusion.generation.drawing import Following, OnPreview, OnStep
from lora_diffusion.generation.picture import Picture, Settings
from lora_diffusion.generation.preview import linear_preview, watched
from lora_diffusion.generation.samplers import sampler_for
from lora_diffusion.generation.schedule import Schedule
from lora_diffusion.generation.start import Start, begin_late, fitting_size, late_steps, noised
from lora_diffusion.generation.stopping import Stop
from lora_diffusion.parts import PartSpec, Weight, module_weights

__all__ = ["Generator", "Options"]

MAX_SIDE, MAX_STEPS, MAX_BATCH = 4096, 1000, 64

_log = logging.getLogger("lora_diffusion")


class Options(TypedDict, total=False):
    """How `generate` draws: what `generate_many` takes, with its defaults."""

    negative: str
    size: tuple[int, int] | None
    steps: int
    guidance: float | None
    sampler: str
    start: Start | None
    schedules: Mapping[str, Schedule] | None
    on_step: OnStep | None
    on_preview: OnPreview | None
    preview_every: int
    stop: Stop | None


class Generator:
    """A base model that draws, with any number of adapters whose weights change between pictures.

    Use as a context manager. `open` loads; assigning to `blend` takes effect on the next picture, without a reload.
    """

    def __init__(self, base: str, family: Family, components: Components) -> None:
        self._base, self._family, self._components = base, family, components
        self._slots = family.slots(components)
        self._adapters: dict[str, Adapter] = {}
        self._blend = Blend()
        self._pipeline = family.pipeline(components)

    @classmethod
    def open(
        cls, base: str, *, device: str = "auto", precision: str = "auto", attention: str = "auto", tokenizer: str = ""
    ) -> Self:
        """Load a base model: `demo`, a folder, a file or a hub id. Raises BaseNotFound, DeviceError."""
        path = locate(base)
        family = detect(path)
        place = choose_device(device)
        dtype = DTYPES[choose_precision(precision, place)]
        components = family.load(path, dtype=dtype, device=place, tokenizer=tokenizer)
        use_attention(components.denoiser, components.text_encoders, attention)
        return cls(base, family, components)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        eject(self._slots)

    def add(self, adapter: Adapter | Path | str, weight: Weight = 1.0, *, name: str = "") -> str:
        """Put an adapter in and return its name here. Raises WrongFamily, and the base stays as it was.

        `weight` is a number, or a PartSpec with weights per block. `name` defaults to the adapter's, with a number
        behind it where that is taken.
        """
        found = adapter if isinstance(adapter, Adapter) else read_adapter(Path(adapter))
        require_one_family([found], self._family.name)
        for repair in found.repairs:
            _log.warning("%s: %s", found.name, repair)
        if found.embeddings:
            _log.warning("%s: its tokens %s are not used here", found.name, ", ".join(found.embeddings))
        name = self._free_name(name or found.name)
        blend = Blend({**self._blend, name: weight})
        weights = module_weights(weight, found.modules, family=found.family)
        load(self._slots, found.modules, name=name)
        self._adapters[name], self._blend = found, blend
        self._set({name: weights})
        return name

    def remove(self, name: str) -> None:
        self._known(name)
        eject(self._slots, name)
        del self._adapters[name]
        self._blend = Blend({other: weight for other, weight in self._blend.items() if other != name})

    @property
    def resolution(self) -> int:
        """Side in pixels of the square that the base model was trained on."""
        return self._components.resolution

    @property
    def blend(self) -> Blend:
        """The weight of every adapter by name."""
        return self._blend

    @blend.setter
    def blend(self, weights: Mapping[str, Weight]) -> None:
        """Set the weights of the next picture; an adapter that is not named gets 0.

        Raises TargetError for a name that is not loaded or a block that its adapter does not reach; nothing has changed
        then.
        """
        for name in weights:
            self._known(name)
        blend = Blend({name: weights.get(name, 0.0) for name in self._adapters})
        tables = {
            name: module_weights(blend[name], adapter.modules, family=adapter.family)
            for name, adapter in self._adapters.items()
        }
        self._blend = blend
        self._set(tables)

    def _set(self, tables: Mapping[str, Mapping[str, float]]) -> None:
        """Set weights by adapter and module, in one copy per module."""
        for module, slot in self._slots.items():
            if isinstance(slot.module, Adapted):
                slot.module.set_weights({name: table[module] for name, table in tables.items() if module in table})

    def generate(self, prompt: str, *, seed: int, **options: Unpack[Options]) -> Picture:
        """Draw one picture; the same arguments and adapters draw the same one again on the same machine."""
        return self.generate_many([prompt], seeds=[seed], **options)[0]

    def generate_many(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        negative: str = "",
        size: tuple[int, int] | None = None,
        steps: int = 30,
        guidance: float | None = None,
        sampler: str = "",
        start: Start | None = None,
        schedules: Mapping[str, Schedule] | None = None,
        on_step: OnStep | None = None,
        on_preview: OnPreview | None = None,
        preview_every: int = 1,
        stop: Stop | None = None,
    ) -> list[Picture]:
        """Draw one picture per prompt in one batch.

        `size` is (width, height) in pixels; None takes the base's, or the shape of the picture to start from. `sampler`
        is a name of `samplers()`, empty for the base's. `schedules` let adapters change their weight over the steps.
        Raises UsageError for what cannot be drawn, TargetError for a schedule of an adapter that is not loaded, and
        Interrupted where `stop` said so; the next picture is then drawn as if this one had never begun.
        """
        components, schedules = self._components, schedules or {}
        width, height = size or self._size(start)
        guidance = components.guidance if guidance is None else guidance
        self._check(prompts, seeds, width, height, steps, guidance)
        for name in schedules:
            self._known(name)
        scheduler, title = sampler_for(sampler, components.scheduler, steps=steps)
        following = Following(
            steps=steps if start is None else late_steps(steps, start.strength),
            scheduler=scheduler,
            schedules=schedules,
            weigh=self._weigh,
            on_step=on_step,
            on_preview=on_preview,
            preview=linear_preview(self._family, components) if on_preview else None,
            preview_every=preview_every,
            stop=stop,
        )
        draws = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with torch.no_grad(), self._weights_kept(schedules):
            images = self._run(
                following,
                self._begun(start, scheduler, (width, height), steps, draws),
                **self._family.prompt_arguments(components, prompts, negative),
                width=width,
                height=height,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=draws,
            )
        drawn_with = Settings(
            prompt="",
            negative=negative,
            seed=0,
            width=width,
            height=height,
            steps=steps,
            guidance=guidance,
            sampler=title,
            base=Path(self._base).stem,
            adapters={name: _overall(weight) for name, weight in self._blend.items()},
            parts={
                name: str(replace(weight, source=name))
                for name, weight in self._blend.items()
                if isinstance(weight, PartSpec) and not weight.plain
            },
            fingerprints={name: adapter.fingerprint for name, adapter in self._adapters.items()},
            schedules={name: str(schedule) for name, schedule in schedules.items()},
            start=start.sha256 if start else "",
            strength=start.strength if start else None,
        )
        return [
            Picture(image=image, settings=replace(drawn_with, prompt=prompt, seed=seed))
            for image, prompt, seed in zip(images, prompts, seeds, strict=True)
        ]

    def _begun(
        self,
        start: Start | None,
        scheduler: Any,
        size: tuple[int, int],
        steps: int,
        draws: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:
        """Return what the pipeline starts from besides noise of its own."""
        if start is None:
            return {}
        latents = noised(
            start,
            family=self._family,
            components=self._components,
            scheduler=begin_late(scheduler, steps, start.strength),
            size=size,
            steps=steps,
            draws=draws,
        )
        return {"latents": latents}

    def _run(self, following: Following, begun: Mapping[str, Tensor], **arguments: Any) -> list[Image.Image]:
        following.begin()
        self._pipeline.scheduler = watched(following.scheduler) if following.on_preview else following.scheduler
        self._pipeline.set_progress_bar_config(disable=True)
        drawn = self._pipeline(
            **arguments,
            **begun,
            guidance_rescale=self._components.guidance_rescale,
            callback_on_step_end=following,
        )
        return list(drawn.images)

    def _weigh(self, factors: Mapping[str, float]) -> None:
        """Multiply the weights of adapters in the denoiser; the prompt was read with the plain ones."""
        tables = {}
        for name, factor in factors.items():
            adapter = self._adapters[name]
            table = module_weights(self._blend[name], adapter.modules, family=adapter.family)
            tables[name] = {module: weight * factor for module, weight in table.items() if _in_denoiser(module)}
        self._set(tables)

    @contextmanager
    def _weights_kept(self, names: Iterable[str]) -> Iterator[None]:
        """Put the weights of these adapters back at the end, however it comes."""
        try:
            yield
        finally:
            self._weigh(dict.fromkeys(names, 1.0))

    def _size(self, start: Start | None) -> tuple[int, int]:
        components = self._components
        if start is None:
            return components.resolution, components.resolution
        return fitting_size(start.image, resolution=components.resolution, step=components.bucket_step)

    def _check(
        self, prompts: Sequence[str], seeds: Sequence[int], width: int, height: int, steps: int, guidance: float
    ) -> None:
        if len(prompts) != len(seeds) or not 1 <= len(prompts) <= MAX_BATCH:
            raise UsageError(
                f"{len(prompts)} prompts and {len(seeds)} seeds", hint=f"give one seed per prompt, at most {MAX_BATCH}"
            )
        if any(side % 8 or not 8 <= side <= MAX_SIDE for side in (width, height)):
            raise UsageError(
                f"a picture of {width} x {height} cannot be drawn", hint=f"use multiples of 8 up to {MAX_SIDE}"
            )
        if not 1 <= steps <= MAX_STEPS:
            raise UsageError(f"{steps} steps are not possible", hint=f"use 1 to {MAX_STEPS}; 20 to 30 are usual")
        if not 0 <= guidance <= 100:
            raise UsageError(f"guidance {guidance} is out of range", hint="use 0 to 100; 4 to 9 are usual")
        if any(not 0 <= seed < 2**63 for seed in seeds):
            raise UsageError("a seed is out of range", hint="use 0 to 2^63 - 1")

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self._adapters:
            name, number = f"{wanted}-{number}", number + 1
        return name

    def _known(self, name: str) -> None:
        if name not in self._adapters:
            raise TargetError(
                f"no adapter is called {name!r}", hint=f"loaded are: {', '.join(self._adapters) or 'none'}"
            )


def _overall(weight: Weight) -> float:
    return float(weight.weight if isinstance(weight, PartSpec) else weight)


def _in_denoiser(module: str) -> bool:
    return module.startswith("denoiser.")
