"""The rows of Blend: what is muted or beside a solo is silent in a mix, and left out of a grid of strengths."""

import pytest

from webui.pages._blend_rows import BlendRows

REFS = ["ink@1", "moss@2", "salt@1"]


@pytest.fixture(scope="module")
def rows():
    return BlendRows(picker=None, placed=None, groups=[], titles=[], fields=[])


def _values(*, muted=(), solo=()):
    return [
        value for number in range(len(REFS)) for value in (50 + 10 * number, number in muted, number in solo, "", "")
    ]


@pytest.mark.parametrize(
    ("muted", "solo", "heard"),
    [
        ((), (), REFS),
        ((0,), (), REFS[1:]),
        ((), (1,), REFS[1:2]),
        ((), (0, 2), [REFS[0], REFS[2]]),
        ((1,), (1,), []),
        ((0, 1, 2), (), []),
    ],
)
def test_what_is_muted_or_beside_a_solo_is_silent(rows, muted, solo, heard):
    values = _values(muted=muted, solo=solo)
    mix = rows.mix(REFS, values)
    assert [each["ref"] for each in mix] == REFS
    assert [each["ref"] for each in mix if each["weight"]] == heard
    assert rows.heard(REFS, values) == [each for each in mix if each["weight"]]


def test_a_style_at_no_strength_is_heard_so_that_a_grid_may_raise_it(rows):
    assert rows.heard(REFS[:1], [0, False, False, "", ""]) == [
        {"ref": REFS[0], "weight": 0.0, "blocks": "", "schedule": ""}
    ]
