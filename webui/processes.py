"""Processes that outlive the one that started them: who they are, whether they live, and how they are asked to end."""

import os
import signal
from contextlib import suppress
from pathlib import Path

__all__ = ["born", "environment", "group_lives", "lives", "signal_group"]

SECRET = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "ACCESS_KEY")
"""Words at the end of names of environment variables that a job has no use for."""


def born(pid: int) -> str:
    """Return when a process began, as a word that no other process with the same number ever has; "" if it is dead.

    On Linux these are the boot and the clock ticks since: the wall clock, by which psutil counts, may be set meanwhile.
    A zombie is dead: nothing of it is left but its exit code.
    """
    stat = Path(f"/proc/{pid}/stat")
    if os.path.exists("/proc/self/stat"):
        try:
            fields = stat.read_text("utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else f"{_boot()} {fields[19]}"
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return ""


def lives(pid: int, since: str) -> bool:
    """Say whether the very process still runs, not a later one with its number."""
    return bool(since) and born(pid) == since


def group_lives(leader: int, since: str) -> bool:
    """Say whether the leader of a process group, or anything that it started in the group, still runs."""
    found = born(leader)
    if found:
        return found == since  # the number was given anew only after the whole group was gone
    return any(_group_of(pid) == leader and born(pid) for pid in _pids())


def signal_group(leader: int, number: int) -> None:
    """Send a signal to a process group; one that is gone is fine."""
    with suppress(ProcessLookupError, PermissionError):  # macOS says "not permitted" of a group of zombies
        if hasattr(os, "killpg"):
            os.killpg(leader, number)
        else:
            os.kill(leader, signal.SIGTERM)


def environment() -> dict[str, str]:
    """Return what a job sees of the environment: no tokens or passwords, and a Hugging Face hub that is offline."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().endswith(SECRET)}
    return {**kept, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    return ""


def _pids() -> list[int]:
    import psutil

    return list(psutil.pids())


def _group_of(pid: int) -> int:
    if not hasattr(os, "getpgid"):
        return -1
    try:
        return os.getpgid(pid)
    except OSError:
        return -1
