"""Drawn pictures that are kept."""

import pytest

from datasets_tools.errors import DatasetError
from datasets_tools.storage import sha256_file
from lora_diffusion.errors import UsageError
from tests.library.made import ANN, BEN


def keep(library, drawn, number, **more):
    settings = {"prompt": f"a Fox number{number}", "seed": number}
    return library.add_picture(drawn[number], **{**ANN, **more}, settings=settings)


def test_a_picture_is_kept_with_its_settings_and_adapters(library, files, drawn):
    library.add(files[0], name="Ink", **ANN)
    kept = library.add_picture(
        drawn[0], **ANN, settings={"prompt": "ä", "seed": 1}, adapters=[("ink", 0.8), ("f" * 64, -0.1)]
    )
    assert library.picture(kept.id) == kept
    assert kept.adapters == (("Ink@1", 0.8), ("f" * 64, -0.1))
    assert kept.settings == {"prompt": "ä", "seed": 1}
    assert sha256_file(kept.path) == sha256_file(drawn[0]) == kept.sha256
    assert len(kept.id) == 32
    assert library.add_picture(drawn[0], **ANN, settings={}).id != kept.id


def test_pictures_come_in_pages_the_newest_first(library, drawn):
    ids = [keep(library, drawn, number % 3).id for number in range(5)][::-1]
    first = library.pictures(limit=2)
    assert [each.id for each in first] == ids[:2]
    assert [each.id for each in library.pictures(before=first[-1].id)] == ids[2:]
    with pytest.raises(UsageError):
        library.pictures(limit=0)


def test_pictures_are_found_by_prompt_person_star_and_state(library, drawn):
    one, two, three = (keep(library, drawn, number, by=by) for number, by in enumerate(("ann", "ben", "ben")))
    library.star(two.id, **BEN)
    library.set_picture_state(three.id, "off_brand", **BEN, reason="wrong red")
    library.set_picture_state(one.id, "approved", **BEN)

    def found(**asked):
        return [each.id for each in library.pictures(**asked)]

    assert found(text="FOX number1") == found(starred=True) == found(by="ben", starred=True) == [two.id]
    assert found(starred=False) == [three.id, one.id]
    assert found(state="off_brand") == [three.id]
    assert found(state="approved") == [one.id]
    assert library.picture(three.id).reason == "wrong red"
    library.star(two.id, False, **BEN)
    assert found(starred=True) == []
    assert [event.what for event in library.history(f"picture:{two.id}")] == ["unstar", "star", "add picture"]


@pytest.mark.parametrize(("state", "reason"), [("nice", "x"), ("off_brand", " ")])
def test_a_judgement_that_cannot_be_is_refused(library, drawn, state, reason):
    kept = keep(library, drawn, 0)
    with pytest.raises(UsageError):
        library.set_picture_state(kept.id, state, **ANN, reason=reason)


def test_what_is_no_picture_is_refused(library, drawn, tmp_path):
    (tmp_path / "x.png").write_bytes(b"<svg/>")
    with pytest.raises(DatasetError):
        library.add_picture(tmp_path / "x.png", **ANN, settings={})
    with pytest.raises(UsageError):
        library.add_picture(drawn[0], **ANN, settings={"weight": float("nan")})
    with pytest.raises(UsageError):
        library.add_picture(drawn[0], **ANN, settings={}, adapters=[("nobody", 1.0)])
    with pytest.raises(UsageError):
        library.picture("0" * 32)
    assert library.pictures() == library.verify() == []
