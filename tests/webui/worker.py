"""The program that keepers run in tests instead of lora-diffusion: quick to start, and it writes down what it does.

Every line goes to the ledger: `begin NAME`, `step NAME N`, `end NAME`. Two at once are seen by a lock.
"""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

ledger = Path(os.environ["LEDGER"])


def write(*words):
    with ledger.open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def answer(found):
    sys.stdout.write(json.dumps(found) + "\n")


def work(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def alone():
    lock = open(f"{ledger}.lock", "w")  # noqa: SIM115 - held until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        write("DOUBLED")
    return lock


def train(arguments):
    """train NAME FOLDER STEPS | train --resume FOLDER: every second step is saved; SIGTERM saves and stops."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    folder = Path(arguments[1])
    if arguments[0] == "--resume":
        state = json.loads((folder / "plan.toml").read_text())
    else:
        if folder.exists():
            fail(folder)
        folder.mkdir(parents=True)
        state = {"name": arguments[0], "steps": int(arguments[2])}
        (folder / "plan.toml").write_text(json.dumps(state))
    status = folder / "status.json"
    step = json.loads(status.read_text())["step"] if status.exists() else 0
    write("begin", state["name"])
    while step < state["steps"]:
        work(0.005)
        step += 1
        write("step", state["name"], step)
        if step % 2 == 0 or asked:
            aside = folder / ".status"
            aside.write_text(json.dumps({"status": "running", "step": step, "steps": state["steps"]}))
            aside.replace(status)
        if asked:
            answer({"status": "stopped", "steps": step})
            return
    write("end", state["name"])
    answer({"status": "finished", "steps": step})


def fail(folder):
    sys.stderr.write(f"error: {folder} already holds a run (of (another) plan) (choose another run.out)\n")
    sys.exit(2)


def main(verb, *arguments):
    lock = alone()
    if verb == "train":
        train(arguments)
    elif verb == "note":
        write("begin", arguments[0])
        work(float(arguments[1]))
        write("end", arguments[0])
        answer({"name": arguments[0]})
    elif verb == "find":
        answer({"findings": ["blurred"]})
        sys.exit(1)
    elif verb == "fall":
        os.kill(os.getpid(), int(arguments[0]))
    elif verb == "crash":
        raise RuntimeError("a fault of the program")
    elif verb == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        write("begin", "deaf")
        work(60)
    elif verb == "show":
        answer(dict(os.environ))
    lock.close()


main(*(word for word in sys.argv[1:] if word != "--json"))
