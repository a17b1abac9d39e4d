"""What the person at a machine made before there were users goes to the first of them."""

import pytest
from PIL import Image

from tests.webui.conftest import PASSWORD, WHEN
from webui.actions import act
from webui.errors import BadRequest
from webui.users import LOCAL, User

ANA = User(name="ana", role="admin")
BEN = User(name="ben", role="admin")


@pytest.fixture
def studio_of_one(studio):
    """A studio in which the local person left one thing of each kind."""
    studio.datasets.create("leaves", owner=LOCAL.name, when=WHEN)
    studio.keep_setting(LOCAL, "language", "de")
    studio.jobs.submit(
        kind="export", title="leaves", owner=LOCAL.name, commands=[["version"]], folder=studio.home / "runs"
    )
    drawn(studio, LOCAL)
    return studio


def drawn(studio, user: User) -> str:
    path = studio.home / "pictures" / f"{user.name}.png"
    Image.new("RGB", (8, 8), (len(user.name), 0, 0)).save(path)
    return studio.library.add_picture(path, by=user.name, when=WHEN, settings={"prompt": user.name}).id


def add(studio, user: User, name: str) -> None:
    act(studio, user, "users.add", name=name, role="admin", password=PASSWORD)


def test_the_first_admin_takes_over_sets_settings_and_jobs(studio_of_one):
    add(studio_of_one, LOCAL, "ana")
    assert {each.owner for each in studio_of_one.datasets.all() if not each.read_only} == {"ana"}
    assert studio_of_one.setting(ANA, "language") == "de"
    assert [each.title for each in act(studio_of_one, ANA, "jobs.list", mine=True)] == ["leaves"]


def test_the_first_admin_finds_earlier_pictures_among_their_own(studio_of_one):
    add(studio_of_one, LOCAL, "ana")
    newer = drawn(studio_of_one, ANA)
    mine = act(studio_of_one, ANA, "pictures.list", mine=True)
    assert [each.settings["prompt"] for each in mine] == ["ana", "you"]
    assert [each.id for each in act(studio_of_one, ANA, "pictures.list", mine=True, limit=1)] == [newer]
    after = act(studio_of_one, ANA, "pictures.list", mine=True, before=newer)
    assert [each.settings["prompt"] for each in after] == ["you"]


def test_a_later_admin_takes_nothing_over(studio_of_one):
    add(studio_of_one, LOCAL, "ana")
    add(studio_of_one, ANA, "ben")
    assert act(studio_of_one, BEN, "pictures.list", mine=True) == []
    assert act(studio_of_one, BEN, "jobs.list", mine=True) == []


def test_a_refused_first_user_takes_nothing_over(studio_of_one):
    with pytest.raises(BadRequest):
        act(studio_of_one, LOCAL, "users.add", name="ana", role="admin", password="short")
    assert {each.owner for each in studio_of_one.datasets.all() if not each.read_only} == {LOCAL.name}


def test_the_audit_still_says_who_drew_the_earlier_picture(studio_of_one):
    add(studio_of_one, LOCAL, "ana")
    assert {each.by for each in act(studio_of_one, ANA, "pictures.list", mine=True)} == {LOCAL.name}
