import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from datasets_tools.errors import NoImages
from datasets_tools.journal import Journal
from datasets_tools.manifest import read_manifest
from datasets_tools.scan import scan_folder
from tests.datasets_tools.corpus import bomb, encoded, photos, scene


def codes(scanned):
    return {(finding.code, finding.file) for finding in scanned.findings}


def test_pictures_get_records_in_name_order_with_hash_size_and_caption(tmp_path):
    photos(tmp_path / "ü b", 3)
    records = scan_folder(tmp_path, trigger="brndx").manifest.records
    assert [record.file for record in records] == [f"ü b/photo 0{n}.png" for n in range(3)]
    assert {(record.width, record.height) for record in records} == {(96, 64)}
    assert records[1].caption == "brndx, a shape, number 1"
    assert len({record.sha256 for record in records}) == 3
    assert records[0].bytes == (tmp_path / "ü b/photo 00.png").stat().st_size


def test_scanning_twice_with_any_number_of_workers_gives_the_same(tmp_path):
    photos(tmp_path, 9)
    (tmp_path / "bad.png").write_bytes(b"")
    one, many = scan_folder(tmp_path, workers=1), scan_folder(tmp_path, workers=5)
    assert one == many
    assert one.manifest.fingerprint == many.manifest.fingerprint


