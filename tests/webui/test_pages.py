"""What pages offer is what the rules allow."""

import re
from types import SimpleNamespace

import pytest

from datasets_tools.finding import blocks, warns
from lora_diffusion.library import MOVES
from webui.actions import actions
from webui.context import Context
from webui.pages._datasets_words import grouped, said
from webui.pages._library_versions import NEXT
from webui.pages._train_curve import curve
from webui.studio import Studio
from webui.text import Text, catalogue
from webui.theme import roles
from webui.users import ROLES

PICTURE = {
    "src": "",
    "row": SimpleNamespace(file="a.png", caption="", crop=None, excluded=False, size=None, rights_problem=""),
}


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


def test_a_page_tells_in_its_language_what_went_wrong_and_not_where_the_studio_lies(tmp_path):
    ctx = Context(Studio(tmp_path), Text("de"), "/de")
    hash = "7f" * 32
    assert ctx.worded(f"{tmp_path}/uploads/{hash}/a.png does not exist") == "a.png gibt es nicht."
    html = ctx.render("problem", text=f"there is no plan at {tmp_path}/runs/x.toml", hint="see the log")
    assert "Unter runs/x.toml liegt kein Plan." in html
    assert "Mehr steht im Protokoll." in html


def test_places_of_base_models_that_were_added_later_are_not_told_either(studio, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    assert studio.without_places(f"{models}/a") == f"{models}/a"
    studio.remember_models([models])
    assert studio.without_places(f"{models}/a") == "a"


def test_a_finding_is_told_in_german_and_marked_where_it_cannot_be(tmp_path):
    ctx = Context(Studio(tmp_path), Text("de"), "/de")
    known = said(ctx, warns("image-tiny", "a.png", "it has only 20 x 30 pixels", "use a larger version, or remove it"))
    assert (known.reason, known.foreign) == ("Es hat nur 20 x 30 Pixel.", "")
    assert said(ctx, warns("image-odd", "a.png", "it is odd in some way", "leave it out")).foreign == "en"


def test_why_a_picture_was_withdrawn_is_told_in_german_before_a_training(tmp_path):
    found = blocks("picture-withdrawn", "a.png", "withdrawn: no consent", "leave it out")
    rights = SimpleNamespace(pictures=2, missing=(), expired=(), withdrawn=(found,))
    shown = Context(Studio(tmp_path), Text("de"), "/de").render("train_rights", found=rights, set="x", admin=False)
    assert "a.png: zurückgezogen: no consent" in shown


def test_the_same_finding_on_twenty_pictures_is_one_line_that_opens(tmp_path):
    ctx = Context(Studio(tmp_path), Text("en"), "/en")
    found = [warns("image-tiny", f"{number}.png", f"it is {number} pixels wide", "use another") for number in range(20)]
    found.insert(3, warns("image-blurred", "7.png", "it is blurred", "use another"))
    groups = grouped(said(ctx, one) for one in found)
    assert [len(group) for group in groups] == [20, 1]
    shown = ctx.render("datasets_picture", each={**PICTURE, "groups": groups}, rights=[])
    assert shown.count("Tiny picture") == 1
    assert "20 times: 0.png, 1.png, 2.png and 17 more" in shown
    assert shown.count("pixels wide") == 20


SYNONYMS = {
    "en": r"\b(teach\w*|taught|descriptions?|images?|rank|latents?|dialects?|merged checkpoint)\b",
    "de": r"\b(gelehrt\w*|lehren|lehrt|bildersammlung\w*|bildpunkte?n?|bildbeschreibung\w*|latent\w*)\b",
}
"""What stands for train, caption or prompt, picture and picture set elsewhere, and what is not said at all."""
OF_OTHERS = ("plan.", "fields.", "refusals.")
"""Settings for experts, and sentences that come from below."""


def test_a_thing_has_one_name_on_all_pages():
    found = [
        (key, language, strings[language])
        for key, strings in catalogue().items()
        for language, words in SYNONYMS.items()
        if not key.startswith(OF_OTHERS) and re.search(words, strings[language], re.IGNORECASE)
    ]
    assert found == []


def test_a_refusal_is_a_sentence_and_a_name_at_its_beginning_stays_as_it_is(tmp_path):
    ctx = Context(Studio(tmp_path), Text("en"), "/en")
    html = ctx.render("problem", text="drawing broke off", hint="see the log")
    assert "Drawing broke off." in html
    assert "See the log." in html
    assert ctx.sentence("papercut@1 was retired") == "papercut@1 was retired."


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        (
            [(20, 0.40), (40, 0.35), (60, 0.32)],
            "It learns the style: pictures put aside get better too (0.4000 at step 20",
        ),
        ([(20, 0.321), (40, 0.320), (60, 0.322)], "Pictures put aside hardly change any more (0.3210 at step 20"),
        ([(20, 0.32), (40, 0.34), (60, 0.36)], "It has begun to copy your pictures"),
    ],
)
def test_what_held_out_pictures_tell_is_what_their_numbers_say(tmp_path, held_out, said):
    ctx = Context(Studio(tmp_path), Text("en"), "/en")
    steps = tuple(range(1, 61))
    loss = tuple(1 / step for step in steps)
    drawn, _ = curve(ctx, SimpleNamespace(steps=steps, loss=loss, smoothed=loss, validation=tuple(held_out)))
    assert said in drawn


@pytest.mark.parametrize(("language", "one", "many"), [("en", "1 picture", "2 pictures"), ("de", "1 Bild", "2 Bilder")])
def test_one_of_a_thing_is_not_called_many(language, one, many):
    t = Text(language)
    assert (t("library.pictures", n=1), t("library.pictures", n=2)) == (one, many)
