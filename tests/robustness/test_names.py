"""Names are data: whatever a file is called, it is found, told, edited and left out by exactly that name."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from datasets_tools.caption import find_captions
from datasets_tools.check import DataSettings, check_folder
from datasets_tools.edit import Prepend
from datasets_tools.editing import apply_edits, exclude_pictures, include_pictures, preview_edits, undo_edits
from datasets_tools.errors import DatasetError
from datasets_tools.listing import list_folder
from datasets_tools.manifest import Rights, leaves, read_manifest
from datasets_tools.prepare import prepare_folder
from datasets_tools.report import write_report
from datasets_tools.scan import scan_folder
from tests.datasets_tools.corpus import encoded, scene
from tests.datasets_tools.page import Page
from tests.robustness.names import FOLDERS, STEMS, TWINS

PICTURES = [encoded(scene(40, 40, seed=seed), "PNG") for seed in range(3)]
OTHER = "other.png"
KEPT = [stem for stem in STEMS if not leaves(stem)]
LEADING_OUT = [stem for stem in STEMS if leaves(stem)]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="that system refuses half of these names")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".captions" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def put(folder: Path, name: str) -> str:
    """Put a picture with a caption into the folder under this name, another beside it; return the picture's name."""
    picture = folder / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    try:
        picture.write_bytes(PICTURES[0])
    except OSError:
        pytest.skip("this file system refuses the name")
    (folder / f"{name}.txt").write_text("a shape\n")
    (folder / OTHER).write_bytes(PICTURES[1])
    return f"{name}.png"


def captions(folder: Path) -> dict[str, str]:
    """Return the captions of the pictures that a scan would keep, without decoding them 500 times."""
    listing = list_folder(folder)
    found = find_captions(listing.folder, listing.pictures, listing.texts)
    kept = [file for file in listing.pictures if file not in found.excluded]
    return {file: found.by_image[file].text if file in found.by_image else "" for file in kept}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """All names in one folder, each with its caption, checked and prepared once."""
    folder = tmp_path_factory.mktemp("names") / "pictures"
    folder.mkdir()
    for number, stem in enumerate(STEMS):
        (folder / f"{stem}.png").write_bytes(encoded(scene(40, 40, seed=number), "PNG"))
        (folder / f"{stem}.txt").write_text(f"shape {number}\n")
    page = folder.parent / "page.html"
    write_report(check_folder(folder, DataSettings()), page)
    prepare_folder(folder, DataSettings())
    return folder


def test_every_name_comes_back_from_the_manifest_with_its_own_caption(crowd):
    found = {record.file: record.caption for record in read_manifest(crowd / "manifest.jsonl").records}
    expected = {f"{stem}.png": f"shape {number}" for number, stem in enumerate(STEMS) if not leaves(stem)}
    assert len(expected) > 110
    assert found == expected


def test_names_that_lead_out_on_other_systems_are_refused_one_by_one_and_the_manifest_can_be_read(crowd):
    report = check_folder(crowd, DataSettings())
    refused = {finding.file for finding in report.findings if finding.severity == "blocks"}
    assert refused == {f"{stem}{ending}" for stem in LEADING_OUT for ending in (".png", ".txt")}
    assert len(LEADING_OUT) >= 4


def test_the_page_shows_every_name_as_text_and_nothing_of_it_as_markup(crowd):
    page = Page((crowd.parent / "page.html").read_text(encoding="utf-8"))
    shown = "".join(page.text.split())
    assert [stem for stem in KEPT if "".join(f"{stem}.png".split()) not in shown] == []
    assert {element["tag"] for element in page.elements} & {"script", "img", "u", "iframe"} == set()
    assert not any(name.startswith("on") for element in page.elements for name in element)


