"""Names are data: what could leave a folder, hide, collide or fool a reader is refused everywhere."""

import unicodedata

import pytest

from lora_diffusion.errors import UsageError
from lora_diffusion.library import require_name
from tests.library.made import ANN

_DEVICES = ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"))
BAD = (
    "", " ", ".", "..", "...", "-", "_", "- -", "../x", "..\\x", "x/..", "x/../y", "/abs", "/etc/passwd",
    "//host/share", "\\\\host\\share", "C:\\x", "C:x", "c:/x", "file:///x", "~", "~root", "$HOME", "%TEMP%",
    "${x}", "`x`", "x|y",
    "x;y", "x&y", "x>y", "<x>", "x?y", "x*y", 'x"y', "x'y", "x:y", "x@y", "@", "@3", "x@@3", "brand:0.8",
    "a,b", "a+b", "a=b",
    "#x", "!x", "(x)", "[x]", "{x}", "x\ty", "x\ny", "x\ry", "x\0", "\0", "x\x1b[31m", "x\x7f", "x\x85", "x\u2028y",
    " x", "x ", ".x", "x.", "x..y", "x  y", "x\u00a0y", "x\u2003y", "x\u3000y", "\ufeffx", "x\u200b", "x\u200dy",
    "\u202excod", "x\u202ey", "x\u2066y", "x\u200fy", "x\u00ady", "\U000e0041x", "x\ufffd", "\ud800", "x\udfff",
    "x\ue000", "x\uffff", "\U0001f600", "x\u2044y", "x\u2215y", "x\uff0fy", "x\uff3cy", "x\u29f5y", "x\u2024\u2024y",
    "x\uff0e\uff0ey", "½", "①", "Ⅷ", "x" * 65, "x" * 400, "ä" * 65, "x.safetensors", "X.SAFETENSORS",
    "nul.safetensors", "con .x", "a" * 32, "0" * 64, "ABCDEF0123456789" * 2, "conin$", "CONOUT$",
    *_DEVICES, *(f"{name}.txt" for name in _DEVICES), *(name.upper() for name in _DEVICES),
)  # fmt: skip
GOOD = (
    "x", "Brand", "brand-2", "brand_2", "brand.v2", "Autumn 2026", "2026", "3", "Ärger", "Größe", "naïve", "日本語",
    "हिन्दी", "العربية", "Ελλάδα", "кисть", "console", "nulls", "com10", "lpt", "aux2", "x" * 64, "a.b.c", "a - b",
    "approved", "DROP TABLE versions", "x.zip", "l\u0327",
)  # fmt: skip


def shown(name):
    return ascii(name)[:40]


@pytest.mark.parametrize("name", BAD, ids=shown)
def test_a_name_that_could_do_harm_is_refused(name):
    with pytest.raises(UsageError) as refused:
        require_name(name)
    assert refused.value.hint
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", GOOD, ids=shown)
def test_names_of_all_languages_are_kept(library, files, name):
    assert library.add(files[0], name=name, **ANN).name == unicodedata.normalize("NFC", name)
    assert library.version(name).ref == f"{unicodedata.normalize('NFC', name)}@1"
    assert [path.suffix for path in library._store.objects.files()] == [".safetensors"]
    assert library.verify() == []


def test_every_call_that_takes_a_name_refuses_the_bad_ones(library, files, drawn):
    library.add(files[0], name="Ink", **ANN)
    calls = {
        "add": lambda name: library.add(files[1], name=name, **ANN),
        "rename to": lambda name: library.rename("ink", name, **ANN),
        "rename": lambda name: library.rename(name, "x", **ANN),
        "rollback": lambda name: library.rollback(name, 1, **ANN, reason="x"),
        "version": library.version,
        "path": library.path,
        "lineage": library.lineage,
        "samples": library.samples,
        "comments": library.comments,
        "where used": library.where_used,
        "compare": lambda name: library.compare("ink", name),
        "describe": lambda name: library.describe(name, **ANN, notes="x"),
        "promote": lambda name: library.promote(name, "in_review", **ANN),
        "comment": lambda name: library.comment(name, "x", **ANN),
        "sample": lambda name: library.add_sample(name, drawn[0], **ANN),
        "pack": lambda name: library.pack(name, library.home / "x.zip"),
        "history": lambda name: library.history(name) if name else library.version(name),
        "picture": library.picture,
        "pictures": lambda name: library.pictures(before=name or "?"),
        "star": lambda name: library.star(name, **ANN),
        "object": library.object,
    }
    before, head = tree(library.home), library.head()
    for what, call in calls.items():
        for name in BAD:
            with pytest.raises(UsageError):
                pytest.fail(f"{what} took {name!a}: {call(name)}")
    assert library.head() == head
    assert tree(library.home) == before


def tree(folder):
    """Every file but those of SQLite, which come and go."""
    return {path for path in folder.rglob("*") if not path.name.startswith("library.db")}


TWINS = (
    ("Brand", "BRAND"), ("Straße", "STRASSE"), ("é", "e\u0301"), ("Å", "\u212b"), ("ﬁn", "fin"), ("ΣΑΣ", "σας"),
    ("abc", "ａｂｃ"), ("İx", "i\u0307x"),
)  # fmt: skip


@pytest.mark.parametrize(("first", "second"), TWINS, ids=shown)
def test_twins_are_one_name(library, files, first, second):
    library.add(files[0], name=first, **ANN)
    assert library.add(files[1], name=second, **ANN).number == 2
    library.add(files[2], name="other", **ANN)
    with pytest.raises(UsageError, match="already"):
        library.rename("other", second, **ANN)


@pytest.mark.parametrize("which", ["", "0", "-1", "01", "1.0", "1e3", "٣", "latest", "1@2", " 1", "1" * 10, "0x1"])
def test_a_reference_counts_versions_in_plain_digits(library, files, which):
    library.add(files[0], name="Ink", **ANN)
    with pytest.raises(UsageError):
        library.version(f"ink@{which}")
