"""Images and text for training: load, check, caption, bucket, batch and cache. Needs neither torch nor a GPU to answer.

    check_folder(folder, DataSettings())    a Report: everything that would go wrong, before it does
    prepare_folder(folder, DataSettings())  the same data as a manifest.jsonl
    scan_folder(folder)                     the manifest and findings in memory

A name is loaded on first use, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets_tools.batches import Batch as Batch
    from datasets_tools.batches import Batches as Batches
    from datasets_tools.batches import plan_epoch as plan_epoch
    from datasets_tools.batches import share as share
    from datasets_tools.bucket import Bucket as Bucket
    from datasets_tools.bucket import BucketRule as BucketRule
    from datasets_tools.bucket import Crop as Crop
    from datasets_tools.bucket import bucket_for as bucket_for
    from datasets_tools.bucket import buckets_for as buckets_for
    from datasets_tools.bucket import crop_for as crop_for
    from datasets_tools.cache import TensorCache as TensorCache
    from datasets_tools.cache import cache_key as cache_key
    from datasets_tools.caption import Captioner as Captioner
    from datasets_tools.caption import with_trigger as with_trigger
    from datasets_tools.captioners import captioner as captioner
    from datasets_tools.captioners import captioner_names as captioner_names
    from datasets_tools.check import DataSettings as DataSettings
    from datasets_tools.check import check_folder as check_folder
    from datasets_tools.describing import Described as Described
    from datasets_tools.describing import describe_pictures as describe_pictures
    from datasets_tools.edit import Edit as Edit
    from datasets_tools.edit_by_name import edit_named as edit_named
    from datasets_tools.editing import apply_edits as apply_edits
    from datasets_tools.editing import edit_history as edit_history
    from datasets_tools.editing import exclude_pictures as exclude_pictures
    from datasets_tools.editing import include_pictures as include_pictures
    from datasets_tools.editing import preview_edits as preview_edits
    from datasets_tools.editing import undo_edits as undo_edits
    from datasets_tools.editing import write_captions as write_captions
    from datasets_tools.errors import DatasetError as DatasetError
    from datasets_tools.errors import InvalidManifest as InvalidManifest
    from datasets_tools.errors import InvalidSetting as InvalidSetting
    from datasets_tools.errors import NoImages as NoImages
    from datasets_tools.errors import OutOfSpace as OutOfSpace
    from datasets_tools.errors import UnreadableCaption as UnreadableCaption
    from datasets_tools.errors import UnreadableImage as UnreadableImage
    from datasets_tools.finding import Finding as Finding
    from datasets_tools.health import BucketRow as BucketRow
    from datasets_tools.health import Change as Change
    from datasets_tools.health import Counts as Counts
    from datasets_tools.health import Report as Report
    from datasets_tools.health import title_of as title_of
    from datasets_tools.image import Limits as Limits
    from datasets_tools.image import load_image as load_image
    from datasets_tools.image import read_size as read_size
    from datasets_tools.image import render as render
    from datasets_tools.image import to_pixels as to_pixels
    from datasets_tools.journal import Journal as Journal
    from datasets_tools.manifest import Manifest as Manifest
    from datasets_tools.manifest import Record as Record
    from datasets_tools.manifest import Rights as Rights
    from datasets_tools.manifest import read_manifest as read_manifest
    from datasets_tools.prepare import Prepared as Prepared
    from datasets_tools.prepare import Quarantined as Quarantined
    from datasets_tools.prepare import prepare_folder as prepare_folder
    from datasets_tools.report import write_report as write_report
    from datasets_tools.rights_editing import StatedRights as StatedRights
    from datasets_tools.rights_editing import set_rights as set_rights
    from datasets_tools.scan import Scan as Scan
    from datasets_tools.scan import scan_folder as scan_folder
    from datasets_tools.selective import OnlyFor as OnlyFor
    from datasets_tools.selective import Rewrite as Rewrite
    from datasets_tools.selective import set_captions as set_captions
    from datasets_tools.storage import free_bytes as free_bytes
    from datasets_tools.storage import replacing as replacing
    from datasets_tools.storage import replacing_folder as replacing_folder
    from datasets_tools.storage import sha256_file as sha256_file
    from datasets_tools.storage import write_bytes as write_bytes
    from datasets_tools.storage import write_json as write_json
    from datasets_tools.storage import write_text as write_text
    from datasets_tools.summary import summarise as summarise
    from datasets_tools.text import decode_text as decode_text
    from datasets_tools.text import tidy as tidy

_HOMES = {
    "Batch": "batches",
    "Batches": "batches",
    "Bucket": "bucket",
    "BucketRow": "health",
    "BucketRule": "bucket",
    "Captioner": "caption",
    "Change": "health",
    "Counts": "health",
    "Crop": "bucket",
    "DataSettings": "check",
    "DatasetError": "errors",
    "Described": "describing",
    "Edit": "edit",
    "Finding": "finding",
    "InvalidManifest": "errors",
    "InvalidSetting": "errors",
    "Journal": "journal",
    "Limits": "image",
    "Manifest": "manifest",
    "NoImages": "errors",
    "OnlyFor": "selective",
    "OutOfSpace": "errors",
    "Prepared": "prepare",
    "Quarantined": "prepare",
    "Record": "manifest",
    "Report": "health",
    "Rewrite": "selective",
    "Rights": "manifest",
    "Scan": "scan",
    "StatedRights": "rights_editing",
    "TensorCache": "cache",
    "UnreadableCaption": "errors",
    "UnreadableImage": "errors",
    "apply_edits": "editing",
    "bucket_for": "bucket",
    "buckets_for": "bucket",
    "cache_key": "cache",
    "captioner": "captioners",
    "captioner_names": "captioners",
    "check_folder": "check",
    "crop_for": "bucket",
    "decode_text": "text",
    "describe_pictures": "describing",
    "edit_history": "editing",
    "edit_named": "edit_by_name",
    "exclude_pictures": "editing",
    "free_bytes": "storage",
    "include_pictures": "editing",
    "load_image": "image",
    "plan_epoch": "batches",
    "prepare_folder": "prepare",
    "preview_edits": "editing",
    "read_manifest": "manifest",
    "read_size": "image",
    "render": "image",
    "replacing": "storage",
    "replacing_folder": "storage",
    "scan_folder": "scan",
    "set_captions": "selective",
    "set_rights": "rights_editing",
    "sha256_file": "storage",
    "share": "batches",
    "summarise": "summary",
    "tidy": "text",
    "title_of": "health",
    "to_pixels": "image",
    "undo_edits": "editing",
    "with_trigger": "caption",
    "write_bytes": "storage",
    "write_captions": "editing",
    "write_json": "storage",
    "write_report": "report",
    "write_text": "storage",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
