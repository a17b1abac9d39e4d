"""A keeper whose commands are those of worker.py: `python tests/webui/lane.py HOME LANE`."""

import sys
from pathlib import Path

from webui.keeper import Keeper

PROGRAM = (sys.executable, "-I", "-S", str(Path(__file__).with_name("worker.py")))

if __name__ == "__main__":
    home, lane = sys.argv[1:]
    Keeper(Path(home), lane, program=PROGRAM, poll=0.01, grace={"train": 20.0, "deaf": 0.3}).run()
