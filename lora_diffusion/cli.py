"""The verbs on the command line. Each function reads its options and calls the public function of the same name.

Results go to stdout, with --json as exactly one JSON object; progress and errors go to stderr.
"""

import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_diffusion.cli_caption import captions
from lora_diffusion.cli_evaluate import evaluate
from lora_diffusion.cli_files import VERBS, Out
from lora_diffusion.cli_generate import generate, serve
from lora_diffusion.cli_home import Home, withdrawn_in
from lora_diffusion.cli_library import library
from lora_diffusion.cli_plan import plan
from lora_diffusion.cli_rights import rights
from lora_diffusion.cli_ui import bases, studio_app, ui, users_app
from lora_diffusion.console import Json, answer, now, say
from lora_diffusion.errors import LoraDiffusionError, UsageError

if TYPE_CHECKING:
    pass

__all__ = ["app", "run"]

app = typer.Typer(
    help="Train, blend, merge and share style adapters of diffusion models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(captions, name="caption")
app.add_typer(library, name="library")
app.add_typer(rights, name="rights")
app.add_typer(users_app, name="user")
app.add_typer(studio_app, name="studio")

Overrides = Annotated[list[str] | None, typer.Argument(help="section.key=value, which win over the plan.")]


@app.command()
def demo(out: Out = Path("demo-output"), as_json: Json = False) -> None:
    """Do the whole job on the embedded base model: check, train, generate, blend, merge, export."""
    from lora_diffusion.demo.main import run_demo

    result = run_demo(out, say=say)
    answer(result.to_dict(), as_json, result.summary())


@app.command()
def check(
    source: Annotated[str, typer.Argument(help="Folder of pictures, or a plan.", metavar="FOLDER_OR_PLAN")],
    overrides: Overrides = None,
    report: Annotated[Path | None, typer.Option("--report", help="Also write the findings as one HTML page.")] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Train a few steps of a plan to measure time and memory.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Find what would fail or spoil a training, before it starts. Exit 1 where something blocks."""
    from datetime import date

    from datasets_tools.report import write_report
    from datasets_tools.storage import require_writable
    from datasets_tools.summary import summarise
    from lora_diffusion.checking import check_source
    from lora_diffusion.progress import Progress

    if report:
        require_writable(report)  # before minutes of checking, whose findings would be lost
    with Progress("check") as progress:
        found = check_source(
            source,
            overrides or [],
            probe=probe,
            today=date.today(),
            on_progress=lambda done, total: progress.show("check: looking at pictures", done, total),
        )
        if report:
            write_report(found, report, on_progress=lambda done, total: progress.show("report", done, total))
    if as_json:
        sys.stdout.writelines(found.json_parts())  # in pieces: the findings on 100,000 pictures are 60 MB of text
        sys.stdout.write("\n")
    else:
        answer({}, False, summarise(found))
    if found.blocked:
        raise typer.Exit(1)


@app.command()
def prepare(
    folder: Annotated[str, typer.Argument(help="Folder of pictures.")],
    overrides: Overrides = None,
    captioner: Annotated[
        str, typer.Option("--captioner", help="Caption what has no caption: filename, folder, palette, blip:MODEL ...")
    ] = "",
    as_json: Json = False,
) -> None:
    """Scan a folder and write manifest.jsonl; with base.path=MODEL also encode the pictures. Broken files are named."""
    from datetime import date

    from lora_diffusion.preparing import prepare_source
    from lora_diffusion.progress import Progress

    with Progress("prepare") as progress:
        done = prepare_source(
            folder, overrides or [], captioner=captioner, when=now(), today=date.today(), on_event=progress
        )
    bad = [f"left out: {each.file}: {each.reason}" for each in done.quarantined]
    told = f"{done.images} pictures ({done.changed} new or changed, {done.encoded} encoded) -> {done.manifest_path}"
    answer(done.to_dict(), as_json, "\n".join([*bad, told]))


@app.command()
def train(
    plan: Annotated[str | None, typer.Argument(help="Plan, a TOML file.", metavar="PLAN.toml")] = None,
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Continue the run in this directory exactly.")] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="With --resume: write the adapter of what is saved, without another step.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Train an adapter. Ctrl-C saves the work and stops; --resume continues to the same bytes.

    A picture that was withdrawn in the library is refused, whether a run begins, continues or is finished.
    """
    from lora_diffusion.progress import Progress
    from lora_diffusion.settings import from_toml
    from lora_diffusion.training.plan import TrainPlan

    if (plan is None) == (resume is None) or (resume and overrides) or (finish and not resume):
        raise UsageError("give a plan, or --resume with a run directory alone", hint="lora-diffusion train --help")
    read = from_toml(TrainPlan, Path(plan), overrides or []) if plan else None
    from lora_diffusion.training import loop

    with Progress("train") as progress:
        go_on = loop.finish if finish else loop.resume
        withdrawn = withdrawn_in(home)
        if read:
            done = loop.train(read, on_event=progress, withdrawn=withdrawn)
        else:
            done = go_on(Path(str(resume)), on_event=progress, withdrawn=withdrawn)
    found = {
        "run": str(done.run),
        "adapter": str(done.adapter) if done.adapter else None,
        "status": done.status,
        "steps": done.steps,
        "kept": done.kept,
        "reason": done.reason,
        "seconds_per_step": done.seconds_per_step,
    }
    told = f"adapter: {done.adapter}" if done.adapter else f"continue: lora-diffusion train --resume {done.run}"
    why = f": {done.reason}" if done.reason else ""
    if _is_main_process():
        answer(found, as_json, f"{done.status} after {done.steps} steps{why}\n{told}")


app.command()(generate)
app.command(hidden=True)(serve)
for _verb in (plan, *VERBS, evaluate, bases, ui):
    app.command()(_verb)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; an error is one line with its remedy on stderr."""
    from datasets_tools.errors import DatasetError

    for stream in (sys.stdout, sys.stderr):  # a pipe on Windows has a code page in which not every name can be written
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        code = app(list(arguments), prog_name="lora-diffusion", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (LoraDiffusionError, DatasetError) as error:
        say(f"error: {error}" + (f" ({error.hint})" if error.hint else ""))
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped")
        return 3
    except SystemExit as left:
        if left.code == 130:  # how typer leaves on Ctrl-C
            say("stopped")
            return 3
        return int(left.code or 0)
    except Exception as error:  # noqa: BLE001 - typer's own errors carry how they want to be shown
        return _leave(error)


def _leave(error: Exception) -> int:
    if isinstance(error, typer.Abort):
        say("stopped")
        return 3
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show and code is not None:  # typer's usage errors; their class is private to it in some releases
        show()
        return int(code)
    logging.getLogger("lora_diffusion").debug("", exc_info=error)
    say(f"error: {type(error).__name__}: {error} (a fault of lora-diffusion; please report it)")
    return 3


def _is_main_process() -> bool:
    import os

    return os.environ.get("RANK", "0") == "0"
