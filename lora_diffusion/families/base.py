"""What a family of base models has to say, and what loading one gives."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lora_diffusion.adapters.inject import Slot
from lora_diffusion.adapters.layer import Adapted
from lora_diffusion.families.layout import Layout
from lora_diffusion.objectives import Objective

__all__ = ["Components", "Conditioning", "Configs", "Family", "Size", "Tokens", "slots_of"]

Conditioning = Mapping[str, Tensor]
"""What the denoiser is told, by name; every tensor has the samples in its first dimension.

`context` [n, length, width] is the text. Where a family has them: `pooled` [n, width] is the text as a whole, and
`time_ids` [n, 6] tells how a picture was scaled and cropped.
"""

Tokens = Mapping[str, Tensor]
"""Token ids [n, length] by text encoder; what else is in it (`time_ids`) is passed on as conditioning."""

Configs = Mapping[str, Mapping[str, Any]]
"""Content of the config.json files of a base model by the folder of each component, `scheduler` included."""

Size = tuple[int, int]
"""Width and height, or left and top, in pixels."""


@dataclass(kw_only=True)
class Components:
    """The loaded modules of one base model by role."""

    path: Path
    denoiser: nn.Module
    text_encoders: dict[str, nn.Module]
    tokenizers: dict[str, Any]
    vae: nn.Module
    scheduler: Any
    objective: Objective
    dtype: torch.dtype
    device: torch.device
    resolution: int
    """Side of the square that the base model was trained on, in pixels."""
    bucket_step: int
    """What both sides of a picture must be a multiple of, in pixels."""

    guidance: float = 7.5
    """Classifier-free guidance that suits this base model."""
    guidance_rescale: float = 0.0
    """How far guided predictions are scaled back to the spread of unguided ones (Lin et al. 2023, section 3.4)."""

    def modules(self) -> dict[str, nn.Module]:
        """Return the modules that can carry adapters, by component name."""
        return {"denoiser": self.denoiser, **self.text_encoders}

    def fingerprint(self, module: nn.Module) -> str:
        """Return the sha256 of a module's weights, for what is cached of its outputs."""
        digest = hashlib.sha256()
        for name, tensor in module.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def freeze(self) -> None:
        for module in (*self.modules().values(), self.vae):
            module.requires_grad_(False).eval()


class Family(ABC):
    """A kind of base model. One instance per file of this package; nothing outside names one."""

    name: ClassVar[str]
    targets: ClassVar[Mapping[str, tuple[str, ...]]]
    """Target sets: name -> patterns over canonical names."""
    folders: ClassVar[Mapping[str, str]]
    """Component -> its folder in a diffusers pipeline, the denoiser first."""

    @abstractmethod
    def detect(self, path: Path) -> bool:
        """Say whether a folder or file holds a base model of this family."""

    @abstractmethod
    def configs(self, path: Path) -> Configs:
        """Return the configs of a folder or file; for a file what it says itself, else what the architecture has.

        Raises BaseNotFound where one is missing, or a file does not tell what it must.
        """

    @abstractmethod
    def layout(self, configs: Configs) -> Layout:
        """Return where each tensor lies in a single file. Raises ValueError for a shape that files do not have."""

    @abstractmethod
    def architecture(self, configs: Configs) -> str:
        """Return what modelspec.architecture calls a base model with these configs."""

    @abstractmethod
    def model_index(self, configs: Configs) -> dict[str, Any]:
        """Return the model_index.json of a diffusers folder with these configs."""

    @abstractmethod
    def geometry(self, path: Path) -> tuple[int, int]:
        """Return (resolution, bucket step) in pixels from the configs alone, without loading weights."""

    @abstractmethod
    def tokenizers(self, path: Path, *, named: str = "") -> dict[str, Any]:
        """Return the tokenizer of each text encoder without loading weights; `named` is a folder that holds it.

        Raises BaseNotFound where there is none that fits.
        """

    @abstractmethod
    def load(self, path: Path, *, dtype: torch.dtype, device: torch.device, tokenizer: str = "") -> Components:
        """Load and freeze every component. Raises BaseNotFound naming what is missing."""

    @abstractmethod
    def encode_images(self, components: Components, pixels: Tensor) -> Tensor:
        """Return latents [n, c, h / 8, w / 8] in fp32 of pixels [n, 3, h, w] in -1..1."""

    @abstractmethod
    def tokenize(self, components: Components, prompts: Sequence[str], *, chunks: int = 1) -> Tokens:
        """Return token ids of one length; what is longer than so many times what the encoder reads at once is cut."""

    def chunks(self, components: Components, prompts: Sequence[str], *, tokens: int) -> int:
        """Return how many readings of the encoder take in the longest prompt, or its first `tokens` if that is less.

        One is always made, and none that `tokens` do not fill is begun.
        """
        return 1

    @abstractmethod
    def encode_tokens(self, components: Components, tokens: Tokens) -> Conditioning: ...

    def size_ids(self, original: Size, crop: Size, target: Size) -> Conditioning:
        """Return what the denoiser is told of the size of one sample, without the samples' dimension.

        `original` is the size of the picture before it was scaled, `crop` the left and top of the part that is shown
        after it was scaled, `target` the size of that part. Most families are told nothing.
        """
        return {}

    @abstractmethod
    def predict(self, components: Components, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the denoiser's answer [n, c, h, w] in fp32 to noisy latents at timesteps t [n]."""

    def prompt_arguments(self, components: Components, prompts: Sequence[str], negative: str) -> dict[str, Any]:
        """Return what the pipeline takes as prompts and as what not to draw; nothing of them is cut."""
        return {"prompt": list(prompts), "negative_prompt": [negative] * len(prompts)}

    @abstractmethod
    def pipeline(self, components: Components) -> Any:
        """Return the diffusers pipeline over these very modules."""

    def slots(self, components: Components) -> dict[str, Slot]:
        """Return every place that can take an adapter by canonical name, in the model's order."""
        found: dict[str, Slot] = {}
        for component, module in components.modules().items():
            found.update(slots_of(module, f"{component}.{_prefix(component, module)}"))
        return found


def slots_of(root: nn.Module, prefix: str = "") -> dict[str, Slot]:
    """Return the linear and convolution layers below a module by dotted path, seen through their adapters."""
    found: dict[str, Slot] = {}
    for name, child in root.named_children():
        if isinstance(child, nn.Linear | nn.Conv2d | Adapted):
            found[prefix + name] = Slot(parent=root, attribute=name)
        else:
            found.update(slots_of(child, f"{prefix}{name}."))
    return found


def _prefix(component: str, module: nn.Module) -> str:
    """Canonical text-encoder names say text_model; transformers 5 dropped that level from CLIPTextModel."""
    return "text_model." if component.startswith("text_encoder") and not hasattr(module, "text_model") else ""
