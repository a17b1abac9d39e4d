"""Whatever a page may refuse, find or report is said in every language; the English sentence in the code is its key."""

import ast
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from webui.actions import _SAID
from webui.refusals import refusal
from webui.text import Text, catalogue

ROOT = Path(__file__).parents[2]
PACKAGES = ("webui", "lora_diffusion", "datasets_tools")
ELSEWHERE = (
    "webui/serving.py",  # how the studio is started
    *(f"lora_diffusion/cli{each}.py" for each in ("", "_audit", "_caption", "_evaluate", "_files", "_generate")),
    *(f"lora_diffusion/cli_{each}.py" for each in ("library", "pictures", "plan", "rights", "ui")),
    "lora_diffusion/demo",
    "lora_diffusion/console.py",
    "lora_diffusion/extracting.py",
    "lora_diffusion/resizing.py",
    "lora_diffusion/lowrank.py",
    "lora_diffusion/objectives.py",
    "lora_diffusion/evaluation/evaluating.py",
    "lora_diffusion/files/compare.py",
    "lora_diffusion/files/fix.py",
    "lora_diffusion/files/plot.py",
    "datasets_tools/batches.py",
    "datasets_tools/report.py",
    "datasets_tools/captioners/blip.py",
    "datasets_tools/captioners/wd_tagger.py",
)
"""What only the command line can come upon."""

FINDINGS = {"blocks": (2, 3), "warns": (2, 3), "notes": (2, 3), "refuse": (1, 2)}
"""What makes findings -> which arguments are sentences."""
TOLD = {"error", "hint", "refused", "reason", "remedy"}
"""Keywords, and keys of events, whose sentences reach a page."""
TELLERS = {"sentence", "_instead", "_refusal"}
"""Functions of the studio that return one sentence of several."""
OWN = 5
"""Letters of its own by which a sentence with places is known; one with fewer would claim too many others."""


