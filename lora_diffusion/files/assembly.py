"""From the tensors of a file to the weights of modules; strict, or tolerant with a list of what is wrong."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lora_diffusion.adapters.dense import direction
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import CorruptFile, UnknownDialect
from lora_diffusion.files.dialects import Parts, Pieces, dialects, recognise
from lora_diffusion.files.dialects._common import same
from lora_diffusion.files.foreign import foreign, refusal
from lora_diffusion.files.roles import form_of, missing, weights_of

__all__ = ["assemble", "is_finite", "parts_of", "problem", "weights_of"]

_NEXT_STEP = "nothing was loaded; get the file again, or ask its author for a complete one"
# Elements of one delta. The largest weight of any model that is adapted today has 66 million (3072 x 21504); a hostile
# file of 1 MB can name factors whose product fills any memory.
_MAX_DELTA = 1 << 27
_UNHELD = {
    "lora_bias": "a bias inside the LoRA (lora_bias of PEFT)",
    "scalar": "a scalar other than 1 beside its factors",
}
_BIAS_ALONE = "a change of the bias (diff_b) without one of the weight"
_TRANSPOSED = "factors stored transposed: turned"


def assemble(parts: Parts, *, source: str) -> dict[str, Weights]:
    """Return the weights of every module.

    Raises CorruptFile naming the first tensor or module that is wrong, UnknownDialect for an adapter of another family
    or method.
    """
    if kind := foreign(names := (*parts.unplaced, *parts.pieces)):
        said, hint = refusal(kind)
        first = next(name for name in names if foreign((name,)) == kind)
        raise UnknownDialect(f"{source}: {said}; the first of its names is {first!r}", hint=hint)
    if parts.unplaced:
        others = f" (and {len(parts.unplaced) - 1} others)" if len(parts.unplaced) > 1 else ""
        raise CorruptFile(f"{source}: no place for tensor {parts.unplaced[0]!r}{others}", hint=_NEXT_STEP)
    wrong = [(module, what) for module, pieces in parts.pieces.items() if (what := problem(pieces))]
    if wrong:
        others = f" (and {len(wrong) - 1} other modules are wrong)" if len(wrong) > 1 else ""
        raise CorruptFile(f"{source}: {wrong[0][0]} {wrong[0][1]}{others}", hint=_NEXT_STEP)
    for token, vector in parts.embeddings.items():
        if not torch.isfinite(vector).all():
            raise CorruptFile(f"{source}: embedding {token} has NaN or infinite values", hint=_NEXT_STEP)
    return {module: weights_of(pieces) for module, pieces in parts.pieces.items()}


def problem(pieces: Pieces) -> str:
    """Return what is wrong with one module, or nothing."""
    if unheld := next((what for role, what in _UNHELD.items() if role in pieces and "diff" not in pieces), ""):
        return f"has {unheld}, which is not supported"
    if pieces.keys() - {"alpha"} == {"diff_b"}:
        return f"has {_BIAS_ALONE}, which is not supported"
    form = form_of(pieces)
    if form is None:
        return f"has tensors that no method has together: {', '.join(sorted(pieces))}"
    if role := missing(form, pieces):
        return f"has no {role} tensor"
    alpha = pieces.get("alpha")
    if alpha is not None and alpha.dtype == torch.bool:
        return "has an alpha that is true or false, not a number"
    if what := _misfit({role: each for role, each in pieces.items() if role != "alpha"}):
        return what
    if alpha is not None and alpha.numel() != 1:
        return f"has an alpha of shape {tuple(alpha.shape)}, not one number"
    if not all(is_finite(each) for each in pieces.values()):
        return "has NaN or infinite values"
    return ""


def _misfit(pieces: Pieces) -> str:
    """Multiply the factors out as shapes without values, and say what does not fit."""
    shapes = ", ".join(f"{role} {tuple(each.shape)}" for role, each in sorted(pieces.items(), reverse=True))
    wrong = f"has factors that do not multiply: {shapes}"
    if any(0 in each.shape or not each.is_floating_point() or each.ndim > 4 for each in pieces.values()):
        return wrong
    try:
        weights = weights_of({role: each.to("meta") for role, each in pieces.items()})
        shape = weights.shape
        if not all(each.ndim in _dimensions(role, weights) for role, each in weights.tensors().items()):
            return wrong
        if weights.method == "lora" and weights.up.shape[2:].numel() != 1:
            return f"has an up factor with a kernel: {tuple(weights.up.shape)}"
        if direction(weights).shape != shape or not _twins_fit(weights):
            return wrong
    except (RuntimeError, ValueError, IndexError, TypeError, ZeroDivisionError):
        return wrong
    if torch.Size(shape).numel() > _MAX_DELTA:
        return f"has a delta of {' x '.join(map(str, shape))}, larger than any layer"
    return _norms_misfit(weights, shape)


def _dimensions(role: str, weights: Weights) -> tuple[int, ...]:
    """Return the numbers of dimensions that a tensor may have; products of others can come out in the right shape."""
    if role.startswith("mid"):
        return (4,)
    if role in ("dora_scale", "bias") or weights.method == "full":
        return (1, 2, 4)
    kernels = weights.method == "lora" or (weights.method == "lokr" and role == "down" and "w2_a" not in weights.extra)
    return (2, 4) if kernels else (2,)


def _twins_fit(weights: Weights) -> bool:
    """Broadcasting would let a row multiply a matrix, in products and between Tucker factors."""
    extra = weights.extra
    if "bias" in extra and tuple(extra["bias"].shape) != (weights.shape[0],):
        return False
    for role, up, down in (
        ("mid", extra.get("w2_a", weights.up), weights.down),
        ("mid2", extra.get("up2", weights.up), extra.get("down2", weights.down)),
    ):
        if role in extra and tuple(extra[role].shape[:2]) != (up.shape[1], down.shape[0]):
            return False
    if weights.method != "loha":
        return True
    return bool(extra["up2"].shape[0] == weights.up.shape[0] and extra["down2"].shape[1] == weights.down.shape[1])


def _norms_misfit(weights: Weights, shape: tuple[int, ...]) -> str:
    norms = weights.extra.get("dora_scale")
    if norms is None:
        return ""
    rows = norms.ndim >= 1 and norms.shape[0] == norms.numel() == shape[0]
    # LoHa and LoKr flatten kernels: how many of their columns are one channel is known once the module is
    flat = norms.ndim - 2 if norms.ndim == 4 and len(shape) == 2 else 0
    columns = (
        norms.ndim >= 2 and norms.shape[1] == norms.numel() and shape[1] in (norms.numel(), 3**flat * norms.numel())
    )
    return "" if rows or columns else f"has a dora_scale of shape {tuple(norms.shape)} for a delta of {shape}"


def is_finite(tensor: Tensor) -> bool:
    """Say whether all values are numbers. A sum in fp64 cannot overflow, and takes a third of looking at each."""
    if not tensor.is_floating_point():
        return True
    wide = tensor if tensor.itemsize > 1 else tensor.float()  # no sums of 8-bit floats
    return math.isfinite(float(wide.sum(dtype=torch.float64))) or bool(torch.isfinite(wide.double()).all())


def parts_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Parts:
    """Return what a file holds; where it mixes dialects, each reads the tensors that are its own.

    Raises UnknownDialect where no dialect claims any tensor.
    """
    main = recognise(tensors, metadata)
    claimed = [each for each in dialects().values() if each.matches(tensors, metadata)]
    if len(claimed) == 1:
        return _upright(main.read(tensors, metadata))
    shares: dict[str, dict[str, Tensor]] = {main.name: {}}
    for key, tensor in tensors.items():
        owner = next((each for each in claimed if each.matches([key], metadata)), main)
        shares.setdefault(owner.name, {})[key] = tensor
    counts = ", ".join(f"{name} {len(own)}" for name, own in shares.items())
    read = [dialects()[name].read(own, metadata) for name, own in shares.items()]
    return _upright(_joined(read, f"several dialects in one file ({counts} tensors): read together"))


def _joined(read: Sequence[Parts], line: str) -> Parts:
    pieces: dict[str, Pieces] = {}
    twice: list[str] = []
    same = 0
    for parts in read:
        for module, own in parts.pieces.items():
            taken = pieces.get(module, {})
            if _says_the_same(own, taken):
                same += 1
            else:
                twice += [f"{module} {role}" for role in own if role in taken]
            pieces[module] = {**own, **taken}
    again = (f"modules in two dialects, with the same tensors: read once ({same} modules)",) if same else ()
    return Parts(
        pieces=dict(sorted(pieces.items())),
        unplaced=(*(key for parts in read for key in parts.unplaced), *twice),
        embeddings={token: vector for parts in read for token, vector in parts.embeddings.items()},
        repairs=(line, *again, *(each for parts in read for each in parts.repairs)),
    )


def _says_the_same(one: Pieces, other: Pieces) -> bool:
    """Say whether two complete modules are the same; where a dialect stores no alpha, it is the rank."""
    return (
        "down" in one
        and one.keys() - {"alpha"} == other.keys() - {"alpha"}
        and all(same(one[role], other[role]) for role in one.keys() - {"alpha"})
        and _alpha(one) == _alpha(other)
    )


def _alpha(pieces: Pieces) -> list[float]:
    down = pieces["down"]
    return pieces["alpha"].flatten().tolist() if "alpha" in pieces else [float(down.shape[0] if down.ndim else 0)]


def _upright(parts: Parts) -> Parts:
    """Turn the factors of a file that stores all of them transposed.

    One square module cannot tell, so the whole file decides: some factors do not multiply as they are, and each pair
    multiplies when turned, with a rank that a weight of that size can have.
    """
    pairs = {name: each for name, each in parts.pieces.items() if {"up", "down"} <= each.keys()}
    flat = all(each["up"].ndim == each["down"].ndim == 2 for each in pairs.values())
    if not pairs or not flat or all(_multiplies(each["up"], each["down"]) for each in pairs.values()):
        return parts
    if not all(_multiplies(each["up"].T, each["down"].T, at_most_full=True) for each in pairs.values()):
        return parts
    turned = {name: {**each, "up": each["up"].T, "down": each["down"].T} for name, each in pairs.items()}
    line = f"{_TRANSPOSED} ({len(turned)} modules)"
    return replace(parts, pieces={**parts.pieces, **turned}, repairs=(*parts.repairs, line))


def _multiplies(up: Tensor, down: Tensor, *, at_most_full: bool = False) -> bool:
    rank = up.shape[1]
    return rank == down.shape[0] and (not at_most_full or rank <= min(up.shape[0], down.shape[1]))
