"""The main job on the embedded base model: check, train two styles, draw, blend, merge, export, read back."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from datasets_tools.storage import replacing
from lora_diffusion.demo import held_out_prompts
from lora_diffusion.errors import RunExists, UsageError
from lora_diffusion.exporting import blend_to_file, export
from lora_diffusion.families import locate
from lora_diffusion.files.adapter import Adapter, read_adapter
from lora_diffusion.generation.generator import Generator
from lora_diffusion.merging import merge
from lora_diffusion.progress import Progress, clock
from lora_diffusion.settings import from_toml
from lora_diffusion.training.check import check_plan
from lora_diffusion.training.loop import resume, train
from lora_diffusion.training.plan import TrainPlan
from lora_diffusion.training.run import Run

__all__ = ["Demo", "run_demo"]

PLAN = Path(__file__).parent / "plan.toml"
FIRST, SECOND = "blueprint", "papercut"
BLEND = {FIRST: 0.4, SECOND: 0.8}
"""Blueprint is the stronger of the two: at equal weights little is seen of the other."""
ROWS = 8
STEPS = 20

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What the demo made."""

    sheet: Path
    adapters: tuple[Path, ...]
    blend: Path
    merged: Path
    seconds: float

    def to_dict(self) -> dict[str, object]:
        return {
            "sheet": str(self.sheet),
            "adapters": [str(path) for path in self.adapters],
            "blend": str(self.blend),
            "merged": str(self.merged),
            "seconds": round(self.seconds, 1),
        }

    def summary(self) -> str:
        adapters = "\n".join(f"  adapter   {path}" for path in self.adapters)
        first = self.adapters[0]
        return (
            f"Done in {clock(self.seconds)}.\n"
            f"  look at   {self.sheet}\n{adapters}\n  blend     {self.blend}\n  merged    {self.merged}\n"
            f"Try next:\n"
            f"  lora-diffusion ui                              (all of it in the browser)\n"
            f"  lora-diffusion generate --base demo --adapter {first}:0.8 --prompt 'a rocket icon' --out rocket.png\n"
            f"  lora-diffusion inspect {first}\n"
            f"  lora-diffusion train configs/sd15-style.toml   (with pictures and a base model of your own)"
        )


def run_demo(out: Path, *, say: Say) -> Demo:
    """Do the whole job into a folder. A demo that was interrupted there is continued.

    Raises RunExists where the folder holds runs of another plan.
    """
    began = time.perf_counter()
    plans = {style: _plan(style, out) for style in (FIRST, SECOND)}
    for style, plan in plans.items():
        if not (Path(plan.run.out) / "plan.toml").exists():
            _check(style, plan, say)
    files = {style: _trained(style, plan, say) for style, plan in plans.items()}
    adapters = {style: read_adapter(path, name=style) for style, path in files.items()}
    sheet = _draw(adapters, out / "sheet.png")
    written = tuple(
        export(adapter, out / f"{style}-{dialect}.safetensors", dialect=dialect, overwrite=True).path
        for style, adapter in adapters.items()
        for dialect in ("kohya", "diffusers")
    )
    blended = blend_to_file(
        [(adapters[style], BLEND[style]) for style in BLEND], out / "blend.safetensors", overwrite=True
    )
    merged = merge(locate("demo"), [(adapters[FIRST], 1.0)], out / f"demo-{FIRST}.safetensors", overwrite=True)
    say(f"every file was read back: blend off by {blended.report.total:.1e}, merge by {merged.report.total:.1e}")
    return Demo(
        sheet=sheet, adapters=written, blend=blended.path, merged=merged.path, seconds=time.perf_counter() - began
    )


def _plan(style: str, out: Path) -> TrainPlan:
    return from_toml(TrainPlan, PLAN, [f"data.folder=demo:{style}", f"run.out={out / 'runs' / style}"])


def _check(style: str, plan: TrainPlan, say: Say) -> None:
    report = check_plan(plan, probe=False)
    for finding in report.findings:
        if finding.severity == "blocks":
            raise UsageError(f"{style}: {finding.reason}", hint=finding.remedy)
    say(f"{style}: {report.images} pictures are ready to train, health score {report.score} of 100")


def _trained(style: str, plan: TrainPlan, say: Say) -> Path:
    run = Path(plan.run.out)
    with Progress(style) as progress:
        if not (run / "plan.toml").exists():
            done = train(plan, on_event=progress)
        elif _same(Run.open(run).plan, plan):
            done = resume(run, on_event=progress)
        else:
            raise RunExists(f"{run} holds a demo with other settings", hint="remove that folder or give another --out")
    if done.adapter is None:
        say("the same command goes on from here")
        raise KeyboardInterrupt
    say(f"{style}: {done.steps} steps, {done.seconds_per_step:.2f} s each")
    return done.adapter


def _same(found: TrainPlan, wanted: TrainPlan) -> bool:
    """Say whether a run was begun with this plan; the run knows what `auto` came to."""
    settled = {"name": found.adapter.name}
    run = {"device": found.run.device, "precision": found.run.precision}
    return found == wanted.model_copy(
        update={
            "adapter": wanted.adapter.model_copy(update=settled),
            "run": wanted.run.model_copy(update=run),
        }
    )


def _draw(adapters: dict[str, Adapter], path: Path) -> Path:
    """Draw things that no style set holds, in every column of the sheet with the same noise."""
    columns: dict[str, dict[str, float]] = {
        "base": {},
        f"{FIRST} 0.5": {FIRST: 0.5},
        f"{FIRST} 1.0": {FIRST: 1.0},
        f"{SECOND} 1.0": {SECOND: 1.0},
        f"blend {BLEND[FIRST]} + {BLEND[SECOND]}": BLEND,
    }
    prompts = held_out_prompts(ROWS)
    pictures: list[list[Image.Image]] = []
    with Generator.open("demo") as generator, Progress("contact sheet") as progress:
        for adapter in adapters.values():
            generator.add(adapter, 0.0)
        for number, weights in enumerate(columns.values(), 1):
            generator.blend = weights
            drawn = generator.generate_many(prompts, seeds=range(ROWS), steps=STEPS)
            pictures.append([picture.image for picture in drawn])
            progress.show("contact sheet", number, len(columns))
    sheet = contact_sheet(list(columns), prompts, pictures)
    with replacing(path) as aside:
        sheet.save(aside, format="PNG")
    return path


def contact_sheet(
    columns: Sequence[str], rows: Sequence[str], pictures: Sequence[Sequence[Image.Image]]
) -> Image.Image:
    """Lay out pictures[column][row] with a heading over each column and each row's prompt at its left."""
    side, gap, left, top = pictures[0][0].width, 6, 150, 28
    width, height = left + len(columns) * (side + gap), top + len(rows) * (side + gap)
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for x, heading in enumerate(columns):
        pen.text((left + x * (side + gap), 7), heading, fill="black", font=font)
        for y, picture in enumerate(pictures[x]):
            sheet.paste(picture, (left + x * (side + gap), top + y * (side + gap)))
    for y, prompt in enumerate(rows):
        pen.text((8, top + y * (side + gap) + side // 2 - 8), prompt, fill="black", font=font)
    return sheet
