"""How `check` and `prepare` grow with the number of pictures, and camera pictures beside decoding alone.

python -m tests.benchmarks.scale --pictures 10000 100000     small pictures, made by this script
python -m tests.benchmarks.scale --camera 200                twelve-megapixel JPEGs, against decoding alone

Both sides of the second use a process for each core with the same settings, and both figures contain their start.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SOURCE = Path(__file__).parents[2]
CHILD = """
import json, resource, sys, time
from lora_diffusion.cli import run
from tests.memory import peak, workers_watched
began = time.perf_counter()
with workers_watched() as largest:
    code = run(sys.argv[1:])
workers = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = time.thread_time() + workers.ru_utime + workers.ru_stime  # without the thread that watches the memory
found = {"seconds": time.perf_counter() - began, "cpu": cpu, "peak": peak(), "worker": largest.peak, "code": code}
print(json.dumps(found), file=sys.stderr)
"""

DECODING = """
import json, os, resource, subprocess, sys, time
from datasets_tools.workers import _KEPT_MEMORY, _ONE_THREAD
code = "import sys\\nfrom PIL import Image\\nfor file in sys.stdin: Image.open(file.strip()).load()"
settings = {**os.environ, **_ONE_THREAD, **_KEPT_MEMORY}
began = time.perf_counter()
files = sorted(os.path.join(sys.argv[1], name) for name in os.listdir(sys.argv[1]))
workers = []
for first in range(os.cpu_count()):
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env=settings)
    worker.stdin.write("\\n".join(files[first :: os.cpu_count()]).encode())
    worker.stdin.close()
    workers.append(worker)
codes = [worker.wait() for worker in workers]
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"seconds": time.perf_counter() - began, "cpu": used.ru_utime + used.ru_stime, "code": max(codes)}))
"""
TURNS = 3  # of which the fastest counts: other work on the machine only adds


def small_pictures(folder: Path, count: int) -> None:
    """Make so many different small JPEGs of common shapes, each with a caption, in folders of 1,000."""
    draw = np.random.default_rng(0)
    sizes = [(96, 72), (72, 96), (96, 96), (128, 72), (72, 128), (120, 80)]
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize(sizes[number % len(sizes)], Image.Resampling.BICUBIC).save(place / f"{number}.jpg", quality=85)
        (place / f"{number}.txt").write_text(f"shape {number} of many")


def camera_pictures(folder: Path, count: int) -> None:
    """Make so many JPEGs of 4000 x 3000 pixels with texture; contents repeat after eight, bytes do not."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    bodies = []
    for number in range(min(count, 8)):
        coarse = Image.fromarray(draw.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((4000, 3000), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = draw.normal(0, 6, (3000, 4000, 1)).astype(np.int16)
        Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)
        bodies.append((folder / f"{number}.jpg").read_bytes())
    for number in range(8, count):
        (folder / f"{number}.jpg").write_bytes(bodies[number % 8] + number.to_bytes(4, "big"))


def measured(*arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        cwd=SOURCE,
    )
    return json.loads(done.stderr.strip().splitlines()[-1])


def memory(found: dict[str, float]) -> str:
    """Say what a command took: its own process, and the largest of its workers where it had some."""
    worker = f", the largest worker {found['worker'] / 1e6:.0f} MB" if found["worker"] else ""
    return f"{found['peak'] / 1e6:.0f} MB{worker}"


def decoding(folder: Path) -> dict[str, float]:
    """Return the seconds and those of CPU time in which as many processes as cores decode a folder, and nothing else.

    They start, share the files and keep memory as the workers of `check` do; what starts them does nothing but wait.
    """
    done = subprocess.run(
        [sys.executable, "-c", DECODING, str(folder)], capture_output=True, text=True, check=True, cwd=SOURCE
    )
    return json.loads(done.stdout)


def compared(folder: Path, count: int) -> str:
    """Say how long `check` takes for so many camera pictures, and decoding them alone: the fastest of some turns."""
    alone, checked = [], []
    for _ in range(TURNS):
        alone.append(decoding(folder))
        checked.append(measured("check", str(folder), "--json"))

    def least(found: list[dict[str, float]], what: str) -> float:
        return min(each[what] for each in found)

    seconds, cpu = ([least(found, what) for found in (alone, checked)] for what in ("seconds", "cpu"))
    each = [1000 * used / count for used in cpu]
    return (
        f"{count} pictures of 12 megapixels, {os.cpu_count()} cores: "
        f"decoding {seconds[0]:.1f} s, check {seconds[1]:.1f} s ({seconds[1] / seconds[0]:.2f} times); "
        f"CPU time of each {each[0]:.0f} and {each[1]:.0f} ms ({each[1] / each[0]:.2f} times), {memory(checked[-1])}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, nargs="*", default=[])
    parser.add_argument("--camera", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for count in asked.pictures:
            folder = Path(temporary, f"{count}")
            small_pictures(folder, count)
            for verb in (
                ("check", str(folder), "--json", "--report", f"{temporary}/{count}.html"),
                ("prepare", str(folder), f"data.cache={temporary}/cache-{count}"),
                ("prepare", str(folder), f"data.cache={temporary}/cache-{count}"),
            ):
                found = measured(*verb)
                each = 1000 * found["seconds"] / count
                print(f"{count} pictures, {verb[0]}: {found['seconds']:.1f} s ({each:.2f} ms each), {memory(found)}")
        if asked.camera:
            folder = Path(temporary, "camera")
            camera_pictures(folder, asked.camera)
            print(compared(folder, asked.camera))


if __name__ == "__main__":
    main()
