"""Many pictures take little memory, and hardly any time once they are known."""

import json
import subprocess
import sys

import pytest

from tests.benchmarks.scale import SOURCE, small_pictures

COUNT = 3000
MEMORY = 250_000_000
FASTER = 3

TWICE = """
import json, sys, time
from pathlib import Path
from datasets_tools.journal import Journal
from datasets_tools.scan import scan_folder
from tests.memory import peak, workers_watched
folder, place = map(Path, sys.argv[1:])
seconds, prints, counts, workers = [], [], [], []
for _ in range(2):
    began = time.perf_counter()
    journal = Journal(place)
    with workers_watched() as largest:
        scanned = scan_folder(folder, journal=journal, workers=2)
    workers.append(largest.peak)
    seconds.append(time.perf_counter() - began)
    prints.append(scanned.manifest.fingerprint)
    counts.append([len(scanned.manifest.records), journal.added])
print(json.dumps({"seconds": seconds, "prints": prints, "counts": counts, "own": peak(), "workers": workers}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is told in another place elsewhere")
def test_three_thousand_pictures_stay_below_250_megabytes_and_are_known_the_second_time(tmp_path):
    small_pictures(tmp_path / "pictures", COUNT)
    command = [sys.executable, "-c", TWICE, str(tmp_path / "pictures"), str(tmp_path / "scan.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SOURCE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["counts"] == [[COUNT, COUNT], [COUNT, 0]]
    assert found["prints"][0] == found["prints"][1]
    assert found["own"] < MEMORY
    assert 0 < found["workers"][0] < MEMORY
    assert found["seconds"][0] > FASTER * found["seconds"][1]
