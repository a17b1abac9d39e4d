"""What an adapter file may say about its makers, by profile, and what gives them away.

public: only what a stranger needs; team: all but captions, folders and people; private: everything.
"""

import base64
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from lora_diffusion.errors import UsageError

__all__ = ["PROFILES", "Withheld", "find_private", "privacy_difference", "redact", "require_public"]

PROFILES = ("public", "team", "private")

_PUBLIC = re.compile(
    r"modelspec\.(sai_model_spec|architecture|implementation|title|description|license|usage_hint|tags|trigger_phrase"
    r"|prediction_type|resolution|timestep_range|encoder_layer|merged_from|author|date|implementation_version)"
    r"|ss_(v2|base_model_version|network_module|network_dim|network_alpha|network_args|output_name|clip_skip"
    r"|learning_rate|unet_lr|text_encoder_lr|optimizer|lr_scheduler|lr_warmup_steps|steps|max_train_steps|epoch"
    r"|num_epochs|seed|num_train_images|num_reg_images|batch_size_per_device|total_batch_size|resolution"
    r"|mixed_precision|min_snr_gamma|noise_offset|loss_type|gradient_accumulation_steps|enable_bucket|caption_dropout_rate"
    r"|sd_model_name|sd_model_hash|new_sd_model_hash)"
    r"|lora_diffusion\.(family|version|method|blend|base)|format"
)
# Keys of sd-scripts and ours whose whole point is captions, folders or people.
_PERSONAL = re.compile(
    r"ss_(datasets|dataset_dirs|reg_dataset_dirs|bucket_info|training_comment|session_id|wandb_.*)"
    r"|(.*_)?(owner|machine|tag_frequency|workflow|logging_dir|log_dir|output_dir|run_name)"
    r"|.*(caption(?!_dropout)|prompt|folder|directory|path|user|e_?mail|host|thumbnail).*",
    re.IGNORECASE,
)

_START = r"(?:^|(?<=[\s\"'=:(\[,;>]))"
_ENDINGS = "safetensors|ckpt|pth?|bin|png|jpe?g|webp|gif|bmp|tiff?|txt|caption|json|jsonl|toml|ya?ml|csv|zip|py|sh|log"
# No pattern may start inside a run that it would scan to the end: that is quadratic, and values come from anyone.
_GIVES_AWAY = (
    ("a path", rf"{_START}/[\w.-]{{2,}}(?:/[\w.+@ -]+)+"),  # /home/ann/x, not 16/9 nor a lone /lora
    ("a path", rf"{_START}/(?:home|Users|root|mnt|media|tmp|workspace|Volumes|srv|var|opt)\b"),
    ("a path", rf"{_START}(?:~\w*|\.{{1,2}}|\$\{{?[A-Z_]+\}}?|%[A-Za-z_]+%)[\\/][\w.-]"),  # ~/x, ./x, $HOME/x
    ("a path", r"(?<![A-Za-z])[A-Za-z]:(?:\\|/(?!/))[\w.\\/-]"),  # C:\x and C:/x, not https://
    ("a path", rf"{_START}\\\\\w"),  # \\server
    ("a path", r"(?:^|(?<=[\s\"'=(\[,;>]))//[\w.-]+/[\w.-]"),  # //server/share
    ("a path", r"\bfile:/"),
    ("a path", r"\b(?:Users|home|Documents|Desktop|Downloads|OneDrive(?: - \w[\w .-]{0,40})?)[\\/]\w"),
    ("a path", rf"(?<![\w./:-])(?:[\w.-]+[\\/])+[\w .-]+\.(?:{_ENDINGS})\b(?!/)"),  # img/10_ann/a.png, not a bare name
    ("a path", r"\w\\\w[\w-]*\\"),
    ("a place in a store", r"(?<![a-z0-9])(?:s3|s3a|gs|gcs|az|abfss?|wasbs?|hdfs|smb|nfs|afp|sftp|ssh|scp)://\S"),
    ("a place in a store", r"\bwandb\.ai/\w"),
    ("a login", r"\b(?:ssh|scp|sftp|rsync)\s+(?:-\w+\s+(?:\d+\s+)?){0,4}[a-z_][\w-]*@\w"),
    ("a login", r"(?<![\w-])[a-z_][\w-]*@[A-Za-z][\w-]*:"),  # ann@gpu-box:
    ("a URL with credentials", r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://[^\s/@]+@"),
    (
        "a URL with credentials",
        r"[?&#](?:access_?|auth_?|api_?)?(?:token|key|secret|password|passwd|signature|sig|x-amz-\w+)=[^\s&]",
    ),
    ("an e-mail address", r"(?<![\w.%+-])[\w.%+-]+@[^\W\d_][\w-]*(?:\.[\w-]+)+"),
    ("an e-mail address", r"(?<![\w.%+-])[\w.%+-]+ ?[\[({] ?at ?[\])}] ?[^\W\d_]"),  # ann(at)example.com
    ("a secret", r"\b(?:hf_[A-Za-z0-9]{8,}|AKIA[A-Z0-9]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,})"),
    (
        "a secret",
        r"\b(?:glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{10,}|github_pat_\w{16,}|AIza[\w-]{30,}|npm_[A-Za-z0-9]{30,})",
    ),
    ("a secret", r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}"),  # a JSON web token: two objects in base64
    (
        "an address of a private network",  # RFC 1918 and 3927, and not the number of a version
        r"(?<![\w.])(?<!version )(?<!release )(?:(?:10|127)\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01])|169\.254)"
        r"(?:\.\d{1,3}){2}(?!\.?\w)",
    ),
    ("a phone number", r"(?<![\w+.])(?:\+|00)[1-9]\d{0,2}(?:[ ()/-]{1,2}\d{2,8}){1,3}[ ()/-]{1,2}\d{3,8}(?![\w.])"),
    ("an address of a private network", r"//[\w.-]+\.(?:local|lan|internal|intranet|corp|home)\b|\bfe80::"),
    ("a phone number", r"(?<![\w+.])\+[1-9]\d{8,14}(?![\w.])"),
    ("a secret", r"(?:\b|_)(?:bearer\s+[\w.-]{8,}|(?:password|passwd|api[_ -]?key|secret)\s*[=:]\s*\S)"),
    ("a user name", r"\b(?:user(?:[_ -]?name)?|login|hostname|logged in as|trained by user)[\"']?\s*[=:]\s*[\"']?\w"),
    ("a user name", r"\buid=\d+|\btrained by user\s+\w|\b(?:DESKTOP|LAPTOP)-[A-Z0-9]{7}\b"),
    ("captions", r"[\"']?(?:captions?|tag_frequency|txt)[\"']?\s*[=:]\s*[\"'{\[]?\w"),
    ("captions", r"\{\s*\"[^\"{}]*\"\s*:\s*\{\s*\"[^\"{}]*\"\s*:\s*\d+"),  # {"10_ann": {"ann smiling": 3
    ("captions", r"\b\d?(?:girl|boy)s?\s*,\s*(?:solo|looking at viewer)\b"),
    (
        "captions",
        r"\b\d{1,3}_[A-Za-z]\w{0,40}\s[\w ]{0,40}\b(?:girl|boy|man|woman|person|style)\b",
    ),  # folder 10_ann woman
)
_RULES = tuple((what, re.compile(pattern, re.IGNORECASE)) for what, pattern in _GIVES_AWAY)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}")
_LISTS = ("modelspec.tags", "modelspec.merged_from")
_LONG_LIST = 8
_MAX_VALUE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Withheld:
    """A key of the metadata that a profile leaves out, and why; `value` is shortened to be shown."""

    key: str
    value: str
    reason: str


