"""Short commands: what needs torch runs as the command line in a process of its own, and its answer is read."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from webui.errors import BadRequest, StudioError
from webui.job_progress import last_error
from webui.processes import environment

__all__ = ["run_cli"]


def run_cli(words: Sequence[str], *, timeout: float = 120.0) -> dict[str, Any]:
    """Run `lora-diffusion WORDS --json` and return its object; exit 1, which says that something was found, is fine.

    Raises BadRequest with what the command said, StudioError where it took too long.
    """
    command = [sys.executable, "-P", "-m", "lora_diffusion", *words, "--json"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=timeout, env=environment(), check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StudioError(
            f"{words[0]} took longer than {timeout:.0f} s", hint="try again when less is running"
        ) from error
    if done.returncode not in (0, 1) or not done.stdout.strip():
        reason, hint = last_error(done.stderr)
        raise BadRequest(reason or f"{words[0]} broke off", hint=hint)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
