"""What the captions of a set, and its trigger, say about how the adapter will listen to prompts."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from datasets_tools.caption import Caption, with_trigger
from datasets_tools.common_words import is_common
from datasets_tools.finding import Finding, notes, warns
from datasets_tools.style_words import style_words

__all__ = ["Tokens", "lint_captions", "lint_trigger", "mentions_lettering"]

_MOST_PIECES = 3  # a made-up word of five letters is two or three tokens; more take room from the caption
_LONGEST_TRIGGER = 32
# Below it one word more or less is another picture ("a red cat", "a cat"); above it is the same sentence again.
_MANY = 20_000
_SENTENCE = 8
_SHOWN = 80  # characters of a caption in a finding

_LETTERING = re.compile(
    r"""(?<!\w)(?:
        texts?|letter(?:s|ing|ed)?|handwriting|handwritten|typograph\w+|typeface|fonts?|calligraphy|inscriptions?
        |logos?|logotype|wordmarks?|monogram|signs?|signage|signboards?|billboards?|labels?|slogans?|headlines?
        |captioned|speech[ ]bubbles?|(?:the|a)[ ]words?|that[ ](?:reads|says)|watermarks?
        |schrift(?:en|z[uü]ge?)?|beschriftung(?:en)?|aufschrift(?:en)?|überschrift(?:en)?|handschrift\w*
        |buchstaben?|schriftart(?:en)?|typogra[fp]\w+|schild(?:er)?|etikett(?:en)?|sprechblasen?|wasserzeichen
    )(?!\w)
    | "[^"]{1,200}" | “[^”]{1,200}” | „[^“”]{1,200}[“”] | «[^»]{1,200}» | »[^«]{1,200}«""",
    re.IGNORECASE | re.VERBOSE,
)
_NONE_OF_IT = re.compile(
    r"(?<!\w)(?:no|without(?: any)?|ohne|keine?[nrms]?) [\w-]+(?: (?:or|and|oder|und) [\w-]+)*", re.I
)