def find_private(text: str, *, names: Collection[str] = ()) -> str:
    """Return what a text gives away, "a path" or "an e-mail address", or nothing; `names` are people and machines.

    Model names with a slash, ratios, fractions and plain URLs are no paths.
    """
    if len(text) > _MAX_VALUE:
        return f"more than {_MAX_VALUE} letters, which nobody reads through"
    text = _plain(text)
    for what, pattern in _RULES:
        if pattern.search(text):
            return what
    if any(find_private(hidden) for hidden in _decoded(text)):
        return "something in base64"
    for name in names:
        if name and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE):
            return "a user name"
    return ""


def _decoded(text: str) -> Iterator[str]:
    """Yield what stands in base64; a run of letters that decodes to no text is something else."""
    for run in _BASE64.findall(text):
        try:
            yield base64.b64decode(run + "=" * (-len(run) % 4), altchars=b"-_").decode()
        except ValueError:
            continue


def _plain(text: str) -> str:
    """Return a text as a reader sees it: full-width letters are letters (NFKC), marks without a width are nothing."""
    whole = unicodedata.normalize("NFKC", text)
    return "".join(each for each in whole if unicodedata.category(each) != "Cf")


def privacy_difference(
    metadata: Mapping[str, str], profile: str, *, names: Collection[str] = ()
) -> tuple[Withheld, ...]:
    """Return what a profile would leave out of a file, key by key. Raises UsageError for an unknown profile."""
    if profile not in PROFILES:
        raise UsageError(f"unknown privacy profile {profile!r}", hint=f"use one of {', '.join(PROFILES)}")
    if profile == "private":
        return ()
    reasons = {key: _reason(key, value, profile, names) for key, value in sorted(metadata.items())}
    return tuple(Withheld(key=key, value=_short(metadata[key]), reason=why) for key, why in reasons.items() if why)


def redact(metadata: Mapping[str, str], profile: str, *, names: Collection[str] = ()) -> dict[str, str]:
    """Return what a privacy profile lets through. Raises UsageError for an unknown profile.

    "public" keeps a list of known harmless keys and drops any value that gives someone away; "team" drops captions,
    folders, paths and user names, and keeps the rest; "private" keeps everything.
    """
    withheld = {each.key for each in privacy_difference(metadata, profile, names=names)}
    return {key: value for key, value in metadata.items() if key not in withheld}


def require_public(metadata: Mapping[str, str], *, names: Collection[str] = ()) -> None:
    """Raise UsageError naming the first key of a public file that gives someone away."""
    if withheld := privacy_difference(metadata, "public", names=names):
        first = withheld[0]
        raise UsageError(
            f"{first.key} may not stand in a public file: {first.reason} ({first.value!r})",
            hint="leave it out or reword it, or share the file with --privacy team",
        )


def _reason(key: str, value: str, profile: str, names: Collection[str]) -> str:
    if _PERSONAL.fullmatch(key):
        return "says captions, folders or people"
    if profile == "public" and not _PUBLIC.fullmatch(key):
        return "is not on the list of what strangers need"
    found = find_private(value, names=names)
    if not found and profile == "public" and key not in _LISTS and _is_tag_list(value):
        found = "captions"
    return f"holds {found}" if found else ""


def _is_tag_list(value: str) -> bool:
    """Say whether a text reads like the tags of a picture: many short items and no sentence."""
    items = [item.strip() for item in value.split(",")]
    short = [item for item in items if 0 < len(item.split()) <= 3 and not item.endswith(".")]
    return len(items) >= _LONG_LIST and len(short) == len(items) and not value.lstrip().startswith(("{", "["))


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:57]}..."
