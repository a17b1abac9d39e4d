import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_tools.caption import Caption
from datasets_tools.caption_lint import lint_captions, lint_trigger, mentions_lettering
from datasets_tools.style_words import style_words


class Words:
    """Tokens of at most four letters, as a small vocabulary would cut words."""

    limit = 5

    def spans(self, text):
        return [match.span() for match in re.finditer(r"\w{1,4}|[^\w\s]", text)]


def captions(*texts):
    return {f"{number}.png": Caption(text=text, source=f"{number}.txt") for number, text in enumerate(texts)}


def lint(*texts, trigger="brndx", tokens=None):
    return lint_captions(captions(*texts), trigger=trigger, tokens=tokens)


def found(findings):
    return [(finding.code, finding.severity, finding.file) for finding in findings]


LONG = "a small red house stands by a wide river at noon"


def test_captions_about_content_give_no_findings():
    assert lint("a house", "a cat on a table", "two boats at sea", LONG, "", tokens=None) == []


def test_equal_captions_are_one_finding():
    (finding,) = lint("a house", "a house", "")
    assert (finding.code, finding.severity, finding.file) == ("captions-equal", "warns", "")
    assert "all 2 captions" in finding.reason


@pytest.mark.parametrize(
    "other",
    [
        LONG.upper(),
        "at noon a small red house stands by a wide river",
        LONG.replace(" wide", ""),
        LONG.replace("house", "house, tall"),
        LONG.replace("red", "blue"),
        LONG.replace(" by", ", by") + "!",
    ],
)
def test_captions_that_differ_by_one_word_at_most_are_found(other):
    (finding,) = lint(LONG, "a cat", "a dog", "two birds", other)
    assert (finding.code, finding.severity, finding.file) == ("caption-near-duplicate", "notes", "4.png")
    assert "0.png" in finding.reason


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a red cat", "a cat"),
        ("a red cat", "a blue cat"),
        (LONG, LONG.replace("red", "blue").replace("noon", "night")),
        (LONG, LONG.replace("wide river", "house")),
        ("a a a b b b c c c d", "a b c d"),
        ("", "a"),
        ("!", "?"),
    ],
)
def test_captions_that_differ_by_more_are_not(one, other):
    assert lint(one, other, "a dog", "two birds") == []


def test_a_set_that_mostly_repeats_itself_is_a_warning():
    findings = lint(LONG, LONG + " sharp", LONG + " early", "a cat")
    assert found(findings) == [
        ("caption-near-duplicate", "warns", "1.png"),
        ("caption-near-duplicate", "warns", "2.png"),
    ]


@given(st.lists(st.sampled_from("abcdefgh"), min_size=9, max_size=14), st.integers(), st.data())
def test_leaving_out_any_word_and_changing_the_order_is_always_found(words, seed, data):
    left = list(words)
    left.pop(data.draw(st.integers(0, len(words) - 1)))
    random.Random(seed).shuffle(left)
    assert len(lint(" ".join(words), " ".join(left))) == 1


def test_twenty_thousand_captions_are_compared_in_seconds():
    draw = random.Random(0)
    words = [f"word{number}" for number in range(3_000)]
    texts = [" ".join(draw.choices(words, k=12)) for _ in range(10_000)]
    started = time.process_time()
    findings = lint(*texts, *texts)
    assert len(findings) == 10_000
    assert time.process_time() - started < 10  # 1 s here; comparing each with each takes minutes


def test_what_the_encoder_does_not_read_is_shown():
    (finding,) = lint("a cat sits on walls", tokens=Words())
    assert (finding.code, finding.severity, finding.file) == ("caption-long", "warns", "0.png")
    assert finding.reason == 'it has 9 tokens, and 5 are read; lost is "sits on walls"'
    assert lint("a cat", tokens=Words()) == []


def test_the_trigger_counts_for_the_length():
    assert lint("a cat sits on us", tokens=Words(), trigger="") == []
    assert [finding.code for finding in lint("a cat sits on us", tokens=Words())] == ["caption-long"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a watercolor of a cat", ("watercolor",)),
        ("Watercolour painting, a cat", ("Watercolour painting",)),
        ("a flat vector illustration of a cup", ("flat vector illustration",)),
        ("a cat, anime, line-art, pixel_art", ("anime", "line-art", "pixel_art")),
        ("a cup in the style of Hokusai, blue", ("in the style of Hokusai",)),
        ("a cup in a bold comic style", ("in a bold comic style",)),
        ("a poster, art by Jane Doe", ("art by Jane Doe",)),
        ("two sketches, oil paintings", ("sketches", "oil paintings")),
        ("ein Aquarell einer Katze", ("Aquarell",)),
        ("ein minimalistisches Haus, Ölgemälde", ("minimalistisches", "Ölgemälde")),
        ("ein Hund im Stil von Picasso", ("im Stil von Picasso",)),
        ("ein Haus im flachen Comicstil", ("im flachen Comicstil",)),
        ("anime, a cat, Anime", ("Anime",)),
        ("a cat on a sofa by the window", ()),
        ("the water colour of the sea, animal, oil, paint bucket", ()),
        ("a stylish house", ()),
    ],
)
def test_words_of_style_are_found_in_english_and_german(text, words):
    assert style_words(text) == words


