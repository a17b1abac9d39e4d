"""What a run says about the adapter that it made: its last previews, and the rights that all its pictures share."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

from lora_diffusion.library.adding import NewSample

__all__ = ["rights_of_run", "samples_of_run"]


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


def rights_of_run(folder: Path) -> dict[str, str]:
    """Return owner, licence and expiry of a run's pictures, each where all of them state the same.

    Of expiry dates the earliest counts, where any is stated: an adapter holds no longer than its pictures.
    """
    path = Path(folder) / "manifest.jsonl"
    if not path.is_file():
        return {}
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    stated = [row.get("rights") or {} for row in rows if "file" in row]
    shared = {}
    for key in ("owner", "licence"):
        values = {each.get(key) or "" for each in stated}
        if len(values) == 1 and values != {""}:
            shared[key] = values.pop()
    if ends := [each["expires"] for each in stated if each.get("expires")]:
        shared["expires"] = min(ends)
    return shared
