"""Text files as people and programs write them: decoded, or refused with the byte that does not fit."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datasets_tools.errors import UnreadableCaption
from datasets_tools.storage import human_bytes

__all__ = ["MAX_BYTES", "Decoded", "Spellings", "decode", "decode_text", "refuse_large", "tidy"]

# Longer than any encoder reads by far (77 tokens, T5 512); more is a wrong file, not a caption.
MAX_BYTES = 65_536
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),  # before UTF-16, whose mark it begins with
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
# What stands between two letters in no language; in Windows-1250 the bytes are Polish, Czech and Romanian letters.
_WITHIN_A_WORD = re.compile(r"[^\W\d_][¡¢£¥§©®¹²³¼½¾¿±°][^\W\d_]")
# The letters that have the same byte in Windows-1250, and words of them in one case: other alphabets look "öËòé".
_SURE = "ÁÂÄÇÉËÍÎÓÔÖÚÜÝáâäçéëíîóôöúüýß"
_SURE_WORD = re.compile(r"[A-ZÁÂÄÇÉËÍÎÓÔÖÚÜÝ]?[a-záâäçéëíîóôöúüýß]*|[A-ZÁÂÄÇÉËÍÎÓÔÖÚÜÝ]+")
_CP1252_SIGNS = set("€‚„…†‡‰‹›‘’“”•–—˜™ ¡¢£¥§©«®°±²³µ·¹º»¼½¾¿×÷")


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The text of a file and how it was written, so that it can be written the same way again.

    `guessed` says that the bytes mean something else in another common encoding.
    """

    text: str
    encoding: str = "utf-8"
    mark: bytes = b""
    guessed: bool = False

    def encoded(self, text: str) -> bytes:
        """Return other text in the same encoding with the same mark.

        Windows-1252 becomes UTF-8 with its mark, by which spreadsheets know it: it lacks most signs, and other text in
        it may read as something else.
        """
        if self.encoding == "cp1252":
            return text.encode("utf-8-sig")
        return self.mark + text.encode(self.encoding)


class Spellings:
    """File names, looked up as systems spell them: macOS writes "é" as two characters, most others as one.

    A name that is there to the character is meant, whatever else reads like it.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        ordered = sorted(self._names, reverse=True)  # the first of several spellings is assigned last
        self._composed = {whole: name for name in ordered if (whole := _composed(name)) != name}

    def find(self, *names: str) -> str | None:
        """Return the name that the first of these that is there means, or None."""
        meant = (name if name in self._names else self._spelt(_composed(name)) for name in names)
        return next((name for name in meant if name is not None), None)

    def _spelt(self, whole: str) -> str | None:
        """Return the name whose composed form this is, of several the first in order."""
        others = [self._composed[whole]] if whole in self._composed else []
        return min([whole, *others] if whole in self._names else others, default=None)


def decode(data: bytes, file: Path | str) -> Decoded:
    """Decode a text file: UTF-8, UTF-16 or UTF-32 by their marks, Windows-1252 where that is plausible.

    Raises UnreadableCaption with the file and the byte offset.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return Decoded(text=_decoded(data[len(mark) :], encoding, file, len(mark)), encoding=encoding, mark=mark)
    if b"\0" in data:
        raise UnreadableCaption(
            f"{file} has a NUL byte at offset {data.index(0)}: it is not text, or UTF-16 without its mark",
            hint="save it as UTF-8",
        )
    try:
        return Decoded(text=data.decode("utf-8"))
    except UnicodeDecodeError as error:
        if _plausible_cp1252(data):
            text = data.decode("cp1252")
            return Decoded(text=text, encoding="cp1252", guessed=text != data.decode("cp1250", "replace"))
        raise _undecodable(file, "UTF-8", error.start) from error


def decode_text(data: bytes, file: Path | str) -> str:
    """Return the text of a caption file as `decode` does. Raises UnreadableCaption, also for more than 64 KiB."""
    refuse_large(len(data), file)
    return decode(data, file).text


def refuse_large(size: int, file: Path | str) -> None:
    """Raise UnreadableCaption where a caption file has more than 64 KiB, before anybody reads it."""
    if size > MAX_BYTES:
        raise UnreadableCaption(
            f"{file} is {human_bytes(size)} large; a caption has at most {human_bytes(MAX_BYTES)}",
            hint="check that it is the caption of this picture",
        )


def tidy(text: str) -> str:
    """Return the text as one line: lines joined by ", ", white space and control characters as single spaces."""
    lines = [" ".join(_printable(line).split()) for line in text.splitlines()]
    joined = ""
    for line in filter(None, lines):
        joined += (" " if joined.endswith((",", ".", ";", "!", "?")) else ", " if joined else "") + line
    return joined


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _printable(line: str) -> str:
    return "".join(" " if unicodedata.category(sign) in {"Cc", "Cs"} else sign for sign in line.replace("\ufeff", ""))


def _decoded(data: bytes, encoding: str, file: Path | str, skipped: int) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(file, encoding.upper(), skipped + error.start) from error
    if "\0" in text:
        offset = skipped + len(text[: text.index("\0")].encode(encoding))
        raise UnreadableCaption(f"{file} has a NUL character at offset {offset}", hint="save it as UTF-8")
    return text


def _undecodable(file: Path | str, encoding: str, offset: int) -> UnreadableCaption:
    return UnreadableCaption(f"{file} is not {encoding}: byte {offset} does not fit", hint="save it as UTF-8")


def _plausible_cp1252(data: bytes) -> bool:
    """Say whether the text reads as western European: few special letters, never many in a row.

    Shift-JIS and other encodings also decode as Windows-1252, into noise such as "ƒeƒXƒg"; that would be trained on.
    """
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return False
    special = [sign for sign in text if ord(sign) > 127]
    latin = all(
        sign in _CP1252_SIGNS or (sign.isalpha() and ord(sign) >= 0xC0) or sign in "ŠšŽžŒœŸªÿ" for sign in special
    )
    if not latin or _WITHIN_A_WORD.search(text):
        return False
    crowded = re.search(r"[^\x00-\x7f]{3,}", text) is not None
    few = not crowded and len(special) <= 0.3 * len(text)  # "Größe, Fuß, Übermaß": 0.26
    return few or all(_is_sure(word) for word in re.findall(r"\w+", text) if not word.isascii())


def _is_sure(word: str) -> bool:
    """Say whether a word can hardly be anything but western European, however short the text: "Öl", "Öfen", "Füße"."""
    known = all(sign in _SURE for sign in word if not sign.isascii())
    crowded = re.search(r"[^\x00-\x7f]{2}", re.sub("[äöü]ß", "ß", word)) is not None
    plain = any(sign.isascii() and sign.isalpha() for sign in word)  # a letter alone may be one of any alphabet
    return known and plain and not crowded and _SURE_WORD.fullmatch(word) is not None
