"""The verbs that draw: generate, and the process behind the studio, serve."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_diffusion.cli_files import Adapters, Base, Out, read_parts
from lora_diffusion.console import Json, answer
from lora_diffusion.errors import UsageError

if TYPE_CHECKING:
    from lora_diffusion.generation.schedule import Schedule

__all__ = ["generate", "serve"]

Precision = Annotated[str, typer.Option("--precision", help="auto, bf16, fp16 or no.")]


def generate(
    base: Base,
    prompt: Annotated[str, typer.Option("--prompt")],
    out: Out = Path("picture.png"),
    adapter: Adapters = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    steps: Annotated[int, typer.Option("--steps", min=1, max=1000)] = 30,
    negative: Annotated[str, typer.Option("--negative")] = "",
    guidance: Annotated[float | None, typer.Option("--guidance", help="Left out: what suits the base.")] = None,
    width: Annotated[int, typer.Option("--width", help="0 takes the base model's.", min=0)] = 0,
    height: Annotated[int, typer.Option("--height", help="0 takes the base model's.", min=0)] = 0,
    count: Annotated[int, typer.Option("--count", help="Pictures with seeds counted up.", min=1, max=64)] = 1,
    sampler: Annotated[
        str, typer.Option("--sampler", help="ddim, euler, euler_a, dpmpp_2m, ...; left out: the base's.")
    ] = "",
    image: Annotated[Path | None, typer.Option("--image", help="Picture to start from.")] = None,
    strength: Annotated[float, typer.Option("--strength", help="How far from --image: above 0 to 1.")] = 0.6,
    schedule: Annotated[
        list[str] | None,
        typer.Option(
            "--schedule", help="NAME=0-0.5: in these steps alone. NAME=0:0.2,1:1: rising. May be given again."
        ),
    ] = None,
    tokenizer: Annotated[str, typer.Option("--tokenizer", help="Tokenizer folder for a single-file base.")] = "",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Draw pictures with any number of adapters; the settings are written into each PNG."""
    from lora_diffusion.generation.samplers import find_sampler

    if out.suffix.lower() != ".png":
        raise UsageError(f"{out} is no .png", hint="pictures are written as PNG, which carries their settings")
    if sampler:
        find_sampler(sampler)  # before seconds of loading
    schedules = _schedules(schedule or [])

    from lora_diffusion.generation.generator import Generator
    from lora_diffusion.generation.start import read_start
    from lora_diffusion.progress import Progress

    start = read_start(image, strength) if image else None
    adapters = read_parts(adapter)
    began = time.perf_counter()
    paths = []
    with Generator.open(base, precision=precision, tokenizer=tokenizer) as generator, Progress("generate") as progress:
        for found, weight in adapters:
            generator.add(found, weight)
        size = (width or generator.resolution, height or generator.resolution)
        for number in range(count):
            picture = generator.generate(
                prompt,
                seed=seed + number,
                negative=negative,
                size=None if start and not (width or height) else size,
                steps=steps,
                guidance=guidance,
                sampler=sampler,
                start=start,
                schedules=schedules,
                on_step=lambda done, total: progress.show("generate", done, total),
            )
            paths.append(str(picture.save(_numbered(out, number, count))))
    written = {"images": paths, "seconds": round(time.perf_counter() - began, 3)}
    answer(written, as_json, "\n".join(paths))


def serve(
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    precision: Precision = "auto",
) -> None:
    """Draw on request: JSON lines on stdin and stdout, for programs that draw often."""
    import json
    import os

    # What a library prints must not come between the answers: their channel is kept, and stdout becomes stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(event: dict[str, Any]) -> None:
        try:
            answers.write(json.dumps(event, ensure_ascii=False) + "\n")
            answers.flush()
        except BrokenPipeError:  # nobody listens any more
            os._exit(0)

    from lora_diffusion.generation.serving import serve as answer_requests

    with os.fdopen(os.dup(0), "rb") as lines:
        # At the end of the lines at once, in the middle of a step: every file is written aside and renamed.
        answer_requests(lines, tell, on_end=lambda: os._exit(0), device=device, precision=precision)


def _schedules(texts: list[str]) -> "dict[str, Schedule]":
    from lora_diffusion.generation.schedule import parse_schedule

    found = {}
    for text in texts:
        name, sign, schedule = text.rpartition("=")
        if not (sign and name):
            raise UsageError(f"{text!r} is no schedule", hint="write NAME=0-0.5, with the name of an adapter")
        found[name] = parse_schedule(schedule)
    return found


def _numbered(out: Path, number: int, count: int) -> Path:
    return out if count == 1 else out.with_name(f"{out.stem}-{number}{out.suffix}")
