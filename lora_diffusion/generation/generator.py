"""A loaded base model with live adapters."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from lora_diffusion.adapters.inject import eject, load
from lora_diffusion.adapters.layer import Adapted
from lora_diffusion.devices import DTYPES, choose_device, choose_precision
from lora_diffusion.errors import TargetError, UsageError
from lora_diffusion.families import detect, locate
from lora_diffusion.families.attention import use_attention
from lora_diffusion.families.base import Components, Family
from lora_diffusion.files.adapter import Adapter, read_adapter
from lora_diffusion.generation.blend import Blend, require_one_family
from lora_diffusion.generation.picture import Picture, Settings
from lora_diffusion.parts import PartSpec, Weight, module_weights

__all__ = ["Generator"]

MAX_SIDE, MAX_STEPS, MAX_BATCH = 4096, 1000, 64

OnStep = Callable[[int, int], None]

_log = logging.getLogger("lora_diffusion")


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

    def generate(
        self,
        prompt: str,
        *,
        seed: int,
        negative: str = "",
        size: tuple[int, int] | None = None,
        steps: int = 30,
        guidance: float | None = None,
        on_step: OnStep | None = None,
    ) -> Picture:
        """Draw one picture; the same arguments and adapters draw the same one again on the same machine."""
        return self.generate_many(
            [prompt], seeds=[seed], negative=negative, size=size, steps=steps, guidance=guidance, on_step=on_step
        )[0]

    def generate_many(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        negative: str = "",
        size: tuple[int, int] | None = None,
        steps: int = 30,
        guidance: float | None = None,
        on_step: OnStep | None = None,
    ) -> list[Picture]:
        """Draw one picture per prompt in one batch. `size` is (width, height) in pixels; None takes the base's.

        Raises UsageError for a size, number of steps or guidance that cannot be drawn.
        """
        components = self._components
        width, height = size or (components.resolution, components.resolution)
        guidance = components.guidance if guidance is None else guidance
        self._check(prompts, seeds, width, height, steps, guidance)
        self._pipeline.set_progress_bar_config(disable=True)
        with torch.no_grad():
            drawn = self._pipeline(
                **self._family.prompt_arguments(components, prompts, negative),
                width=width,
                height=height,
                num_inference_steps=steps,
                guidance_scale=guidance,
                guidance_rescale=components.guidance_rescale,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                callback_on_step_end=_reporting(on_step, steps),
            )
        drawn_with = Settings(
            prompt="",
            negative=negative,
            seed=0,
            width=width,
            height=height,
            steps=steps,
            guidance=guidance,
            sampler=type(components.scheduler).__name__.removesuffix("Scheduler"),
            base=Path(self._base).stem,
            adapters={name: _overall(weight) for name, weight in self._blend.items()},
            parts={
                name: str(replace(weight, source=name))
                for name, weight in self._blend.items()
                if isinstance(weight, PartSpec)
            },
            fingerprints={name: adapter.fingerprint for name, adapter in self._adapters.items()},
        )
        return [
            Picture(image=image, settings=replace(drawn_with, prompt=prompt, seed=seed))
            for image, prompt, seed in zip(drawn.images, prompts, seeds, strict=True)
        ]

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


def _reporting(on_step: OnStep | None, steps: int) -> Callable[..., dict[str, object]] | None:
    if on_step is None:
        return None

    def report(pipeline: object, step: int, timestep: object, values: dict[str, object]) -> dict[str, object]:
        on_step(step + 1, steps)
        return values

    return report
