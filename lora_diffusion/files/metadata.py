"""What an adapter file says about itself: modelspec.*, the ss_* keys that programs show, and ours.

No time and no user name is ever added here: equal tensors and equal metadata give equal bytes.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.hashes import HASHES
from lora_diffusion.files.privacy import PROFILES, privacy_difference, redact, require_public

__all__ = ["PROFILES", "TRIGGER", "Row", "describe", "privacy_difference", "redact", "require_public", "table"]

TRIGGER = "modelspec.trigger_phrase"

_ARCHITECTURES = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2-512",
    "sdxl": "stable-diffusion-xl-v1-base",
}
# As the model specification asks: the code whose layout the keys follow.
_IMPLEMENTATIONS = {"sdxl": "https://github.com/Stability-AI/generative-models"}
_KOHYA_BASES = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}


def describe(modules: Mapping[str, Weights], *, name: str, family: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return `metadata` completed with what the tensors themselves say; facts replace older statements."""
    alphas = {weights.alpha for weights in modules.values()}
    ranks = Counter(weights.rank for weights in modules.values())
    plain = all(weights.is_plain for weights in modules.values())
    prediction = metadata.get("modelspec.prediction_type", "")
    wanted = {
        "modelspec.title": name,
        "modelspec.implementation": _IMPLEMENTATIONS.get(family, "diffusers"),
        "ss_output_name": name,
        "ss_base_model_version": _KOHYA_BASES.get(family, family) + ("_v" if prediction.startswith("v") else ""),
    }
    facts = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{_architecture(family, prediction)}/lora",
        "ss_v2": str(family == "sd2"),
        "ss_network_module": "networks.lora" if plain else "lycoris.kohya",
        "ss_network_dim": str(max(ranks, default=0)) if len(ranks) < 2 else "Dynamic",
        "ss_network_alpha": _number(alphas.pop()) if len(alphas) == 1 else "Dynamic",
        "ss_network_args": json.dumps(_arguments(modules), sort_keys=True),
        "lora_diffusion.family": family,
        "lora_diffusion.version": _version(),
    }
    return {**wanted, **metadata, **facts}


def _architecture(family: str, prediction: str) -> str:
    if family == "sd2" and prediction.startswith("v"):
        return "stable-diffusion-v2-768-v"
    return _ARCHITECTURES.get(family, family)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _arguments(modules: Mapping[str, Weights]) -> dict[str, str]:
    """Return what sd-scripts and LyCORIS would have been told: the rank of kernels, the method, what it is made of."""
    ranks = {weights.rank for weights in modules.values() if len(weights.shape) == 4 and weights.shape[2:] != (1, 1)}
    methods = Counter(weights.method for weights in modules.values())
    extra = {role for weights in modules.values() for role in weights.extra}
    plain = not extra and set(methods) <= {"lora"}
    algo = next((name for name, _ in methods.most_common(1)), "lora")
    return {
        **({"conv_dim": str(max(ranks))} if ranks else {}),
        **({} if plain else {"algo": "locon" if algo == "lora" else algo}),
        **({"dora_wd": "True"} if "dora_scale" in extra else {}),
        **({"use_tucker": "True"} if "mid" in extra else {}),
    }


def _version() -> str:
    try:
        return version("lora-diffusion")
    except PackageNotFoundError:  # run from a source folder that was never installed
        return "0"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One statement of a file, to be shown."""

    group: str
    key: str
    value: str


_GROUPS = (("modelspec.", "Model"), ("ss_", "Training"), ("sshs_", "Hashes"), ("lora_diffusion.", "lora-diffusion"))
_LONG = 200


def table(metadata: Mapping[str, str]) -> tuple[Row, ...]:
    """Return metadata as rows, by group and key, without the prefix of the group; long values are cut."""
    rows = []
    for key, value in metadata.items():
        start, group = next((each for each in _GROUPS if key.startswith(each[0])), ("", "Other"))
        if key in HASHES:
            start, group = "", "Hashes"
        shown = value if len(value) <= _LONG else f"{value[:_LONG]}... ({len(value)} letters)"
        rows.append(Row(group=group, key=key.removeprefix(start), value=shown))
    order = [*dict.fromkeys(name for _, name in _GROUPS), "Other"]
    return tuple(sorted(rows, key=lambda row: (order.index(row.group), row.key)))
