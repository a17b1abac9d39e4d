"""The layout of single-file checkpoints of Stable Diffusion, from the numbers of a UNet, a VAE and text encoders.

The original layout counts blocks through (`input_blocks.4.1`) where diffusers nests (`down_blocks.1.attentions.0`),
and the decoder of the VAE counts its levels from the other end. Everything follows from the layers per block, so that a
model of any size converts; there is no table of one size. Source: the latent-diffusion UNetModel and AutoencoderKL.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lora_diffusion.families import open_clip
from lora_diffusion.families.names import canonical

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "SD1_TEXTS",
    "Layout",
    "Place",
    "Text",
    "from_folder_key",
    "is_vae_attention",
    "layout_of_configs",
    "layout_of_keys",
    "sd2_texts",
    "sdxl_texts",
    "unet_blocks",
]

_Pair = tuple[str, str]
_Shape = tuple[int, ...]

_UNET, _VAE = "model.diffusion_model", "first_stage_model"
_SD2_TEXT, _SDXL_TEXT = "cond_stage_model.model", "conditioner.embedders.1.model"
_SD2_LAYERS = 23  # of the 24 that files hold: the last is not used and has no place in diffusers
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_RESNET = {each: each for each in ("norm1", "conv1", "norm2", "conv2")} | {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
# Before diffusers 0.17 the attention of the VAE had these names.
_OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(r"(\.mid_block\.attentions\.0\.)(query|key|value|proj_attn)(?=\.)")


@dataclass(frozen=True, kw_only=True)
class Text:
    """Where a text encoder lies, and in whose words.

    `layers` is how many of an OpenCLIP encoder are used, the rest belongs to no component; 0 stands for an encoder in
    the words of transformers.
    """

    component: str
    prefix: str
    layers: int = 0
    projection: bool = False

    def pairs(self) -> Iterator[_Pair]:
        if not self.layers:
            yield self.component, self.prefix
            return
        for ours, original in open_clip.names(self.layers, projection=self.projection).items():
            yield f"{self.component}.{ours}", f"{self.prefix}.{original}"

    def fused(self) -> Iterator[tuple[str, str, int]]:
        """Yield our key, the original one and the third of it for what OpenCLIP stores as one."""
        for (ours, original), third in open_clip.fused(self.layers).items():
            yield f"{self.component}.{ours}", f"{self.prefix}.{original}", third


SD1_TEXTS = (Text(component="text_encoder", prefix="cond_stage_model.transformer"),)


def sd2_texts(layers: int) -> tuple[Text, ...]:
    """Return the text encoder of Stable Diffusion 2: OpenCLIP with so many layers in use, without its projection."""
    return (Text(component="text_encoder", prefix=_SD2_TEXT, layers=layers),)


def sdxl_texts(layers: int) -> tuple[Text, ...]:
    """Return both text encoders of Stable Diffusion XL; the second is OpenCLIP with so many layers."""
    return (
        Text(component="text_encoder", prefix="conditioner.embedders.0.transformer"),
        Text(component="text_encoder_2", prefix=_SDXL_TEXT, layers=layers, projection=True),
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tensor of ours lies in the original layout, and how it is held there.

    `third` of a tensor that holds query, key and value on top of each other; `turned` where the matrix is transposed;
    `kernel` where the original is a 1x1 convolution; `matrix` where it may be one in some files.
    """

    key: str
    third: int | None = None
    turned: bool = False
    kernel: bool = False
    matrix: bool = False

    def shape(self, shape: Sequence[int]) -> _Shape:
        """Return the shape of our tensor for the shape of the original one."""
        if not shape:
            return ()
        rows, *others = shape
        if self.third is not None:
            return (rows // 3, *others)
        if self.turned:
            return (*others, rows)
        return (rows, others[0]) if (self.kernel or self.matrix) and len(others) == 3 else (rows, *others)

    def ours(self, tensor: "Tensor") -> "Tensor":
        """Return our tensor of the original one, bit for bit."""
        if self.third is not None:
            return tensor.chunk(3)[self.third].contiguous()
        if self.turned:
            return tensor.T.contiguous()
        return tensor.reshape(self.shape(tensor.shape))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the key of each tensor is in the original layout.

    `layers` per UNet block; `attention` says for each up block whether it has transformers; `vae_levels` and
    `vae_layers` of the VAE.
    """

    layers: int
    attention: tuple[bool, ...]
    vae_levels: int
    vae_layers: int
    texts: tuple[Text, ...] = SD1_TEXTS

    @property
    def linear(self) -> bool:
        """Say whether proj_in and proj_out are Linear: in all models with OpenCLIP, and in no other."""
        return any(text.layers for text in self.texts)

    @cached_property
    def _to_original(self) -> Mapping[str, str]:
        return dict(self._pairs())

    @cached_property
    def _to_canonical(self) -> Mapping[str, str]:
        return {original: ours for ours, original in self._pairs()}

    @cached_property
    def _fused(self) -> Mapping[str, tuple[str, int]]:
        return {ours: (original, third) for text in self.texts for ours, original, third in text.fused()}

    @cached_property
    def _thirds(self) -> Mapping[str, tuple[str, ...]]:
        thirds: dict[str, tuple[str, ...]] = {}
        for ours, (original, _) in self._fused.items():
            thirds[original] = (*thirds.get(original, ()), ours)
        return thirds

    def _pairs(self) -> Iterator[_Pair]:
        unet = _unet(self.layers, self.attention)
        vae = _vae(self.vae_levels, self.vae_layers)
        yield from ((f"denoiser.{ours}", f"{_UNET}.{original}") for ours, original in unet)
        yield from ((f"vae.{ours}", f"{_VAE}.{original}") for ours, original in vae)
        for text in self.texts:
            yield from text.pairs()

    def place(self, key: str) -> Place | None:
        """Return where a canonical key lies in the original layout, None where the layout has no such place."""
        if key in self._fused:
            original, third = self._fused[key]
            return Place(key=original, third=third)
        found = _renamed(key, self._to_original)
        if found is None:
            return None
        return Place(
            key=found,
            turned=key.endswith(".text_projection.weight"),
            kernel=is_vae_attention(key),
            matrix=self.linear and key.endswith((".proj_in.weight", ".proj_out.weight")),
        )

    def keys(self, original: str) -> tuple[str, ...]:
        """Return the canonical keys that a tensor of the original layout holds, () where it belongs to no component."""
        if original in self._thirds:
            return self._thirds[original]
        found = self.canonical(original)
        return () if found is None else (found,)

    def joined(self, original: str, tensors: "Sequence[Tensor]") -> "Tensor":
        """Return the tensor of the original layout for all of ours that it holds, in the order of `keys`."""
        import torch

        places = [self.place(key) for key in self.keys(original)]
        if len(places) == 3:
            return torch.cat(list(tensors))
        (place,), (tensor,) = places, tensors
        assert place is not None
        if place.turned:
            return tensor.T.contiguous()
        return tensor.reshape(*tensor.shape, 1, 1) if place.kernel else tensor

    def joined_shape(self, original: str, shapes: Sequence[Sequence[int]]) -> _Shape:
        """Return the shape of `joined` for the shapes of its tensors."""
        import torch

        tensors = [torch.empty(tuple(shape), device="meta") for shape in shapes]
        return tuple(self.joined(original, tensors).shape)

    def original(self, key: str) -> str | None:
        """Return the original key of a canonical one, None where the layout has no such place."""
        place = self.place(key)
        return None if place is None else place.key

    def canonical(self, key: str) -> str | None:
        """Inverse of `original` where one tensor of the original is one of ours, else None.

        A text encoder without `text_model` (exported with transformers 5) gets it.
        """
        found = _renamed(key, self._to_canonical)
        component, _, path = (found or "").partition(".")
        return canonical(component, path) if component.startswith("text_encoder") else found


def _renamed(key: str, table: Mapping[str, str]) -> str | None:
    start = key
    while start:
        if start in table:
            return table[start] + key[len(start) :]
        start = start.rpartition(".")[0]
    return None


def _unet(layers: int, attention: tuple[bool, ...]) -> Iterator[_Pair]:
    yield "conv_in", "input_blocks.0.0"
    yield "time_embedding.linear_1", "time_embed.0"
    yield "time_embedding.linear_2", "time_embed.2"
    yield "add_embedding.linear_1", "label_emb.0.0"
    yield "add_embedding.linear_2", "label_emb.0.2"
    yield "conv_norm_out", "out.0"
    yield "conv_out", "out.2"
    yield "mid_block.attentions.0", "middle_block.1"
    yield from _inside("mid_block.resnets.0", "middle_block.0", _UNET_RESNET)
    yield from _inside("mid_block.resnets.1", "middle_block.2", _UNET_RESNET)
    for level, has_attention in enumerate(attention):
        first = level * (layers + 1)
        for layer in range(layers):
            yield from _block(f"down_blocks.{level}", layer, f"input_blocks.{first + layer + 1}")
        yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{first + layers + 1}.0.op"
        for layer in range(layers + 1):
            yield from _block(f"up_blocks.{level}", layer, f"output_blocks.{first + layer}")
        place = f"output_blocks.{first + layers}.{2 if has_attention else 1}"
        yield f"up_blocks.{level}.upsamplers.0.conv", f"{place}.conv"


def unet_blocks(layers: int, attention: tuple[bool, ...]) -> dict[str, str]:
    """Return the path of each named place of a UNet in diffusers -> its path in the original layout.

    What lies below a transformer has the same names in both. `layers` and `attention` as in Layout.
    """
    return dict(_unet(layers, attention))


def _block(block: str, layer: int, place: str) -> Iterator[_Pair]:
    yield from _inside(f"{block}.resnets.{layer}", f"{place}.0", _UNET_RESNET)
    yield f"{block}.attentions.{layer}", f"{place}.1"


def _inside(ours: str, original: str, names: Mapping[str, str]) -> Iterator[_Pair]:
    yield from ((f"{ours}.{one}", f"{original}.{other}") for one, other in names.items())


def _vae(levels: int, layers: int) -> Iterator[_Pair]:
    yield from ((each, each) for each in ("quant_conv", "post_quant_conv"))
    for half, more in (("encoder", 0), ("decoder", 1)):
        yield from ((f"{half}.{each}", f"{half}.{each}") for each in ("conv_in", "conv_out"))
        yield f"{half}.conv_norm_out", f"{half}.norm_out"
        yield from _inside(f"{half}.mid_block.attentions.0", f"{half}.mid.attn_1", _VAE_ATTENTION)
        for layer in (0, 1):
            yield from _inside(f"{half}.mid_block.resnets.{layer}", f"{half}.mid.block_{layer + 1}", _VAE_RESNET)
        for level in range(levels):
            ours, place = (
                (f"decoder.up_blocks.{level}", f"decoder.up.{levels - 1 - level}")
                if more
                else (f"encoder.down_blocks.{level}", f"encoder.down.{level}")
            )
            for layer in range(layers + more):
                yield from _inside(f"{ours}.resnets.{layer}", f"{place}.block.{layer}", _VAE_RESNET)
            way = "upsample" if more else "downsample"
            yield f"{ours}.{way}rs.0.conv", f"{place}.{way}.conv"


def layout_of_configs(unet: Mapping[str, Any], vae: Mapping[str, Any], texts: tuple[Text, ...] = SD1_TEXTS) -> Layout:
    """Return the layout from the config.json of UNet and VAE. Raises ValueError for blocks of unequal depth."""
    layers = unet.get("layers_per_block", 2)
    if not isinstance(layers, int):
        raise ValueError(f"layers_per_block is {layers!r}: the original layout needs one number")
    blocks = unet.get("up_block_types", ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3))
    return Layout(
        layers=layers,
        attention=tuple("CrossAttn" in each for each in blocks),
        vae_levels=len(vae.get("block_out_channels", (0,))),
        vae_layers=int(vae.get("layers_per_block", 1)),
        texts=texts,
    )


def layout_of_keys(keys: Iterable[str]) -> Layout:
    """Return the layout from the keys of a single file; downsamplers stand at every (layers + 1)th input block."""
    keys = list(keys)
    downsamplers = _numbers(keys, rf"{_UNET}\.input_blocks\.(\d+)\.0\.op\.")
    outputs = _numbers(keys, rf"{_UNET}\.output_blocks\.(\d+)\.0\.")
    layers = min(downsamplers) - 1 if downsamplers else max(outputs, default=0)
    levels = len(downsamplers) + 1
    transformers = _numbers(keys, rf"{_UNET}\.output_blocks\.(\d+)\.1\.transformer_blocks\.")
    return Layout(
        layers=layers,
        attention=tuple(level * (layers + 1) in transformers for level in range(levels)),
        vae_levels=max(_numbers(keys, rf"{_VAE}\.encoder\.down\.(\d+)\."), default=-1) + 1,
        vae_layers=max(_numbers(keys, rf"{_VAE}\.encoder\.down\.0\.block\.(\d+)\."), default=0) + 1,
        texts=_texts_of_keys(keys),
    )


def _texts_of_keys(keys: Sequence[str]) -> tuple[Text, ...]:
    for prefix, texts, most in ((_SDXL_TEXT, sdxl_texts, None), (_SD2_TEXT, sd2_texts, _SD2_LAYERS)):
        found = _numbers(keys, rf"{re.escape(prefix)}\.transformer\.resblocks\.(\d+)\.")
        if found:
            layers = max(found) + 1
            return texts(layers if most is None else min(layers, most))
    return SD1_TEXTS


def _numbers(keys: Iterable[str], pattern: str) -> set[int]:
    found = re.compile(pattern)
    return {int(match[1]) for key in keys if (match := found.match(key))}


def from_folder_key(component: str, key: str) -> str:
    """Return the canonical key of a tensor in a component's folder, also by the names that older programs wrote."""
    return _OLD.sub(lambda match: match[1] + _OLD_VAE_ATTENTION[match[2]], canonical(component, key))


def is_vae_attention(key: str) -> bool:
    """Tell whether a canonical key is a weight that is Linear in diffusers and a 1x1 convolution in the original."""
    return key.startswith("vae.") and key.endswith(
        tuple(f".attentions.0.{each}.weight" for each in _VAE_ATTENTION if each != "group_norm")
    )
