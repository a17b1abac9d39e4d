"""Many processes and threads on one library, some of them killed."""

import multiprocessing
import os
import random
import threading
from contextlib import suppress
from multiprocessing.connection import wait

import pytest

from datasets_tools.storage import sha256_file
from lora_diffusion.errors import UsageError
from lora_diffusion.library import Library
from tests.library import made
from tests.library.made import ANN

NAMES = ("ash", "birch", "cedar", "elm")
WORKERS, OPERATIONS, KILLS = 8, 200, 12


def work(home, files, pictures, number, start, pipe):
    """Change the library, and tell the parent of every change that was acknowledged."""
    import torch

    torch.set_num_threads(1)
    draw = random.Random(1000 * number + start)
    with Library.open(home) as library:
        for count in range(start, OPERATIONS):
            told = None
            with suppress(UsageError):  # the stage was changed by another worker, or the name is not there yet
                told = change(library, draw, files, pictures, f"worker {number} change {count}")
            pipe.send((count, told))


def change(library, draw, files, pictures, by):
    """Make one change; return the version that must be there from now on, or the name that an event must bear."""
    name, kind, who = draw.choice(NAMES), draw.randrange(8), {"by": by, "when": made.WHEN}
    if kind < 2:
        version = library.add(draw.choice(files), name=name, **who)
        return version.ref.lower(), version.sha256
    if kind == 2:
        library.rename(name, draw.choice([name.upper(), name.title()]), **who)
        return None  # which changes nothing where that is the name already
    if kind == 3:
        library.promote(name, draw.choice(["in_review", "approved", "retired", "draft"]), reason="because", **who)
    elif kind == 4:
        library.add_picture(draw.choice(pictures), settings={"prompt": by}, adapters=[(name, 0.5)], **who)
    elif kind == 5:
        library.comment(name, by, **who)
    else:
        library.describe(name, notes=by, tags=(by,), **who)
    return by


class _Workers:
    """Processes that are started from one that has torch already, and started again where they were killed."""

    def __init__(self, *arguments):
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["lora_diffusion.files.adapter", "lora_diffusion.library", __name__])
        self.arguments = arguments
        self.running = {}
        self.told = []

    def start(self, number, first):
        mine, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=work, args=(*self.arguments, number, first, theirs))
        process.start()
        theirs.close()
        self.running[mine] = [number, first, process]

    def hear(self, pipe):
        """Take in one acknowledgement; return False where the worker has ended."""
        try:
            count, told = pipe.recv()
        except EOFError:
            return False
        self.running[pipe][1] = count + 1
        self.told.append(told)
        return True

    def kill(self, pipe):
        number, _, process = self.running[pipe]
        process.kill()  # it may have ended since; what it told waits in the pipe
        while self.hear(pipe):
            pass
        first = self.running[pipe][1]
        self.end(pipe)
        self.start(number, first)

    def end(self, pipe):
        *_, process = self.running.pop(pipe)
        process.join()
        pipe.close()
        return process.exitcode


def look(library):
    """Every state that a reader sees is whole."""
    current = {each.id: each.number for each in library.versions()}
    for each in library.versions(every=True):
        assert sha256_file(library.path(each.ref)) == each.sha256
        assert each.id in current
    for picture in library.pictures(limit=5):
        assert len(picture.adapters) == 1
        assert sha256_file(picture.path) == picture.sha256


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kill -9 and forkserver are of POSIX")
def test_eight_processes_change_one_library_some_are_killed_and_nothing_acknowledged_is_lost(tmp_path, files, drawn):
    home = tmp_path / "home"
    workers = _Workers(home, files, drawn)
    kills = set(random.Random(7).sample(range(100, WORKERS * OPERATIONS - 200), KILLS))
    for number in range(WORKERS):
        workers.start(number, 0)
    codes = []
    with Library.open(home) as library:
        while workers.running:
            for pipe in wait(list(workers.running)):
                if not workers.hear(pipe):
                    codes.append(workers.end(pipe))
                elif len(workers.told) in kills:
                    workers.kill(pipe)
                if len(workers.told) % 50 == 0:
                    look(library)
        assert codes == [0] * WORKERS
        assert [each for each in library.verify() if each.severity != "notes"] == []
        bearers = {event.by for event in library.history(limit=10_000)}
        held = {(each.ref.lower(), each.sha256) for each in library.versions(every=True)}
        acknowledged = set(workers.told) - {None}
        assert len(acknowledged) > WORKERS * OPERATIONS / 2
        assert acknowledged <= bearers | held


def test_threads_share_one_library(library, files):
    library.add(files[0], name="Ink", **ANN)
    failed = []

    def talk(number):
        try:
            for count in range(10):
                library.comment("ink", f"{number} {count}", **ANN)
                assert library.version("ink").number == 1
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failed.append(error)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len({each.text for each in library.comments("ink")}) == 80
    assert library.verify() == []


def test_connections_of_threads_that_ended_are_closed(library):
    for _ in range(20):
        thread = threading.Thread(target=library.versions)
        thread.start()
        thread.join()
    library.versions()
    assert len(library._store._connections) <= 2


def test_a_reader_sees_one_state_until_it_is_done(library, files):
    library.add(files[0], name="Ink", **ANN)
    with library._store.reading() as connection:
        before = connection.execute("SELECT count(*) FROM comments").fetchone()[0]
        with Library.open(library.home) as other:
            other.comment("ink", "meanwhile", **ANN)
        assert connection.execute("SELECT count(*) FROM comments").fetchone()[0] == before == 0
    assert len(library.comments("ink")) == 1


def test_a_change_that_fails_in_the_middle_leaves_nothing(library, files):
    library.add(files[0], name="Ink", **ANN)
    head = library.head()

    def interrupted():
        with library._store.writing(**ANN) as writing:
            writing.put("withdrawals", sha256="0" * 64, at="", by="", reason="")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with library._store.writing(**ANN) as writing:
        writing.put("withdrawals", sha256="0" * 64, at="", by="", reason="")  # and no event
    assert library.withdrawals() == []
    assert library.head() == head
    assert library.verify() == []
