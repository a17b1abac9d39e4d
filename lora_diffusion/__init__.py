"""Train, blend, merge and share style adapters of diffusion models.

The public names, loaded when they are first asked for: importing this package loads neither torch nor diffusers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_diffusion.blocks import PresetBars as PresetBars
    from lora_diffusion.blocks import preset_bars as preset_bars
    from lora_diffusion.blocks import preset_names as preset_names
    from lora_diffusion.card import Card as Card
    from lora_diffusion.checking import check_source as check_source
    from lora_diffusion.choosing import evaluate_run as evaluate_run
    from lora_diffusion.conflicts import ConflictReport as ConflictReport
    from lora_diffusion.conflicts import conflict as conflict
    from lora_diffusion.conflicts import plot_conflict as plot_conflict
    from lora_diffusion.embedded import picture_folder as picture_folder
    from lora_diffusion.embedded import style_names as style_names
    from lora_diffusion.errors import LoraDiffusionError as LoraDiffusionError
    from lora_diffusion.errors import UsageError as UsageError
    from lora_diffusion.evaluation.choice import Choice as Choice
    from lora_diffusion.evaluation.evaluating import evaluate as evaluate
    from lora_diffusion.evaluation.evaluation import Evaluation as Evaluation
    from lora_diffusion.exporting import Exported as Exported
    from lora_diffusion.exporting import blend_to_file as blend_to_file
    from lora_diffusion.exporting import export as export
    from lora_diffusion.extracting import Extracted as Extracted
    from lora_diffusion.extracting import extract as extract
    from lora_diffusion.files.adapter import Adapter as Adapter
    from lora_diffusion.files.adapter import read_adapter as read_adapter
    from lora_diffusion.files.adapter import write_adapter as write_adapter
    from lora_diffusion.files.fix import fix_adapter as fix_adapter
    from lora_diffusion.files.inspect import Inspection as Inspection
    from lora_diffusion.files.inspect import inspect_adapter as inspect_adapter
    from lora_diffusion.files.plot import plot_norms as plot_norms
    from lora_diffusion.generation.blend import Blend as Blend
    from lora_diffusion.generation.blend import Blended as Blended
    from lora_diffusion.generation.blend import blend as blend
    from lora_diffusion.generation.blend import collapse as collapse
    from lora_diffusion.generation.blend import truncate as truncate
    from lora_diffusion.generation.generator import Generator as Generator
    from lora_diffusion.generation.picture import Picture as Picture
    from lora_diffusion.generation.picture import Settings as Settings
    from lora_diffusion.generation.picture import read_settings as read_settings
    from lora_diffusion.generation.prompt_text import LoraTag as LoraTag
    from lora_diffusion.generation.prompt_text import join_prompt as join_prompt
    from lora_diffusion.generation.prompt_text import split_prompt as split_prompt
    from lora_diffusion.generation.reuse import Reusable as Reusable
    from lora_diffusion.generation.reuse import reusable_settings as reusable_settings
    from lora_diffusion.generation.samplers import Sampler as Sampler
    from lora_diffusion.generation.samplers import samplers as samplers
    from lora_diffusion.generation.schedule import Schedule as Schedule
    from lora_diffusion.generation.schedule import parse_schedule as parse_schedule
    from lora_diffusion.library import Comment as Comment
    from lora_diffusion.library import Comparison as Comparison
    from lora_diffusion.library import Details as Details
    from lora_diffusion.library import Event as Event
    from lora_diffusion.library import Fault as Fault
    from lora_diffusion.library import Library as Library
    from lora_diffusion.library import LibraryPicture as LibraryPicture
    from lora_diffusion.library import Lineage as Lineage
    from lora_diffusion.library import NewSample as NewSample
    from lora_diffusion.library import Package as Package
    from lora_diffusion.library import Sample as Sample
    from lora_diffusion.library import Uses as Uses
    from lora_diffusion.library import Version as Version
    from lora_diffusion.library import Withdrawal as Withdrawal
    from lora_diffusion.library import lineage_of_run as lineage_of_run
    from lora_diffusion.library import require_name as require_name
    from lora_diffusion.merging import Merged as Merged
    from lora_diffusion.merging import merge as merge
    from lora_diffusion.parts import PartSpec as PartSpec
    from lora_diffusion.parts import parse_part as parse_part
    from lora_diffusion.preparing import prepare_source as prepare_source
    from lora_diffusion.resizing import Resized as Resized
    from lora_diffusion.resizing import resize as resize
    from lora_diffusion.settings import from_text as from_text
    from lora_diffusion.settings import from_toml as from_toml
    from lora_diffusion.settings import to_toml as to_toml
    from lora_diffusion.training.candidates import kept_adapters as kept_adapters
    from lora_diffusion.training.loop import Trained as Trained
    from lora_diffusion.training.loop import resume as resume
    from lora_diffusion.training.loop import train as train
    from lora_diffusion.training.plan import TrainPlan as TrainPlan
    from lora_diffusion.training.presets import suggest_plan as suggest_plan

_HOMES = {
    "Adapter": "files.adapter",
    "Blend": "generation.blend",
    "Blended": "generation.blend",
    "Card": "card",
    "Choice": "evaluation.choice",
    "Comment": "library",
    "Comparison": "library",
    "ConflictReport": "conflicts",
    "Details": "library",
    "Event": "library",
    "Evaluation": "evaluation.evaluation",
    "Exported": "exporting",
    "Extracted": "extracting",
    "Fault": "library",
    "Generator": "generation.generator",
    "Inspection": "files.inspect",
    "Library": "library",
    "LibraryPicture": "library",
    "Lineage": "library",
    "LoraDiffusionError": "errors",
    "LoraTag": "generation.prompt_text",
    "Merged": "merging",
    "NewSample": "library",
    "Package": "library",
    "PartSpec": "parts",
    "Picture": "generation.picture",
    "PresetBars": "blocks",
    "Resized": "resizing",
    "Reusable": "generation.reuse",
    "Sample": "library",
    "Sampler": "generation.samplers",
    "Schedule": "generation.schedule",
    "Settings": "generation.picture",
    "TrainPlan": "training.plan",
    "Trained": "training.loop",
    "UsageError": "errors",
    "Uses": "library",
    "Version": "library",
    "Withdrawal": "library",
    "blend": "generation.blend",
    "blend_to_file": "exporting",
    "check_source": "checking",
    "collapse": "generation.blend",
    "conflict": "conflicts",
    "evaluate": "evaluation.evaluating",
    "evaluate_run": "choosing",
    "kept_adapters": "training.candidates",
    "export": "exporting",
    "extract": "extracting",
    "fix_adapter": "files.fix",
    "from_text": "settings",
    "from_toml": "settings",
    "inspect_adapter": "files.inspect",
    "join_prompt": "generation.prompt_text",
    "lineage_of_run": "library",
    "merge": "merging",
    "parse_part": "parts",
    "parse_schedule": "generation.schedule",
    "picture_folder": "embedded",
    "plot_conflict": "conflicts",
    "plot_norms": "files.plot",
    "prepare_source": "preparing",
    "preset_bars": "blocks",
    "preset_names": "blocks",
    "read_adapter": "files.adapter",
    "read_settings": "generation.picture",
    "require_name": "library",
    "resize": "resizing",
    "resume": "training.loop",
    "reusable_settings": "generation.reuse",
    "samplers": "generation.samplers",
    "split_prompt": "generation.prompt_text",
    "style_names": "embedded",
    "suggest_plan": "training.presets",
    "to_toml": "settings",
    "train": "training.loop",
    "truncate": "generation.blend",
    "write_adapter": "files.adapter",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
