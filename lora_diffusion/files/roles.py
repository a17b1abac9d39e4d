"""The tensors of one module by their role in a file: which method they make, and the way to `Weights` and back.

The roles of a LoRA are up, down and mid; those of LyCORIS keep the names that they have in files. LyCORIS stores the
outer factors of a Tucker decomposition with the rank first, [r, out]; in `Weights` they are [out, r] as everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.dialects import Pieces

__all__ = ["LYCORIS", "form_of", "missing", "pieces_of", "weights_of"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way in which files hold a method: the roles that it needs, and what may come with them."""

    method: str
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


_HALVES = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_FORMS = (
    Form(method="lora", needs=("up", "down"), may=("mid", "dora_scale", "diff_b")),
    Form(method="loha", needs=_HALVES, may=("dora_scale", "diff_b")),
    Form(method="loha", needs=(*_HALVES, "hada_t1", "hada_t2"), may=("dora_scale", "diff_b")),
    *(
        Form(method="lokr", needs=(*first, *second), may=("dora_scale", "diff_b"))
        for first in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for second in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"), ("lokr_w2_a", "lokr_w2_b", "lokr_t2"))
    ),
    Form(method="full", needs=("diff",), may=("diff_b",)),
    Form(method="full", needs=("w_norm",), may=("b_norm",)),
)
LYCORIS = tuple(
    dict.fromkeys(
        role
        for form in _FORMS[1:]
        for role in (*form.needs, *form.may)
        if form.method != "lora" and role != "dora_scale"
    )
)
"""Every role of LyCORIS, spelled as in files."""
_BESIDE = {"dora_scale": "dora_scale", "diff_b": "bias", "b_norm": "bias"}  # role -> ours, with several methods


def form_of(pieces: Pieces) -> Form | None:
    """Return the form that has a place for all these roles and lacks the fewest, or None where there is none."""
    roles = pieces.keys() - {"alpha"}
    fitting = [form for form in _FORMS if roles <= {*form.needs, *form.may}]
    return min(fitting, key=lambda form: len(set(form.needs) - roles), default=None)


def missing(form: Form, pieces: Pieces) -> str:
    """Return the first role that the form lacks, or nothing."""
    return next((role for role in form.needs if role not in pieces), "")


def weights_of(pieces: Pieces) -> Weights:
    """Return the weights of one complete module; without an alpha it is the rank.

    A Kronecker product of two whole matrices and a whole delta have no rank: their scale is 1, whatever alpha says.
    """
    form = form_of(pieces)
    assert form is not None
    up, down, extra = _READERS[form.method](pieces)
    extra |= {ours: pieces[role] for role, ours in _BESIDE.items() if role in pieces}
    whole = Weights(up=up, down=down, alpha=1.0, method=form.method, extra=extra)
    alpha = pieces.get("alpha")
    no_rank = form.method == "full" or {"lokr_w1", "lokr_w2"} <= pieces.keys()
    value = float(whole.rank if alpha is None or no_rank else alpha)
    return Weights(up=up, down=down, alpha=value, method=form.method, extra=extra)


def _read_lora(pieces: Pieces) -> tuple[Tensor, Tensor, dict[str, Any]]:
    return pieces["up"], pieces["down"], {"mid": pieces["mid"]} if "mid" in pieces else {}


def _read_loha(pieces: Pieces) -> tuple[Tensor, Tensor, dict[str, Any]]:
    up, up2 = pieces["hada_w1_a"], pieces["hada_w2_a"]
    extra = {"up2": up2, "down2": pieces["hada_w2_b"]}
    if "hada_t1" in pieces:
        up = _turned(up)
        extra |= {"up2": _turned(up2), "mid": pieces["hada_t1"], "mid2": pieces["hada_t2"]}
    return up, pieces["hada_w1_b"], extra


def _read_lokr(pieces: Pieces) -> tuple[Tensor, Tensor, dict[str, Any]]:
    extra: dict[str, Any] = {}
    up, down = pieces.get("lokr_w1"), pieces.get("lokr_w2")
    if up is None:
        up, extra["w1_b"] = pieces["lokr_w1_a"], pieces["lokr_w1_b"]
    if down is None:
        tucker = "lokr_t2" in pieces
        first, down = pieces["lokr_w2_a"], pieces["lokr_w2_b"]
        extra |= {"w2_a": _turned(first) if tucker else first} | ({"mid": pieces["lokr_t2"]} if tucker else {})
    return up, down, extra


def _turned(matrix: Tensor) -> Tensor:
    if matrix.ndim != 2:
        raise ValueError(f"a matrix is stored as {tuple(matrix.shape)}")
    return matrix.T


def _read_full(pieces: Pieces) -> tuple[Tensor, Tensor, dict[str, Any]]:
    diff = pieces["w_norm" if "w_norm" in pieces else "diff"]
    return diff, torch.empty(0, dtype=diff.dtype), {}


def pieces_of(weights: Weights) -> dict[str, Tensor]:
    """Inverse of `weights_of`, without the alpha."""
    pieces = _WRITERS[weights.method](weights, weights.extra)
    bias = "b_norm" if "w_norm" in pieces else "diff_b"
    names = {"dora_scale": "dora_scale", "bias": bias}
    return pieces | {role: weights.extra[ours] for ours, role in names.items() if ours in weights.extra}


def _write_lora(weights: Weights, extra: Mapping[str, Any]) -> dict[str, Tensor]:
    return {"up": weights.up, "down": weights.down} | ({"mid": extra["mid"]} if "mid" in extra else {})


def _write_loha(weights: Weights, extra: Mapping[str, Any]) -> dict[str, Tensor]:
    pieces = {"hada_w1_b": weights.down, "hada_w2_b": extra["down2"]}
    if "mid" not in extra:
        return {**pieces, "hada_w1_a": weights.up, "hada_w2_a": extra["up2"]}
    outer = {"hada_w1_a": weights.up.T, "hada_w2_a": extra["up2"].T}
    return {**pieces, **outer, "hada_t1": extra["mid"], "hada_t2": extra["mid2"]}


def _write_lokr(weights: Weights, extra: Mapping[str, Any]) -> dict[str, Tensor]:
    first = {"lokr_w1_a": weights.up, "lokr_w1_b": extra["w1_b"]} if "w1_b" in extra else {"lokr_w1": weights.up}
    if "w2_a" not in extra:
        return {**first, "lokr_w2": weights.down}
    if "mid" not in extra:
        return {**first, "lokr_w2_a": extra["w2_a"], "lokr_w2_b": weights.down}
    return {**first, "lokr_w2_a": extra["w2_a"].T, "lokr_w2_b": weights.down, "lokr_t2": extra["mid"]}


def _write_full(weights: Weights, extra: Mapping[str, Any]) -> dict[str, Tensor]:
    return {"w_norm" if weights.up.ndim == 1 else "diff": weights.up}


_READERS = {"lora": _read_lora, "loha": _read_loha, "lokr": _read_lokr, "full": _read_full}
_WRITERS = {"lora": _write_lora, "loha": _write_loha, "lokr": _write_lokr, "full": _write_full}
