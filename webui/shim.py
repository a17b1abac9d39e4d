"""`python -m webui.shim HOME JOB TOKEN EXIT -- COMMAND …`: run one command and write its exit code into the file EXIT.

A keeper may be killed and the next one cannot ask the system how a process ended that it did not start. So this small
process stands between them. It takes the launch in the table before it starts anything, and leaves if it came too late.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from datasets_tools import write_text
from webui.job_table import Table
from webui.lane import take
from webui.processes import born

__all__ = ["main"]

TOO_LATE = 4
"""Exit code where another keeper launched the command anew."""


def main(arguments: list[str]) -> int:
    """Run the command with this process's stdout, stderr and process group; return its exit code."""
    home, job, token, exit_file, _, *command = arguments
    for number in (signal.SIGTERM, signal.SIGINT):  # they are for the command, whose exit code is waited for here;
        signal.signal(number, _pass)  # SIG_IGN would be inherited by it, a handler is not
    table = Table(Path(home) / "jobs.db")
    if not take(table, job, token, pid=os.getpid(), born=born(os.getpid())):
        return TOO_LATE
    table.close()
    code = subprocess.Popen(command, stdin=subprocess.DEVNULL).wait()
    write_text(Path(exit_file), f"{code}\n")
    return code


def _pass(number: int, frame: FrameType | None) -> None:
    """Leave the signal to the command in the same process group."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