@pytest.mark.parametrize("stem", KEPT)
def test_an_edit_of_any_name_is_undone_to_the_byte_and_touches_nothing_beside_the_folder(tmp_path, stem):
    folder = tmp_path / "pictures"
    name = put(folder, stem)
    before = contents(folder)
    apply_edits(folder, [Prepend(text="a drawing of")])
    assert captions(folder) == {name: "a drawing of, a shape", OTHER: "a drawing of"}
    undo_edits(folder)
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.parametrize("stem", KEPT)
def test_any_name_is_left_out_alone_and_taken_in_again(tmp_path, stem):
    name = put(tmp_path, stem)
    exclude_pictures(tmp_path, [name])
    assert captions(tmp_path).keys() == {OTHER}
    include_pictures(tmp_path, [name])
    assert captions(tmp_path).keys() == {name, OTHER}


@pytest.mark.parametrize("stem", KEPT)
def test_rows_of_both_kinds_speak_of_exactly_the_name_they_hold(tmp_path, stem):
    name = put(tmp_path, stem)
    (tmp_path / f"{stem}.txt").unlink()
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": "from the row"}))
    with open(tmp_path / "rights.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file_name", "owner"], [name, "Ada"]])
    listing = list_folder(tmp_path)
    found = find_captions(tmp_path, listing.pictures, listing.texts)
    assert {file: caption.text for file, caption in found.by_image.items()} == {name: "from the row"}
    assert found.rights == {name: Rights(owner="Ada")}


@pytest.mark.parametrize("place", [one for one in FOLDERS if not one.startswith(".") and not leaves(one)])
def test_pictures_in_folders_of_any_name_are_found_with_their_captions(tmp_path, place):
    name = put(tmp_path, f"{place}/photo")
    assert captions(tmp_path) == {name: "a shape", OTHER: ""}
    prepare_folder(tmp_path, DataSettings(), out=tmp_path / "made.jsonl")
    assert {record.file for record in read_manifest(tmp_path / "made.jsonl").records} == {name, OTHER}
    before = contents(tmp_path)
    apply_edits(tmp_path, [Prepend(text="a drawing of")], select="*photo.png")
    assert captions(tmp_path)[name] == "a drawing of, a shape"
    undo_edits(tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_in_the_place_of_the_manifest_is_said_and_nothing_is_written(tmp_path):
    put(tmp_path, "manifest.jsonl/photo")
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match="cannot be written") as refused:
        prepare_folder(tmp_path, DataSettings())
    assert "choose another path" in refused.value.hint
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_names_that_are_one_on_other_systems_stay_two_here_and_are_warned_of(tmp_path, one, other):
    put(tmp_path, one)
    put(tmp_path, other)
    scanned = scan_folder(tmp_path)
    assert {record.file for record in scanned.manifest.records} == {f"{one}.png", f"{other}.png", OTHER}
    assert "name-collision" in {finding.code for finding in scanned.findings}


@pytest.mark.parametrize(("one", "other"), TWINS[:2])
def test_twins_keep_the_caption_that_is_spelt_as_they_are(tmp_path, one, other):
    for stem in (one, other):
        (tmp_path / put(tmp_path, stem)).with_suffix(".txt").write_text(ascii(stem))
    assert captions(tmp_path) == {f"{one}.png": ascii(one), f"{other}.png": ascii(other), OTHER: ""}


@pytest.mark.parametrize("left_out", [0, 1])
@pytest.mark.parametrize("twins", TWINS)
def test_of_twins_the_one_that_was_named_is_left_out(tmp_path, twins, left_out):
    names = [put(tmp_path, stem) for stem in twins]
    exclude_pictures(tmp_path, [names[left_out]])
    assert captions(tmp_path).keys() == {names[1 - left_out], OTHER}
    exclude_pictures(tmp_path, [names[1 - left_out]])
    include_pictures(tmp_path, [names[left_out]])
    assert captions(tmp_path).keys() == {names[left_out], OTHER}


def test_a_picture_is_selected_by_its_name_even_if_that_is_a_glob(tmp_path):
    name = put(tmp_path, "[a]")
    assert [one.file for one in preview_edits(tmp_path, [Prepend(text="x")], select=name)] == [name]


