"""Reasons not to trust an adapter file, or to know more before using it.

blocks: the file cannot be used as it is. warns: it can, and will not do what is expected. notes: good to know.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

import torch

from datasets_tools.finding import Finding, blocks, notes, warns
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.dialects import Parts
from lora_diffusion.files.evidence import contradiction
from lora_diffusion.files.folder import Source
from lora_diffusion.files.foreign import foreign, refusal

__all__ = ["findings_of"]

_FP16_MAX = 65504.0
# alpha / rank outside of these was most likely an oversight: alpha = 1 at rank 128 is 0.008, alpha = 2 * rank is 2, and
# rank-stabilised LoRA at rank 128 is 11.
_WEAK, _STRONG = 1 / 64, 16.0
_AGAIN = "get the file again from where it came, or ask its author for a complete one"


def findings_of(
    source: Source, parts: Parts, problems: Mapping[str, str], whole: Mapping[str, Weights], family: str
) -> tuple[Finding, ...]:
    """Return what is wrong with a file or worth knowing, the gravest first.

    `problems` is what is wrong with each module, or nothing; `whole` are those that can be described.
    """
    found = [*_broken(source, parts, problems), *_suspicious(whole, source.keys, family), *_known(whole)]
    return tuple(sorted(found, key=lambda each: ("blocks", "warns", "notes").index(each.severity)))


def _broken(source: Source, parts: Parts, problems: Mapping[str, str]) -> Iterator[Finding]:
    for file in source.files.values():
        for key in file.wrong_hashes():
            reason = f"{file.path.name}: {key} does not match: the tensors were damaged or changed after writing"
            yield blocks("hash-differs", file.path.name, reason, _AGAIN)
    kind = foreign((*parts.unplaced, *parts.pieces))
    if kind:
        yield blocks("unsupported", source.path.name, *refusal(kind))
    for key in () if kind else parts.unplaced:
        yield blocks("no-place", key, f"no place for tensor {key}", _AGAIN)
    for name, what in problems.items():
        if what:
            yield blocks("incomplete", name, f"{name} {what}", _AGAIN)
    for token, vector in parts.embeddings.items():
        if not torch.isfinite(vector).all():
            yield blocks("not-finite", token, f"embedding {token} has NaN or infinite values", _AGAIN)


def _suspicious(whole: Mapping[str, Weights], keys: Collection[str], family: str) -> Iterator[Finding]:
    lower = "lower its weight in a blend, or write it with the alpha that was meant"
    rules: tuple[tuple[str, Callable[[Weights], bool], str, str], ...] = (
        ("no-effect", _is_silent, "have a factor of zeros and no effect", "nothing was trained there; leave them out"),
        ("alpha", lambda each: each.alpha <= 0, "have an alpha of 0 or less", "write it with the alpha that was meant"),
        ("norms", _has_no_norms, "have a dora_scale of 0 or less", "norms are positive: ask its author for the file"),
        ("weak", lambda each: 0 < each.scale < _WEAK, "have a very small scale", "raise its weight in a blend"),
        ("strong", lambda each: each.scale > _STRONG, "have a very large scale", lower),
        ("fp16", _overflows, "have values which overflow in fp16", "use them in bf16 or fp32"),
    )
    for code, holds, what, remedy in rules:
        names = [name for name, weights in whole.items() if holds(weights)]
        if names:
            yield warns(code, names[0], _line(names, whole, what), remedy)
    if other := contradiction(whole, keys, family):
        reason = f"the metadata says {family}, but {other[1]} belongs to {other[0]}"
        yield warns("family", "", reason, f"use it with {other[0]}")


def _line(names: list[str], whole: Mapping[str, Weights], what: str) -> str:
    first = whole[names[0]]
    largest = max(float(each.float().abs().max()) for each in (first.up, *([first.down] if first.down.numel() else ())))
    figures = f"a scale of {first.scale:g} (alpha {first.alpha:g}, rank {first.rank}) and values up to {largest:.3g}"
    return f"{len(names)} of {len(whole)} modules {what}; the first is {names[0]} with {figures}"


def _is_silent(weights: Weights) -> bool:
    """A product is nothing where one of its factors is; a bias beside a whole delta is a change of its own."""
    if weights.method == "full":
        return not weights.up.any() and not (weights.extra["bias"].any() if "bias" in weights.extra else False)
    return "dora_scale" not in weights.extra and not all(bool(each.any()) for each in weights.tensors().values())


def _has_no_norms(weights: Weights) -> bool:
    norms = weights.extra.get("dora_scale")
    return norms is not None and bool((norms.float() <= 0).any())


def _overflows(weights: Weights) -> bool:
    values = [float(each.float().abs().max()) for each in weights.tensors().values() if each.numel()]
    return any(_FP16_MAX < value < float("inf") for value in values)


def _known(whole: Mapping[str, Weights]) -> Iterator[Finding]:
    decomposed = [name for name, weights in whole.items() if "dora_scale" in weights.extra]
    if decomposed:
        reason = f"{len(decomposed)} modules are weight-decomposed (DoRA): their change depends on the base model"
        yield notes("dora", decomposed[0], reason, "name the base model where it is blended or converted")
    dtypes = sorted({str(weights.up.dtype).removeprefix("torch.") for weights in whole.values()})
    if len(dtypes) > 1:
        yield notes("dtypes", "", f"tensors of several precisions: {', '.join(dtypes)}", "export it in one")
