"""What an adapter file says about itself: modelspec.*, the ss_* keys that programs show, and ours.

No time and no user name is ever added here: equal tensors and equal metadata give equal bytes.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError

__all__ = ["PROFILES", "TRIGGER", "describe", "redact"]

TRIGGER = "modelspec.trigger_phrase"

PROFILES = ("public", "team", "private")
"""public: only what a stranger needs; team: all but captions, paths and user names; private: everything."""

_ARCHITECTURES = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2-512",
    "sdxl": "stable-diffusion-xl-v1-base",
}
_KOHYA_BASES = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
_PUBLIC = re.compile(
    r"modelspec\.(sai_model_spec|architecture|implementation|title|description|license|usage_hint|tags|trigger_phrase"
    r"|prediction_type|resolution|timestep_range|encoder_layer|merged_from|author)"
    r"|ss_(v2|base_model_version|network_module|network_dim|network_alpha|network_args|output_name|clip_skip"
    r"|learning_rate|unet_lr|text_encoder_lr|optimizer|lr_scheduler|steps|max_train_steps|epoch|num_epochs|seed"
    r"|num_train_images|total_batch_size|resolution|mixed_precision|min_snr_gamma|noise_offset|loss_type)"
    r"|lora_diffusion\.(family|version|method|blend|base)|format"
)
# Keys of sd-scripts and ours whose whole point is captions, folders or people.
_PERSONAL = re.compile(
    r"ss_(tag_frequency|datasets|dataset_dirs|reg_dataset_dirs|bucket_info|training_comment|session_id)"
    r"|.*(caption|prompt|folder|directory|path|user|e_?mail|host).*",
    re.IGNORECASE,
)
_GIVES_AWAY = re.compile(
    r"(^|[\s\"'=:(\[])(/|~/|[A-Za-z]:[\\/]|\\\\|file:)[\w.~-]"  # /home/ann, C:\Users, \\server, file:
    r"|[\w.+-]+@[\w-]+\.[\w.]+"  # an e-mail address
    r"|\b(Users|home|mnt|Documents|Desktop)[\\/]",
)


def describe(modules: Mapping[str, Weights], *, name: str, family: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return `metadata` completed with what the tensors themselves say; facts replace older statements."""
    alphas = {weights.alpha for weights in modules.values()}
    ranks = Counter(weights.rank for weights in modules.values())
    plain = all(weights.is_plain for weights in modules.values())
    prediction = metadata.get("modelspec.prediction_type", "")
    wanted = {
        "modelspec.title": name,
        "modelspec.implementation": "diffusers",
        "ss_output_name": name,
        "ss_base_model_version": _KOHYA_BASES.get(family, family) + ("_v" if prediction.startswith("v") else ""),
    }
    facts = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{_ARCHITECTURES.get(family, family)}/lora",
        "ss_v2": str(family == "sd2"),
        "ss_network_module": "networks.lora" if plain else "lycoris.kohya",
        "ss_network_dim": str(max(ranks, default=0)) if len(ranks) < 2 else "Dynamic",
        "ss_network_alpha": _number(alphas.pop()) if len(alphas) == 1 else "Dynamic",
        "ss_network_args": json.dumps(_arguments(modules), sort_keys=True),
        "lora_diffusion.family": family,
        "lora_diffusion.version": _version(),
    }
    return {**wanted, **metadata, **facts}


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _arguments(modules: Mapping[str, Weights]) -> dict[str, str]:
    """Return what sd-scripts and LyCORIS would have been told: the rank of kernels, the method, what it is made of."""
    ranks = {weights.rank for weights in modules.values() if len(weights.shape) == 4 and weights.shape[2:] != (1, 1)}
    methods = Counter(weights.method for weights in modules.values())
    extra = {role for weights in modules.values() for role in weights.extra}
    plain = not extra and set(methods) == {"lora"}
    algo = {"lora": "locon"}.get(methods.most_common(1)[0][0], methods.most_common(1)[0][0])
    return {
        **({"conv_dim": str(max(ranks))} if ranks else {}),
        **({} if plain else {"algo": algo}),
        **({"dora_wd": "True"} if "dora_scale" in extra else {}),
        **({"use_tucker": "True"} if "mid" in extra else {}),
    }


def _version() -> str:
    try:
        return version("lora-diffusion")
    except PackageNotFoundError:  # run from a source folder that was never installed
        return "0"


def redact(metadata: Mapping[str, str], privacy: str) -> dict[str, str]:
    """Return what a privacy profile lets through. Raises UsageError for an unknown profile.

    "public" keeps a list of known harmless keys and drops any value that contains a path or an e-mail address; "team"
    drops captions, folders, paths and user names, and keeps the rest; "private" keeps everything.
    """
    if privacy not in PROFILES:
        raise UsageError(f"unknown privacy profile {privacy!r}", hint=f"use one of {', '.join(PROFILES)}")
    if privacy == "private":
        return dict(metadata)
    kept = {key: value for key, value in metadata.items() if not _GIVES_AWAY.search(value)}
    if privacy == "team":
        return {key: value for key, value in kept.items() if not _PERSONAL.fullmatch(key)}
    return {key: value for key, value in kept.items() if _PUBLIC.fullmatch(key)}
