"""File and folder names as people, other systems and attackers give them."""

import unicodedata

_RESERVED = ("CON", "nul", "aux.jpg", "COM1", "LPT9", "CONIN$", "prn.tar", "clock$")
_DOTS = ("a.", "a..", "a...b", "two..dots", "a. b", "trailing ", " leading", " both ", "a.png", "a.jpg.tiff", "v1.2.3")
_LONG = ("x" * 251, "ü" * 125, "日" * 83, "🎨" * 62, "a." + "y" * 240)
_UNSEEN = (
    "a\u202egnp.exe", "zero\u200bwidth", "soft\u00adhyphen", "bom\ufeffinside", "\u2066left\u2069", "nbsp\u00a0x",
    "joined\u200d", "ideographic\u3000space", "line\u2028separator", "next\x85line", "sign\ufe0f", "tag\U000e0041",
)  # fmt: skip
_CONTROLS = ("new\nline", "tab\tin", "carriage\rreturn", "bell\x07", "escape\x1b[31m", "delete\x7f", "unit\x1f", "\x01")
_SHELL = (
    "-rf", "--apply", "$(id)", "`id`", "${HOME}", "$HOME", "a;b", "a&b", "a|b", "a>b", "!x", "~", "~root", "#x", "^",
)  # fmt: skip
_FORMAT = (
    "%s", "%n%n", "{}", "{0.__class__}", "{{x}}", "%(name)s", "\\n", "\\", "a\\b", "C:", "C:\\x", "\\\\server\\x",
    "a:b", "12:30",
)  # fmt: skip
_QUOTES = ("'", '"', "it's", 'say "hi"', "a,b", ";", "=1+1", "+1", "@x", "a''b", '""', "''")
_MARKUP = ("<script>alert(1)<", "&amp;", "<img src=x onerror=x>", "'><svg", "--><u>", "]]>", "&#0;", "<")
_GLOBS = ("*", "?", "[a]", "[a]*?", "[!a]", "[", "]", "**", "a*")
_SCRIPTS = (
    "🎨", "👩\u200d👩\u200d👧", "🇩🇪", "日本", "한국", "שלום", "بيت", "ß", "ſ", "İ", "ı", "Ω", "\u2126", "ﬁ", "𝔸",
    "e\u0301\u0327", "\u0301",
)  # fmt: skip
_WORDS = ("metadata", "rights", "manifest", "README", "null", "None", "true", "0", "-1", "1e5", "index", "text")

_ALL = (_RESERVED, _DOTS, _LONG, _UNSEEN, _CONTROLS, _SHELL, _FORMAT, _QUOTES, _MARKUP, _GLOBS, _SCRIPTS, _WORDS)
STEMS = tuple(dict.fromkeys(name for names in _ALL for name in names))
"""Names without an ending; with ".png" none has more than 255 bytes or a slash."""

TWINS = (
    (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")),
    (unicodedata.normalize("NFC", "한"), unicodedata.normalize("NFD", "한")),
    ("case", "CASE"),
    ("Straße", "STRASSE"),
)
"""Names that other file systems take for one."""

FOLDERS = (
    "manifest.jsonl", "rights.csv", "metadata.csv", "metadata.jsonl", "CON", "a.png", "x.txt", "[a]", "*", "-rf", "%s",
    " ", "a ", "sub\\dir", "C:", "<b>", "\u202e", "..a", "...", "🎨", "new\nline", "é", "e\u0301", "'", '"', "10_style",
)  # fmt: skip
"""Names of folders with a picture in them."""
