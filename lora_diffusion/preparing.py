"""Prepare a folder for training: a manifest of its pictures, and with a base model everything encoded."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from datasets_tools.captioners import captioner as captioner_named
from datasets_tools.editing import write_captions
from datasets_tools.journal import Journal
from datasets_tools.prepare import Prepared, prepare_folder
from lora_diffusion.checking import folder_plan
from lora_diffusion.embedded import picture_folder
from lora_diffusion.training.asking import FOLDER_GEOMETRY, data_settings, folder_rule, journal_path
from lora_diffusion.training.events import OnEvent, Scanned, ignore

__all__ = ["prepare_source"]


def prepare_source(
    folder: str,
    overrides: Sequence[str] = (),
    *,
    captioner: str = "",
    when: str = "",
    today: date | None = None,
    on_event: OnEvent = ignore,
) -> Prepared:
    """Scan a folder and write its manifest.

    `overrides` are `key=value` of a plan's data section, or `section.key=value` of any.
    With a captioner pictures without a caption first get one in a text file beside them, which `caption undo` takes
    back; `when` is the time for that history. What was seen of a picture is kept in the cache's scan journal, so a
    second call decodes only what changed and an interrupted one goes on where it was. With `base.path` pictures and
    captions are encoded into the cache where training will find them. Raises NoImages, PlanError and what reading a
    base model raises.
    """
    plan = folder_plan(folder, overrides)
    rule = folder_rule(plan, FOLDER_GEOMETRY)
    if plan.base.path:
        from lora_diffusion.families import detect, locate

        path = locate(plan.base.path)
        rule = folder_rule(plan, detect(path, plan.base.family).geometry(path))
    pictures = picture_folder(plan.data.folder)
    if captioner:
        write_captions(pictures, captioner_named(captioner), when=when)
    done = prepare_folder(
        pictures,
        data_settings(plan, rule),
        today=today,
        journal=Journal(journal_path(plan)),
        on_progress=lambda at, total: on_event(Scanned(done=at, total=total)),
    )
    if not plan.base.path:
        return done
    from lora_diffusion.training.encode import fill_cache

    return replace(done, encoded=fill_cache(plan, today=today, on_event=on_event))