class Tokens(Protocol):
    """How a text encoder cuts a text, as far as captions need to know."""

    @property
    def limit(self) -> int:
        """Return how many tokens of a caption the encoder reads (75 for CLIP: 77 less start and end)."""
        ...

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Return where each token stands in the text, as (start, end) in characters, special tokens excluded."""
        ...


def lint_captions(captions: Mapping[str, Caption], *, trigger: str, tokens: Tokens | None) -> list[Finding]:
    """Return what is to be said about the captions (by picture, without the trigger) themselves.

    captions-equal, caption-near-duplicate, caption-long (where `tokens` are given), caption-style-words and
    caption-lettering. Takes time in proportion to the number of captions.
    """
    texts = {file: caption.text for file, caption in captions.items() if caption.text}
    equal = list(_equal(texts))
    return [
        *equal,
        *([] if equal else _near_duplicates(texts)),
        *([] if tokens is None else _long(texts, trigger, tokens)),
        *_about_style(texts, trigger),
        *_about_lettering(texts),
    ]


def lint_trigger(trigger: str, captions: Mapping[str, Caption], tokens: Tokens | None) -> list[Finding]:
    """Return what is to be said about the trigger beside the captions (by picture, without the trigger added).

    trigger-none, trigger-common, trigger-odd, trigger-tokens (where `tokens` are given) and trigger-in-captions.
    """
    word = trigger.strip()
    if not word:
        reason = "without a trigger word the look appears in every picture made with the adapter"
        return [notes("trigger-none", "", reason, "set data.trigger to a made-up word, if that is not wanted")]
    if is_common(word):
        reason = f'"{word}" has a meaning of its own, which mixes with the look'
        return [warns("trigger-common", "", reason, 'use a made-up word, such as "brndx"')]
    return [
        *_odd(trigger),
        *([] if tokens is None else _pieces(word, tokens)),
        *_in_captions(word, {file: caption.text for file, caption in captions.items()}),
    ]


def mentions_lettering(text: str) -> bool:
    """Say whether a caption tells of writing in the picture: text, logo, sign, or something in quotation marks."""
    return _lettering(text) is not None


def _equal(texts: Mapping[str, str]) -> Iterator[Finding]:
    if len(texts) > 1 and len(set(texts.values())) == 1:
        reason = f'all {len(texts)} captions say "{next(iter(texts.values()))[:_SHOWN]}"'
        yield warns("captions-equal", "", reason, "say what each picture shows, so that the rest is the look")


def _near_duplicates(texts: Mapping[str, str]) -> list[Finding]:
    """Find captions that differ by one word at most, in linear time.

    Each is filed under the sum of its words' hashes, and under that sum less each of its words: two captions that
    differ by one word share one of these. Only the first of a group is filed, so many alike cost no more than few. In a
    set beyond 20,000 only captions of the same words are found: the other sums would take 2 kB each.
    """
    filed: dict[int, str] = {}  # only the file: 100,000 captions as words would be 100 MB
    alike: list[tuple[str, str]] = []
    for file, text in texts.items():
        words = _words(text)
        keys = _keys(words)[: None if len(texts) <= _MANY else 1]
        candidates = (filed[key] for key in keys if key in filed)
        twin = next((other for other in candidates if _is_near(words, _words(texts[other]))), None)
        if twin is not None:
            alike.append((file, twin))
        elif words:
            for key in keys:
                filed.setdefault(key, file)
    say = warns if 2 * len(alike) >= len(texts) else notes  # half of the set says nothing of its own
    remedy = "say what sets this picture apart"
    return [
        say("caption-near-duplicate", file, f'it says what that of {twin} says: "{texts[file][:_SHOWN]}"', remedy)
        for file, twin in alike
    ]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _keys(words: Sequence[str]) -> list[int]:
    whole = sum(map(hash, words))
    return [whole, *(whole - hash(word) for word in dict.fromkeys(words))] if len(words) >= _SENTENCE else [whole]


def _is_near(words: Sequence[str], others: Sequence[str]) -> bool:
    mine, theirs = Counter(words), Counter(others)
    return max((mine - theirs).total(), (theirs - mine).total()) <= (1 if len(words) >= _SENTENCE else 0)


def _long(texts: Mapping[str, str], trigger: str, tokens: Tokens) -> Iterator[Finding]:
    for file, text in texts.items():
        whole = with_trigger(text, trigger)
        spans = tokens.spans(whole)
        if len(spans) > tokens.limit:
            lost = whole[spans[tokens.limit][0] :]
            reason = f'it has {len(spans)} tokens, and {tokens.limit} are read; lost is "{_shortened(lost)}"'
            yield warns("caption-long", file, reason, "shorten it, or put what matters first")


def _about_style(texts: Mapping[str, str], trigger: str) -> Iterator[Finding]:
    own = re.compile(rf"(?<!\w){re.escape(trigger.strip())}(?!\w)", re.IGNORECASE) if trigger.strip() else None
    remedy = "leave the style out: what captions do not name is what the trigger learns"
    for file, text in texts.items():
        words = style_words(own.sub(",", text) if own else text)
        if words:
            named = ", ".join(f'"{word[:40]}"' for word in words)
            yield notes("caption-style-words", file, f"it names the style: {named}", remedy)


def _about_lettering(texts: Mapping[str, str]) -> Iterator[Finding]:
    for file, text in texts.items():
        found = _lettering(text)
        if found is not None:
            reason = f'it tells of lettering: "{found[:40]}"; adapters learn the look of letters, not their spelling'
            yield notes("caption-lettering", file, reason, "set words in a layout program; use pictures without them")


def _lettering(text: str) -> str | None:
    found = _LETTERING.search(_NONE_OF_IT.sub(" ", text))
    return None if found is None else found.group()


def _odd(trigger: str) -> Iterator[Finding]:
    word = trigger.strip()
    oddities = {
        "has white space": re.search(r"\s", trigger) is not None,
        "has punctuation": any(not (sign.isalnum() or sign.isspace() or sign in "-_") for sign in word),
        f"is {len(word)} characters long": len(word) > _LONGEST_TRIGGER,
    }
    named = " and ".join(oddity for oddity, holds in oddities.items() if holds)
    if named:
        reason = f'"{word[:_SHOWN]}" {named}; it is easy to mistype, and every part of it has to stand in the prompt'
        yield notes("trigger-odd", "", reason, 'one short word of letters and digits, such as "brndx", is safest')


def _pieces(word: str, tokens: Tokens) -> Iterator[Finding]:
    spans = tokens.spans(word)
    if len(spans) > _MOST_PIECES:
        pieces = " + ".join(word[start:end] for start, end in spans)
        reason = f'"{word}" is read as {len(spans)} tokens ({pieces[:_SHOWN]}), and each has a meaning already'
        yield notes("trigger-tokens", "", reason, "a shorter made-up word is learned sooner")


def _in_captions(word: str, texts: Mapping[str, str]) -> Iterator[Finding]:
    """Report a trigger that captions use as a word of their own. Where most have it, somebody put it there."""
    escaped = re.escape(word)
    whole = re.compile(rf"(?<!\w){escaped}(?!\w)", re.IGNORECASE)
    inside = re.compile(rf"(?<=\w){escaped}|{escaped}(?=\w)", re.IGNORECASE)
    remedy = "choose a word that the captions do not use"
    used = _where(texts, lambda text: whole.search(text) is not None and whole.match(text) is None)
    having = _where(texts, lambda text: whole.search(text) is not None)
    if used and 2 * len(having) < len(texts):
        reason = f'"{word}" is a word of {len(used)} of {len(texts)} captions, such as {used[0]}'
        yield warns("trigger-in-captions", "", f"{reason}, and gets no place of its own there", remedy)
    within = _where(texts, lambda text: inside.search(text) is not None) if len(word) > 2 else []
    if within:
        reason = f'"{word}" is a part of "{_word_around(inside, texts[within[0]])}" in {within[0]}'
        more = f" and of words in {len(within) - 1} more captions" if len(within) > 1 else ""
        yield notes("trigger-in-captions", "", f"{reason}{more}; such words may pull the look in", remedy)


def _where(texts: Mapping[str, str], holds: Callable[[str], bool]) -> list[str]:
    return [file for file, text in texts.items() if holds(text)]


def _word_around(pattern: re.Pattern[str], text: str) -> str:
    """Return the word in which the pattern is first found, at most so much of it as is shown."""
    found = pattern.search(text)
    assert found is not None
    before = re.search(r"\w{0,40}$", text[max(0, found.start() - 40) : found.start()])
    after = re.match(r"\w{0,40}", text[found.end() :])
    return f"{before.group() if before else ''}{found.group()}{after.group() if after else ''}"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