def test_a_caption_that_names_its_style_is_told_why_not_to():
    (finding,) = lint("a watercolor of a cat, film grain", "a dog")
    assert (finding.code, finding.severity, finding.file) == ("caption-style-words", "notes", "0.png")
    assert '"watercolor", "film grain"' in finding.reason
    assert "what captions do not name is what the trigger learns" in finding.remedy


def test_a_trigger_may_contain_words_of_style():
    assert lint("acme anime, a cat", "a dog in Acme Anime colours", trigger="acme anime") == []


@pytest.mark.parametrize(
    "text",
    [
        "a shop with a sign",
        "the logo of a bakery",
        "a poster that says hello",
        'a mug, "GOOD MORNING"',
        "ein Schild mit „Ausverkauf“",
        "der Schriftzug auf dem Glas",
        "some text, bold typography",
        "hand lettering",
        "eine Flasche mit Etikett",
    ],
)
def test_lettering_is_recognised(text):
    assert mentions_lettering(text)
    (finding,) = lint(text, "a dog")
    assert (finding.code, finding.severity) == ("caption-lettering", "notes")


@pytest.mark.parametrize(
    "text",
    ["", "a house", "a designer at work", "12\" pipe", "the dog's bone, a cat's paw", "a bottle, no text", "context",
     "a cup without any logo or label", "eine Flasche ohne Schrift", "kein Text, ein Hund"],
)  # fmt: skip
def test_what_is_no_lettering_is_left_alone(text):
    assert not mentions_lettering(text)


def trigger(word, *texts, tokens=None):
    return lint_trigger(word, captions(*texts), tokens)


def test_a_made_up_word_is_a_good_trigger():
    assert trigger("brndx", "a house", "a cat", tokens=Words()) == []


@pytest.mark.parametrize("word", ["", "  "])
def test_no_trigger_is_said(word):
    assert found(trigger(word, "a house")) == [("trigger-none", "notes", "")]


@pytest.mark.parametrize("word", ["Style", "red dog", "Katze"])
def test_an_everyday_word_is_said_and_nothing_else(word):
    assert found(trigger(word, "a red dog", tokens=Words())) == [("trigger-common", "warns", "")]


def test_a_trigger_of_many_tokens_shows_its_pieces():
    (finding,) = trigger("abcdefghijklmn", tokens=Words())
    assert (finding.code, finding.severity) == ("trigger-tokens", "notes")
    assert "4 tokens (abcd + efgh + ijkl + mn)" in finding.reason


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("acme look", "white space"),
        (" brndx", "white space"),
        ("brndx!", "punctuation"),
        ("[brndx]", "punctuation"),
        ("x" * 33, "33 characters"),
    ],
)
def test_an_odd_trigger_is_said(word, says):
    (finding,) = trigger(word)
    assert (finding.code, finding.severity) == ("trigger-odd", "notes")
    assert says in finding.reason


def test_a_trigger_that_some_captions_use_as_a_word_is_said():
    (finding,) = trigger("acme", "a house of Acme", "a cat", "a dog")
    assert (finding.code, finding.severity) == ("trigger-in-captions", "warns")
    assert "1 of 3 captions, such as 0.png" in finding.reason


def test_a_trigger_that_somebody_put_into_the_captions_is_fine():
    assert trigger("brndx", "brndx, a house", "a cat", "a dog") == []
    assert trigger("brndx", "a house in brndx look", "a brndx cat", "a dog") == []


def test_a_trigger_inside_of_other_words_is_said_with_one_of_them():
    (finding,) = trigger("ana", "a yellow banana", "two bananas", "a cat")
    assert (finding.code, finding.severity) == ("trigger-in-captions", "notes")
    assert '"banana" in 0.png and of words in 1 more' in finding.reason
    assert trigger("qx", "a qxy") == []


@pytest.mark.parametrize("piece", ["x", '"', "“", "in a ", "no a-", "a-", "brnd", "im stil "])
def test_the_longest_caption_is_judged_in_no_time(piece):
    text = (piece * 65_536)[:65_536]
    started = time.process_time()
    lint(text, tokens=Words())
    trigger("brndx", text, tokens=Words())
    assert time.process_time() - started < 2  # 0.1 s here; a runaway pattern takes minutes


@given(st.text(), st.lists(st.text(), max_size=4))
def test_any_text_can_be_judged(word, texts):
    for finding in (*lint(*texts, trigger=word, tokens=Words()), *trigger(word, *texts, tokens=Words())):
        assert finding.reason
        assert finding.remedy
        assert not (finding.reason + finding.remedy).endswith(".")
