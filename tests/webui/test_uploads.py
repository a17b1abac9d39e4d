"""How much may be sent, for how long it stays, and whose it is."""

import asyncio
import os
import shutil
import threading

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from webui.disk import bytes_of, files_below
from webui.errors import StudioError, TooMany
from webui.gate import Gate
from webui.uploads import DAY, Uploads

NOW = 1_000_000.0


@pytest.fixture
def uploads(tmp_path) -> Uploads:
    return Uploads(tmp_path, quota=1000, each=600)


def test_what_is_more_than_all_may_send_is_refused_in_a_sentence(uploads, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x" * 900)
    with pytest.raises(StudioError, match="no room") as caught:
        uploads.reserve("ana", 200, now=NOW)
    assert caught.value.status == 413
    with uploads.reserve("ana", 100, now=NOW):
        pass


def test_what_the_disk_cannot_take_is_refused_before_it_comes(tmp_path):
    with pytest.raises(StudioError, match="no room"):
        Uploads(tmp_path, quota=2**62, each=2**62).reserve("ana", 2**61)


def test_two_uploads_at_once_do_not_take_the_same_room(uploads):
    with uploads.reserve("ana", 600, now=NOW), pytest.raises(StudioError, match="no room"):
        uploads.reserve("ben", 500, now=NOW)
    with uploads.reserve("ben", 500, now=NOW):
        pass


def test_nobody_takes_the_room_of_the_others_within_a_day(uploads):
    with uploads.reserve("ana", 600, now=NOW):
        pass
    with pytest.raises(TooMany, match="today"):
        uploads.reserve("ana", 1, now=NOW + DAY / 2)
    with uploads.reserve("ben", 600, now=NOW), uploads.reserve("ana", 1, now=NOW + DAY + 1):
        pass


def test_what_is_older_than_a_day_goes_and_the_rest_stays(uploads, tmp_path):
    for name, age in (("old", DAY + 60), ("new", DAY - 60)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.png").write_bytes(b"12345")
        for path in (folder / "a.png", folder):
            os.utime(path, (NOW - age, NOW - age))
    assert uploads.sweep(now=NOW) == 5
    assert uploads.sweep(now=NOW + 30) == 0
    assert (tmp_path / "new" / "a.png").exists()
    assert not (tmp_path / "old" / "a.png").exists()


def test_an_emptied_folder_goes_when_it_is_old_too(uploads, tmp_path):
    (tmp_path / "old").mkdir()
    os.utime(tmp_path / "old", (NOW - 2 * DAY, NOW - 2 * DAY))
    uploads.sweep(now=NOW)
    assert not (tmp_path / "old").exists()


def test_a_folder_that_may_be_filled_at_this_moment_stays(uploads, tmp_path):
    """Whoever sends a file again finds the folder of its hash, which was emptied days ago."""
    (tmp_path / "old").mkdir()
    os.utime(tmp_path / "old", (NOW - 2 * DAY, NOW - 2 * DAY))
    with uploads.reserve("ana", 1, now=NOW):
        uploads.sweep(now=NOW)
        assert (tmp_path / "old").exists()


def test_an_upload_does_not_fail_where_others_clean_up_at_the_same_time(uploads, tmp_path):
    done = threading.Event()

    def come_and_go():
        while not done.is_set():
            for number in range(20):
                (tmp_path / f"{number}").mkdir()
                (tmp_path / f"{number}" / "a.png").touch()
            for number in range(20):
                shutil.rmtree(tmp_path / f"{number}")

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(300):
            with uploads.reserve("ana", 1, now=NOW):
                pass
            uploads.sweep(now=NOW)
    finally:
        done.set()
        other.join()


def test_a_file_with_two_names_takes_its_room_once_and_frees_it_with_the_last(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "copy").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(b"12345")
    os.link(tmp_path / "set" / "a.png", tmp_path / "copy" / "a.png")
    both, copy = files_below(tmp_path), files_below(tmp_path / "copy")
    assert (len(both), bytes_of(both), bytes_of(both, if_gone=True)) == (2, 5, 5)
    assert (bytes_of(copy), bytes_of(copy, if_gone=True)) == (5, 0)


def test_a_browser_that_goes_away_in_the_middle_of_an_upload_is_no_fault(uploads):
    async def take(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    app = Starlette()
    app.add_route("/en/gradio_api/upload", take, methods=["POST"])
    gate = Gate(app, roots=["/en"], pages=[], uploads=uploads, lost=app)
    coming = [{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}]
    told = []

    async def receive():
        return coming.pop(0)

    async def send(message):
        told.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/en/gradio_api/upload", "root_path": "", "query_string": b"",
        "headers": [(b"content-length", b"8")],
    }  # fmt: skip
    asyncio.run(gate(scope, receive, send))
    assert told == []
    with uploads.reserve("ana", 500, now=NOW), pytest.raises(StudioError):
        uploads.reserve("ben", 501, now=NOW)


def test_a_file_is_for_those_who_sent_it(uploads, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    uploads.came([str(path)], "ana")
    assert uploads.holds(str(path), "ana")
    assert not uploads.holds(str(path), "ben")
    uploads.came([str(path)], "ben")
    assert uploads.holds(str(path), "ben")


def test_a_link_out_of_the_folder_is_no_upload(tmp_path):
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "uploads"
    folder.mkdir()
    os.symlink(tmp_path / "secret", folder / "link")
    assert not Uploads(folder).holds(str(folder / "link"))
