"""The last previews of a run, as samples of the adapter that it made."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from lora_diffusion.library.adding import NewSample

__all__ = ["samples_of_run"]


def samples_of_run(folder: Path) -> Sequence[NewSample]:
    """Return the pictures that a run drew last, with prompt and seed as its plan says; none where it drew none.

    They show the adapter at full weight. Prompts that the run took from captions are left empty.
    """
    folder = Path(folder)
    drawn = sorted((folder / "previews").glob("step-*-*.png"))
    if not drawn:
        return ()
    previews = tomllib.loads((folder / "plan.toml").read_text("utf-8")).get("previews", {})
    prompts, seed = previews.get("prompts", []), previews.get("seed", 0)
    last = drawn[-1].stem.rpartition("-")[0]
    samples = []
    for path in drawn:
        step, _, place = path.stem.rpartition("-")
        if step == last and place.isdecimal():
            prompt = prompts[int(place)] if int(place) < len(prompts) else ""
            samples.append(NewSample(path=path, prompt=prompt, seed=seed + int(place), weight=1.0))
    return tuple(samples)
