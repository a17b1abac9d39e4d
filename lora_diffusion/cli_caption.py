"""`lora-diffusion caption`: see, edit and write the captions of a folder. Edits are shown first and can be undone."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_diffusion.console import Json, answer, now, say

if TYPE_CHECKING:
    from datasets_tools.edit import Edit
    from datasets_tools.editing import AppliedEdits, Edited

__all__ = ["captions"]

captions = typer.Typer(
    help="See, edit and write captions. Edits are shown until --apply writes them; fill, exclude and include write.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(help="Folder of pictures.")]
Text = Annotated[str, typer.Argument()]
Files = Annotated[str, typer.Option("--files", help="Only pictures whose name matches, such as 'shoes/*'.")]
Apply = Annotated[bool, typer.Option("--apply", help="Write the change; without it the change is only shown.")]
Seed = Annotated[int, typer.Option("--seed", help="What chance depends on.", min=0)]
Keep = Annotated[int, typer.Option("--keep", help="So many first tags stay as they are.", min=0)]
Names = Annotated[list[str], typer.Argument(help="Pictures, relative to the folder.")]


@captions.command("list")
def show(folder: Folder, as_json: Json = False) -> None:
    """Print every picture with its caption and where it stands."""
    from datasets_tools.caption import find_captions
    from datasets_tools.listing import list_folder

    listing = list_folder(folder)
    found = find_captions(listing.folder, listing.pictures, listing.texts)
    texts = {file: found.by_image.get(file) for file in listing.pictures}
    rows = [
        {
            "file": file,
            "caption": caption.text if caption else "",
            "source": caption.source if caption else "",
            "excluded": file in found.excluded,
        }
        for file, caption in texts.items()
    ]
    lines = [f"{row['file']}: {row['caption'] or '(none)'}{' [excluded]' * bool(row['excluded'])}" for row in rows]
    answer({"captions": rows}, as_json, "\n".join(lines))


@captions.command()
def prepend(folder: Folder, text: Text, files: Files = "*", apply: Apply = False, as_json: Json = False) -> None:
    """Put a text before every caption."""
    from datasets_tools.edit import Prepend

    _edit(folder, Prepend(text=text), files, apply, as_json)


@captions.command()
def append(folder: Folder, text: Text, files: Files = "*", apply: Apply = False, as_json: Json = False) -> None:
    """Put a text behind every caption."""
    from datasets_tools.edit import Append

    _edit(folder, Append(text=text), files, apply, as_json)


@captions.command()
def replace(
    folder: Folder,
    old: Text,
    new: Text,
    regex: Annotated[bool, typer.Option("--regex", help="OLD is a regular expression.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Only whole words.")] = False,
    files: Files = "*",
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Replace a text by another in every caption."""
    from datasets_tools.edit import Replace

    _edit(folder, Replace(old=old, new=new, regex=regex, whole_words=words), files, apply, as_json)


