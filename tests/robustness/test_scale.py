"""Many pictures take little memory, and hardly any time once they are known."""

import json
import subprocess
import sys

import pytest

from tests.benchmarks.scale import small_pictures

COUNT = 3000
MEMORY = 250_000_000
FASTER = 3

TWICE = """
import json, resource, sys, time
from pathlib import Path
from datasets_tools.journal import Journal
from datasets_tools.scan import scan_folder
folder, place = map(Path, sys.argv[1:])
seconds, prints, counts = [], [], []
for _ in range(2):
    began = time.perf_counter()
    journal = Journal(place)
    scanned = scan_folder(folder, journal=journal)
    seconds.append(time.perf_counter() - began)
    prints.append(scanned.manifest.fingerprint)
    counts.append([len(scanned.manifest.records), journal.added])
# not ru_maxrss of this process: it begins at what the process that started it had
own = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
peak = 1024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
print(json.dumps({"seconds": seconds, "prints": prints, "counts": counts, "peak": peak}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is told in another place elsewhere")
def test_three_thousand_pictures_stay_below_250_megabytes_and_are_known_the_second_time(tmp_path):
    small_pictures(tmp_path / "pictures", COUNT)
    command = [sys.executable, "-c", TWICE, str(tmp_path / "pictures"), str(tmp_path / "scan.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["counts"] == [[COUNT, COUNT], [COUNT, 0]]
    assert found["prints"][0] == found["prints"][1]
    assert found["peak"] < MEMORY
    assert found["seconds"][0] > FASTER * found["seconds"][1]
