"""Images and text for training: load, check, caption, bucket, batch and cache. Needs neither torch nor a GPU to answer.

    check_folder(folder, rule=BucketRule())    a Report: everything that would go wrong, before it does
    prepare(folder, rule=BucketRule())         the same data as a manifest.jsonl
    scan(folder)                               the manifest and findings in memory

What needs Pillow is loaded on first use, so that importing the package costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from datasets_tools.batches import Batch, Batches, plan_epoch, share
from datasets_tools.bucket import Bucket, BucketRule, Crop, bucket_for, crop_for
from datasets_tools.cache import TensorCache, cache_key
from datasets_tools.caption import Captioner, with_trigger
from datasets_tools.captioners import captioner, captioner_names
from datasets_tools.check import check_folder
from datasets_tools.errors import (
    DatasetError,
    InvalidManifest,
    InvalidSetting,
    NoImages,
    OutOfSpace,
    UnreadableCaption,
    UnreadableImage,
)
from datasets_tools.finding import Finding
from datasets_tools.health import Report
from datasets_tools.manifest import Manifest, Record, Rights, read_manifest
from datasets_tools.prepare import Prepared, Quarantined, prepare
from datasets_tools.report import write_report
from datasets_tools.scan import Scan, scan

if TYPE_CHECKING:
    from datasets_tools.image import Limits, load_image, read_size, render, to_pixels

__all__ = [
    "Batch",
    "Batches",
    "Bucket",
    "BucketRule",
    "Captioner",
    "Crop",
    "DatasetError",
    "Finding",
    "InvalidManifest",
    "InvalidSetting",
    "Limits",
    "Manifest",
    "NoImages",
    "OutOfSpace",
    "Prepared",
    "Quarantined",
    "Record",
    "Report",
    "Rights",
    "Scan",
    "TensorCache",
    "UnreadableCaption",
    "UnreadableImage",
    "bucket_for",
    "cache_key",
    "captioner",
    "captioner_names",
    "check_folder",
    "crop_for",
    "load_image",
    "plan_epoch",
    "prepare",
    "read_manifest",
    "read_size",
    "render",
    "scan",
    "share",
    "to_pixels",
    "with_trigger",
    "write_report",
]

_LATER = dict.fromkeys(("Limits", "load_image", "read_size", "render", "to_pixels"), "image")


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
