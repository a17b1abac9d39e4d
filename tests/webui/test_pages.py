"""What pages offer is what the rules allow."""

from lora_diffusion.library import MOVES
from webui.actions import actions
from webui.pages._library_versions import NEXT
from webui.theme import roles
from webui.users import ROLES


def test_the_library_offers_the_stages_that_may_follow():
    assert NEXT == MOVES


def test_a_role_sees_what_it_may_do_and_the_notes_for_those_below_are_gone():
    rules = dict(zip(ROLES, roles().splitlines(), strict=True))
    for role, rule in rules.items():
        for number, each in enumerate(ROLES):
            allowed = number <= ROLES.index(role)
            assert (f".for-{each}," in rule) != allowed
            assert (f".below-{each}" in rule) == allowed
    assert {each.role for each in actions().values()} <= set(ROLES)