def test_a_name_that_leaves_no_room_for_a_caption_file_is_said(tmp_path):
    for ending in ("png", "jpg"):  # equal stems: the caption file is named after the whole name
        (tmp_path / f"{'x' * 251}.{ending}").write_bytes(PICTURES[0])
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match="cannot be written") as refused:
        apply_edits(tmp_path, [Prepend(text="a drawing of")])
    assert "shorter name" in refused.value.hint
    assert contents(tmp_path) == before


def test_a_folder_in_the_place_of_the_metadata_is_said(tmp_path):
    put(tmp_path, "metadata.jsonl/photo")
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match=r"metadata\.jsonl cannot be written: a folder has that name"):
        exclude_pictures(tmp_path, [OTHER])
    assert contents(tmp_path) == before


OUTSIDE = (
    "../secret.png", "..\\secret.png", "../../secret.png", "sub/../../secret.png", "*/../../secret.png", "/secret.png",
    "OUTSIDE", "~/secret.png", "C:\\secret.png", "C:secret.png", "\\\\server\\share\\secret.png", "\\secret.png",
    "//server/secret.png", "file:///secret.png", "", " ", ".", "..", "/", "\0", "secret.png\0", "../pictures/photo.png",
    "sub/../photo.png", "PHOTO.png", "photo.png.", "photo", "x" * 5000, "../" * 500 + "etc/passwd",
)  # fmt: skip


@pytest.mark.parametrize("row", OUTSIDE)
@pytest.mark.parametrize("file", ["metadata.jsonl", "metadata.csv", "rights.csv"])
def test_a_row_about_a_file_that_is_not_inside_says_nothing_and_is_listed(tmp_path, row, file):
    folder = tmp_path / "pictures"
    put(folder, "photo")
    (tmp_path / "secret.png").write_bytes(PICTURES[2])
    values = {"file_name": row.replace("OUTSIDE", str(tmp_path / "secret.png")), "text": "taken", "owner": "Eve"}
    if file.endswith(".jsonl"):
        (folder / file).write_text(json.dumps(values))
    else:
        with open(folder / file, "w", newline="", encoding="utf-8") as table:
            csv.writer(table).writerows([values, values.values()])
    assert captions(folder) == {"photo.png": "a shape", OTHER: ""}
    listing = list_folder(folder)
    found = find_captions(folder, listing.pictures, listing.texts)
    assert found.rights == {}
    said = {finding.code for finding in found.findings if finding.file == file}
    assert said & {"caption-orphan", "metadata-invalid", "caption-unreadable"}


# Tells every path that is opened, made, renamed or removed, as the interpreter sees it.
WATCH = """
import os, sys
from pathlib import Path
root = os.path.realpath(sys.argv[1])
inside = os.path.join(root, "pictures")
touched = []
def watch(event, arguments):
    if event in {"open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir", "os.link", "os.symlink"}:
        for one in arguments[:2]:
            if isinstance(one, (str, bytes)):
                path = os.path.realpath(os.path.join(os.getcwd(), os.fsdecode(one)))
                if path.startswith(root) and not path.startswith(inside):
                    touched.append(path)
from datasets_tools.caption import find_captions
from datasets_tools.check import DataSettings, check_folder
from datasets_tools.edit import Prepend
from datasets_tools.editing import apply_edits, exclude_pictures, undo_edits
from datasets_tools.prepare import prepare_folder
from datasets_tools.report import write_report
sys.addaudithook(watch)
check_folder(inside, DataSettings())
prepare_folder(inside, DataSettings())
apply_edits(inside, [Prepend(text="a drawing of")])
undo_edits(inside)
exclude_pictures(inside, ["photo.png"])
write_report(check_folder(inside, DataSettings()), Path(inside, "page.html"))
print(touched)
"""


def test_no_file_beside_the_folder_is_opened_whatever_rows_and_links_say(tmp_path):
    folder = tmp_path / "pictures"
    put(folder, "photo")
    (tmp_path / "secret.png").write_bytes(PICTURES[2])
    (tmp_path / "secret.txt").write_text("secret")
    rows = [{"file_name": row.replace("OUTSIDE", str(tmp_path / "secret.png")), "text": "x"} for row in OUTSIDE if row]
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "rights.csv").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    done = subprocess.run([sys.executable, "-c", WATCH, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