@captions.command()
def remove(
    folder: Folder,
    text: Text,
    inside: Annotated[bool, typer.Option("--inside", help="Also inside longer tags.")] = False,
    files: Files = "*",
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Remove a tag from every caption."""
    from datasets_tools.edit import Remove

    _edit(folder, Remove(text=text, inside=inside), files, apply, as_json)


@captions.command()
def trigger(
    folder: Folder,
    word: Text,
    old: Annotated[str, typer.Option("--old", help="The trigger until now, which is replaced.")] = "",
    files: Files = "*",
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Put the trigger word first, once, or change it."""
    from datasets_tools.edit import Trigger

    _edit(folder, Trigger(trigger=word, old=old), files, apply, as_json)


@captions.command()
def shuffle(
    folder: Folder, keep: Keep = 1, seed: Seed = 0, files: Files = "*", apply: Apply = False, as_json: Json = False
) -> None:
    """Write the tags of every caption in another order."""
    from datasets_tools.edit import Shuffle

    _edit(folder, Shuffle(keep=keep), files, apply, as_json, seed=seed)


@captions.command()
def dropout(
    folder: Folder,
    share: Annotated[float, typer.Argument(help="Share of the tags to leave out.", min=0, max=1)],
    keep: Keep = 1,
    seed: Seed = 0,
    files: Files = "*",
    apply: Apply = False,
    as_json: Json = False,
) -> None:
    """Leave out a share of the tags by chance."""
    from datasets_tools.edit import Dropout

    _edit(folder, Dropout(probability=share, keep=keep), files, apply, as_json, seed=seed)


@captions.command()
def normalise(folder: Folder, files: Files = "*", apply: Apply = False, as_json: Json = False) -> None:
    """Write separators, spaces and underscores alike; drop tags that stand twice."""
    from datasets_tools.edit import Normalise

    _edit(folder, Normalise(), files, apply, as_json)


@captions.command()
def fill(
    folder: Folder,
    captioner: Annotated[str, typer.Argument(help="filename, folder, palette, blip:MODEL or wd-tagger:FOLDER.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also where a caption stands already.")] = False,
    files: Files = "*",
    as_json: Json = False,
) -> None:
    """Write a caption for every picture that has none."""
    from datasets_tools.captioners import captioner as captioner_named
    from datasets_tools.editing import write_captions
    from lora_diffusion.progress import Progress

    with Progress("caption") as progress:
        done = write_captions(
            folder,
            captioner_named(captioner),
            overwrite=overwrite,
            select=files,
            when=now(),
            on_progress=lambda at, total: progress.show("caption", at, total),
        )
    for file in done.skipped:
        say(f"no caption for {file}")
    _applied(done, as_json)


@captions.command()
def exclude(folder: Folder, names: Names, as_json: Json = False) -> None:
    """Leave pictures out of training, without moving them."""
    from datasets_tools.editing import exclude_pictures

    _applied(exclude_pictures(folder, names, when=now()), as_json)


@captions.command()
def include(folder: Folder, names: Names, as_json: Json = False) -> None:
    """Take excluded pictures in again."""
    from datasets_tools.editing import include_pictures

    _applied(include_pictures(folder, names, when=now()), as_json)


@captions.command()
def undo(folder: Folder, as_json: Json = False) -> None:
    """Take the last change back, to the very bytes."""
    from datasets_tools.editing import undo_edits

    entry = undo_edits(folder)
    answer(asdict(entry), as_json, f"undone: {', '.join(entry.what)} ({len(entry.files)} files)")


@captions.command()
def history(folder: Folder, as_json: Json = False) -> None:
    """Print every change of the captions."""
    from datasets_tools.editing import edit_history

    entries = edit_history(folder)
    lines = [
        f"{entry.number}  {entry.when}  {', '.join(entry.what)}: {len(entry.files)} files{' (undone)' * entry.undone}"
        for entry in entries
    ]
    answer({"history": [asdict(entry) for entry in entries]}, as_json, "\n".join(lines) or "no changes yet")


def _edit(folder: Path, edit: "Edit", files: str, apply: bool, as_json: bool, *, seed: int = 0) -> None:
    from datasets_tools.editing import apply_edits, preview_edits

    if apply:
        _applied(apply_edits(folder, [edit], seed=seed, select=files, when=now()), as_json)
        return
    changed = preview_edits(folder, [edit], seed=seed, select=files)
    answer({"applied": False, **_changes(changed)}, as_json, _told(changed))
    say(f"{len(changed)} captions would change; --apply writes them")


def _applied(done: "AppliedEdits", as_json: bool) -> None:
    entry = asdict(done.entry) if done.entry else None
    found = {"applied": True, "entry": entry, "skipped": list(done.skipped), **_changes(done.edited)}
    answer(found, as_json, _told(done.edited))
    files = len(done.entry.files) if done.entry else 0
    say(f"{files} files written" + ("; `caption undo` takes it back" if files else ""))


def _changes(changed: "tuple[Edited, ...]") -> dict[str, Any]:
    return {"changed": [asdict(one) for one in changed]}


def _told(changed: "tuple[Edited, ...]") -> str:
    lines = [f"{one.file}\n  - {one.before or '(none)'}\n  + {one.after or '(none)'}" for one in changed]
    return "\n".join(lines) or "nothing changes"
