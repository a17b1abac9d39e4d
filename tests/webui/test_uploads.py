"""How much may be sent, for how long it stays, and whose it is."""

import os

import pytest

from webui.errors import StudioError, TooMany
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