@cache
def errors() -> frozenset[str]:
    """Return the names of all classes of errors of the three packages."""
    bases: dict[str, set[str]] = {}
    for path in (each for package in PACKAGES for each in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {base.id for base in node.bases if isinstance(base, ast.Name)}
    found = {"StudioError", "LoraDiffusionError", "DatasetError"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return frozenset(found)


def sentences(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (place in the code, sentence) with {} for what is filled in, as far as the code spells them out."""
    tree = ast.parse(path.read_text("utf-8"))
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        for said in told(node, studio=path.is_relative_to(ROOT / "webui") or path.name == "serving.py"):
            for pieces in spelt(said, above):
                yield f"{path.relative_to(ROOT)}:{said.lineno}", pieces


def told(node: ast.AST, *, studio: bool) -> list[ast.expr]:
    if isinstance(node, ast.FunctionDef) and studio and node.name in TELLERS:
        lists = [each.values for each in ast.walk(node) if isinstance(each, ast.Dict)]
        returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
        return [*returned, *(value for values in lists for value in values)]
    if isinstance(node, ast.Dict) and studio:
        pairs = zip(node.keys, node.values, strict=True)
        return [value for key, value in pairs if isinstance(key, ast.Constant) and key.value in {"reason", "hint"}]
    if not isinstance(node, ast.Call):
        return []
    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
    if name in errors():
        shown = [each.value for each in node.keywords if each.arg == "hint" and name != "WrongArguments"]
        return [*node.args[:1], *shown]
    if name in FINDINGS:
        return [node.args[place] for place in FINDINGS[name] if place < len(node.args)]
    return [each.value for each in node.keywords if each.arg in TOLD] if studio or name == "Finding" else []


def spelt(node: ast.AST, above: dict[ast.AST, ast.AST], depth: int = 0) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)) if text.strip():
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in values)
        case ast.IfExp(body=one, orelse=other):
            yield from (*spelt(one, above, depth), *spelt(other, above, depth))
        case ast.BoolOp(values=values):
            yield from (text for each in values for text in spelt(each, above, depth))
        case ast.Name(id=name) if depth < 2:
            yield from (text for each in assigned(name, node, above) for text in spelt(each, above, depth + 1))


def assigned(name: str, node: ast.AST, above: dict[ast.AST, ast.AST]) -> list[ast.expr]:
    """Return what a name is set to in the function around a node, or else in the module."""
    while node in above:
        node = above[node]
        if isinstance(node, ast.FunctionDef | ast.Module):
            found = [each for part in ast.walk(node) for each in set_here(part, name)]
            if found or isinstance(node, ast.Module):
                return found
    return []


def set_here(node: ast.AST, name: str) -> Iterator[ast.expr]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                yield node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=True)
                yield from (value for one, value in pairs if isinstance(one, ast.Name) and one.id == name)


def entries() -> dict[str, dict[str, str]]:
    return {key: strings for key, strings in catalogue().items() if key.startswith("refusals.")}


def words(sentence: str) -> str:
    """Return an entry with {} for its places, as `sentences` tells it."""
    return "".join(text + ("{}" if name is not None else "") for text, name, *_ in string.Formatter().parse(sentence))


def letters(sentence: str) -> int:
    return len(re.findall("[A-Za-z]", sentence.replace("{}", "")))


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_refused_or_found_is_said_in_german(package):
    known = {words(strings["en"]) for strings in entries().values()}
    least = 1 if package == "webui" else OWN + 1
    files = [
        each for each in sorted((ROOT / package).rglob("*.py")) if not str(each.relative_to(ROOT)).startswith(ELSEWHERE)
    ]
    missing = {
        sentence: place
        for path in files
        for place, sentence in sentences(path)
        if sentence not in known and letters(sentence) >= least
    }
    assert missing == {}, "add it with its German to webui/strings/refusals.toml"


def test_what_is_wrong_with_an_argument_is_said_in_german():
    known = {words(strings["en"]) for strings in entries().values()}
    assert [said for said in _SAID.values() if words(said) not in known] == []


def test_no_two_entries_claim_the_same_sentence():
    found: dict[str, str] = {}
    for key, strings in entries().items():
        assert words(strings["en"]) not in found, f"{key} and {found[words(strings['en'])]}"
        found[words(strings["en"])] = key


FILLED = {"near": "did you mean 'x1'? ", "kind": "a PNG", "how": "truncated: the file ends too early"}


@pytest.mark.parametrize("key", sorted(entries()))
def test_a_sentence_is_known_by_its_words(key):
    english, german = (entries()[key][language] for language in ("en", "de"))
    names = [name for _, name, *_ in string.Formatter().parse(english) if name is not None]
    assert not names or letters(words(english)) >= OWN, "its own words have to tell it from others"
    given = {name: FILLED.get(name, f"x{number}") for number, name in enumerate(names, 1)}
    t = Text("de")
    shown = {name: refusal(t, value.strip()) + " " * value.endswith(" ") for name, value in given.items()}
    assert refusal(t, english.format(**given)) == german.format(**shown) != english.format(**given)


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("there is already a user Ann", "Es gibt schon jemanden mit dem Namen Ann."),
        ("Ann is viewer; this needs admin", "Das darf Ann nicht: Ann darf ansehen; nötig ist: darf alles."),
        ("Ink@1 is draft, not in review", "Ink@1 steht auf „Entwurf“, nicht in Prüfung."),
        ("it can become draft or approved", "Möglich ist: Entwurf oder Freigegeben."),
        ("weight low has to be at most 2", "„kleinste Stärke“ darf höchstens 2 sein."),
        ("a b.png is a PDF; pictures can be PNG", "a b.png ist ein PDF; Bilder können sein: PNG."),
        ("Ink cannot be a name: it looks like a file", "Ink kann kein Name sein: Er sieht wie eine Datei aus."),
        ("plan.toml: there is no file x", "plan.toml: Eine Datei x gibt es nicht."),
        ("data: Field required; run.steps: Field required", "data: fehlt. run.steps: fehlt."),
        (
            "the style is close to your pictures (84 of 100); more weight hardly gains",
            "Der Stil ist nah an Ihren Bildern (84 von 100). Mehr Stärke bringt kaum etwas.",
        ),
        (
            "it has a plain frame or bar (5% at the left, 7% at the top), which would be learned as part of the look",
            "Es hat einen einfarbigen Rahmen oder Balken (5% links, 7% oben), der als Teil des Stils gelernt würde.",
        ),
        ("RuntimeError: sizes of tensors must match", "RuntimeError: sizes of tensors must match"),
        ("it is something else", "it is something else"),
    ],
)
def test_a_sentence_is_told_in_german_with_what_stands_in_it(english, german):
    assert refusal(Text("de"), english) == german
    assert refusal(Text("en"), english) == english