def test_an_edit_with_the_same_size_and_time_changes_the_fingerprint(tmp_path):
    photos(tmp_path, 1)
    file = tmp_path / "photo 00.png"
    pixels = Image.new("RGB", (8, 8), (1, 2, 3))
    file.write_bytes(encoded(pixels, "BMP"))
    before, status = scan_folder(tmp_path).manifest.fingerprint, file.stat()
    file.write_bytes(encoded(Image.new("RGB", (8, 8), (1, 2, 4)), "BMP"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert scan_folder(tmp_path).manifest.fingerprint != before


def test_broken_files_become_findings_and_never_stop_the_rest(tmp_path):
    photos(tmp_path, 2)
    whole = encoded(scene(400, 300), "JPEG")
    broken = {
        "empty.png": b"",
        "page.jpg": b"<html></html>",
        "cut.jpg": whole[: len(whole) // 2],
        "bomb.png": bomb(),
        "moving.gif": encoded(scene(), "GIF"),
        "phone.heic": b"\0\0\0\x18ftypheic" + bytes(40),
        "drawing.svg": b"<svg/>",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    scanned = scan_folder(tmp_path)
    assert len(scanned.manifest.records) == 2
    refused = [finding for finding in scanned.findings if finding.code == "image-unreadable"]
    assert {finding.file for finding in refused} == set(broken)
    assert all(finding.severity == "blocks" and finding.remedy for finding in refused)


def test_nothing_is_left_out_without_being_listed(tmp_path):
    photos(tmp_path, 1)
    for name in ("clip.mp4", "notes.docx", "layers.xcf"):
        (tmp_path / name).write_bytes(b"\1\2\3")
    (finding,) = [one for one in scan_folder(tmp_path).findings if one.code == "other-files"]
    assert "3 other files" in finding.reason
    assert "clip.mp4" in finding.reason


def test_the_litter_of_systems_is_ignored(tmp_path):
    photos(tmp_path, 1)
    for name in ("._photo 00.png", ".DS_Store", "Thumbs.db", "desktop.ini", "~$notes.docx", ".captions/000001.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"litter")
    scanned = scan_folder(tmp_path)
    assert scanned.findings == ()
    assert len(scanned.manifest.records) == 1


def test_what_is_hidden_is_left_out_and_listed(tmp_path):
    photos(tmp_path, 1)
    photos(tmp_path / "masks", 1)
    (tmp_path / "masks").rename(tmp_path / ".masks")
    for name in (".hidden.png", "__MACOSX/x.png", ".cache/y.png", "tiger/.two.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"litter")
    scanned = scan_folder(tmp_path, skip=[tmp_path / ".masks"])
    (finding,) = scanned.findings
    assert (finding.code, finding.severity) == ("hidden-files", "notes")
    assert finding.reason.endswith(": .cache/, .hidden.png, __MACOSX/, tiger/.two.jpg")
    assert len(scanned.manifest.records) == 1


def test_pictures_with_a_wrong_or_no_ending_are_read_by_content(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(scene(seed=1), "PNG"))
    (tmp_path / "export").write_bytes(encoded(scene(seed=2), "JPEG"))
    scanned = scan_folder(tmp_path)
    assert len(scanned.manifest.records) == 2
    assert codes(scanned) == {("image-misnamed", "a.jpg"), ("image-misnamed", "export")}


def test_copies_and_lookalikes_are_found_and_different_pictures_are_not(tmp_path):
    photos(tmp_path, 12, size=(240, 160))
    shutil.copy(tmp_path / "photo 03.png", tmp_path / "z copy.png")
    scene(240, 160, seed=5).resize((180, 120)).save(tmp_path / "z small.jpg", quality=70)
    assert codes(scan_folder(tmp_path)) == {("image-duplicate", "z copy.png"), ("image-near-duplicate", "z small.jpg")}


def test_flat_pictures_of_other_colours_are_not_lookalikes(tmp_path):
    for name, colour in (("a", (250, 0, 0)), ("b", (0, 250, 0)), ("c", (0, 0, 250))):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    assert {code for code, _ in codes(scan_folder(tmp_path))} == {"image-blank"}


def test_tiny_pictures_are_named(tmp_path):
    for width, height in ((1, 1), (1, 5000), (31, 200), (32, 32)):
        scene(width, height, seed=width).save(tmp_path / f"{width}x{height}.png")
    assert {file for code, file in codes(scan_folder(tmp_path)) if code == "image-tiny"} == {
        "1x1.png",
        "1x5000.png",
        "31x200.png",
    }


def test_names_that_collide_on_other_systems_are_named(tmp_path):
    scene(seed=1).save(tmp_path / "A.png")
    scene(seed=2).save(tmp_path / "a.png")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system is one of them")
    assert codes(scan_folder(tmp_path)) == {("name-collision", "a.png")}


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_out_of_the_folder_are_refused_and_links_inside_are_read(tmp_path):
    inside = photos(tmp_path / "set", 1)
    scene(seed=7).save(tmp_path / "secret.png")
    (inside / "out.png").symlink_to(tmp_path / "secret.png")
    (inside / "up").symlink_to(tmp_path)
    (inside / "loop").symlink_to(inside)
    scanned = scan_folder(inside)
    assert {file for code, file in codes(scanned) if code == "link-refused"} == {"out.png", "up", "loop"}
    assert len(scanned.manifest.records) == 1
    (inside / "twin.png").symlink_to(inside / "photo 00.png")
    (inside / "dangling.png").symlink_to(inside / "gone.png")
    assert {("image-duplicate", "twin.png"), ("image-unreadable", "dangling.png")} <= codes(scan_folder(inside))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_that_go_in_circles_are_named_and_the_rest_is_read(tmp_path):
    folder = photos(tmp_path / "set", 1)
    (folder / "a.png").symlink_to("b.png")
    (folder / "b.png").symlink_to("a.png")
    (folder / "self.txt").symlink_to("self.txt")
    scanned = scan_folder(folder)
    circles = {("image-unreadable", "a.png"), ("image-unreadable", "b.png"), ("link-refused", "self.txt")}
    assert circles <= codes(scanned)
    assert len(scanned.manifest.records) == 1


def test_what_the_loader_notes_becomes_a_finding(tmp_path):
    scene(64, 64).save(tmp_path / "a.png", icc_profile=b"broken")
    scene(64, 64, seed=2).convert("CMYK").save(tmp_path / "b.tif")
    half = scene(64, 64, seed=3)
    half.putalpha(100)
    half.save(tmp_path / "c.png")
    Image.fromarray(np.asarray(scene(64, 64, seed=4).convert("L")).astype(np.uint16) * 257).save(tmp_path / "d.png")
    assert codes(scan_folder(tmp_path)) == {
        ("image-icc-broken", "a.png"),
        ("image-cmyk-without-profile", "b.tif"),
        ("image-transparent", "c.png"),
        ("image-sixteen-bit", "d.png"),
    }


def test_progress_counts_every_file_once(tmp_path):
    photos(tmp_path, 5)
    seen = []
    scan_folder(tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 5) for number in range(1, 6)]


def test_an_error_of_the_listener_stops_the_scan(tmp_path):
    photos(tmp_path, 5)
    with pytest.raises(ZeroDivisionError):
        scan_folder(tmp_path, on_progress=lambda done, total: 1 / 0)


def test_a_misspelt_folder_is_answered_with_the_right_one(tmp_path):
    photos(tmp_path / "Brand Pictures" / "final", 1)
    with pytest.raises(NoImages, match="does not exist") as refused:
        scan_folder(tmp_path / "brand picturs" / "final")
    assert str(tmp_path / "Brand Pictures") in refused.value.hint
    assert refused.value.exit_code == 2


def test_a_file_in_place_of_a_folder_is_answered_with_its_folder(tmp_path):
    photos(tmp_path, 1)
    with pytest.raises(NoImages, match="is a file") as refused:
        scan_folder(tmp_path / "photo 00.png")
    assert str(tmp_path) in refused.value.hint


def test_an_empty_folder_is_answered_with_the_folder_beside_it(tmp_path):
    photos(tmp_path / "pictures", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(NoImages, match="1 file but no picture") as refused:
        scan_folder(tmp_path / "empty")
    assert str(tmp_path / "pictures") in refused.value.hint


def test_a_folder_with_an_archive_says_to_unpack_it(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"PK\3\4")
    with pytest.raises(NoImages) as refused:
        scan_folder(tmp_path)
    assert refused.value.hint == "unpack set.zip first"


def test_pictures_at_any_depth_are_found_without_naming_rules(tmp_path):
    photos(tmp_path / "10_brand style" / "deep", 1)
    assert [record.file for record in scan_folder(tmp_path).manifest.records] == ["10_brand style/deep/photo 00.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_names_in_another_encoding_are_listed_and_the_rest_can_be_written(tmp_path):
    photos(tmp_path, 1)
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as file:
        file.write(encoded(scene(seed=5), "PNG"))
    scanned = scan_folder(tmp_path)
    assert codes(scanned) == {("name-undecodable", "caf?.png")}
    scanned.manifest.write(tmp_path / "manifest.jsonl")
    json.dumps([finding.file for finding in scanned.findings], ensure_ascii=False).encode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_with_the_name_of_a_picture_is_refused_not_waited_for(tmp_path):
    photos(tmp_path, 1)
    os.mkfifo(tmp_path / "pipe.png")
    (finding,) = scan_folder(tmp_path).findings
    assert (finding.code, finding.file) == ("image-unreadable", "pipe.png")


@pytest.mark.parametrize(
    "name", ["a\nb.png", "a\u202eb.png", "🎨.png", "x" * 200 + ".png", " a .png", "%s{}.png", "-rf.png"]
)
def test_strange_names_are_kept_exactly(tmp_path, name):
    try:
        scene().save(tmp_path / name)
    except OSError:
        pytest.skip("this file system refuses the name")
    scan_folder(tmp_path).manifest.write(tmp_path / "manifest.jsonl")
    (record,) = read_manifest(tmp_path / "manifest.jsonl").records
    assert record.file == name


def test_numbered_folders_of_other_trainers_weigh_their_pictures(tmp_path):
    photos(tmp_path / "2_brand style", 2)
    photos(tmp_path / "6_brand style" / "inner", 1, size=(120, 80))
    photos(tmp_path / "2024_summer", 1, size=(64, 96))
    found = scan_folder(tmp_path)
    assert {record.file: record.repeats for record in found.manifest.records} == {
        "2_brand style/photo 00.png": 2.0,
        "2_brand style/photo 01.png": 2.0,
        "6_brand style/inner/photo 00.png": 6.0,
        "2024_summer/photo 00.png": 1.0,
    }
    assert ("folder-repeats", "") in codes(found)


def test_one_number_for_all_folders_changes_nothing(tmp_path):
    photos(tmp_path / "10_brand", 2)
    found = scan_folder(tmp_path)
    assert {record.repeats for record in found.manifest.records} == {1.0}
    assert found.findings == ()


def test_folders_to_skip_are_not_entered(tmp_path):
    photos(tmp_path, 2)
    photos(tmp_path / "masks", 2)
    assert len(scan_folder(tmp_path, skip=[tmp_path / "masks"]).manifest.records) == 2


def test_a_second_scan_with_a_journal_decodes_only_what_changed(tmp_path):
    pictures = photos(tmp_path / "pictures", 4)
    (pictures / "broken.png").write_bytes(encoded(scene(), "PNG")[:-40])
    place = tmp_path / "scan.jsonl"
    first = scan_folder(pictures, journal=Journal(place))
    size = place.stat().st_size
    (pictures / "photo 01.png").rename(pictures / "renamed.png")  # content decides, not the name
    second = scan_folder(pictures, journal=Journal(place))
    assert place.stat().st_size == size
    assert {seen.sha256: replace(seen, file="") for seen in first.pictures} == {
        seen.sha256: replace(seen, file="") for seen in second.pictures
    }
    assert codes(first) >= {("image-unreadable", "broken.png")} <= codes(second)
    scene(96, 64, seed=99).save(pictures / "photo 02.png")
    third = scan_folder(pictures, journal=Journal(place))
    assert len(place.read_bytes().splitlines()) == 6
    assert third == scan_folder(pictures)


def test_numbers_that_only_count_the_folders_are_no_repeats(tmp_path):
    for number, name in enumerate(("faces", "hands", "rooms"), 1):
        photos(tmp_path / f"{number}_{name}", number)
    found = scan_folder(tmp_path)
    assert {record.repeats for record in found.manifest.records} == {1.0}


def test_tables_that_nobody_reads_are_named(tmp_path):
    photos(tmp_path, 2)
    for name in ("captions.csv", "prompts.jsonl", "rights.xlsx", "~$rights.xlsx", "budget.xlsx", "metadata.jsonl"):
        (tmp_path / name).write_text("")
    unread = {"captions.csv", "prompts.jsonl", "rights.xlsx"}  # ~$ is what Excel writes while a table is open
    assert codes(scan_folder(tmp_path)) == {("other-files", ""), *(("table-unused", name) for name in unread)}


def test_what_memory_did_not_suffice_for_is_tried_again(tmp_path, monkeypatch):
    from datasets_tools import image

    photos(tmp_path / "pictures", 2)
    with monkeypatch.context() as patch:
        patch.setattr(image, "_header", lambda data, formats: (_ for _ in ()).throw(MemoryError))
        first = scan_folder(tmp_path / "pictures", journal=Journal(tmp_path / "scan.jsonl"))
    assert len(first.manifest.records) == 0
    assert len(scan_folder(tmp_path / "pictures", journal=Journal(tmp_path / "scan.jsonl")).manifest.records) == 2
