"""The command line, as `lora-diffusion` and as `python -m lora_diffusion`."""

import os
import sys

SPINS = "20000"
"""How often a waiting OpenMP thread looks again before it sleeps; GNU's default is some hundred thousand.

Two threads that spin while another program has their core cost that program and themselves their time. Measured on 2
cores with the embedded base, one run each, median seconds a step: alone 0.136 (default 0.155, never spinning 0.30);
beside one busy program 0.145 (0.181). Of two trainings at once each took 50 steps in a minute (17). Results do not
depend on it.
"""


def main() -> None:
    """Run a command and leave with its exit code: 0 done, 1 something was found, 2 wrong use, 3 failed."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch loads its OpenMP
    from lora_diffusion.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
