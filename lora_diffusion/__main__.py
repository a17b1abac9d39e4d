"""The command line, as `lora-diffusion` and as `python -m lora_diffusion`."""

import sys


def main() -> None:
    """Run a command and leave with its exit code: 0 done, 1 something was found, 2 wrong use, 3 failed."""
    from lora_diffusion.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
