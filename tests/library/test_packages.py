"""Packages arrive as they left, and hostile ones add nothing."""

import io
import json
import struct
import warnings
import zipfile
from dataclasses import replace

import pytest

from datasets_tools.errors import DatasetError
from datasets_tools.storage import sha256_file
from lora_diffusion.errors import CorruptFile, LoraDiffusionError, UsageError
from lora_diffusion.library import Library, Lineage
from tests.library import made
from tests.library.made import ANN, BEN, IMAGES


@pytest.fixture
def full(library, files, drawn):
    made.fill(library, files, drawn)
    return library


@pytest.fixture
def other(tmp_path):
    with Library.open(tmp_path / "other") as found:
        yield found


@pytest.fixture(scope="module")
def good(files, drawn, tmp_path_factory):
    """A package with one adapter and two samples, as a mapping from name to bytes."""
    folder = tmp_path_factory.mktemp("good")
    with Library.open(folder / "home") as library:
        made.fill(library, files, drawn)
        package = library.pack("ink", folder / "ink.zip")
    with zipfile.ZipFile(package.path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_package_brings_everything_that_colleagues_may_see(full, other, tmp_path):
    package = full.pack("ink", tmp_path / "ink.zip")
    assert package.files == ("package.json", "Ink.safetensors", "card.html", "samples/1.png", "samples/2.png")
    assert package.withheld == ()
    found, sent = other.unpack(package.path, **BEN), full.version("ink")
    assert (found.ref, found.stage, found.by, found.sha256) == ("Ink@1", "draft", "ben", sent.sha256)
    assert found.details == sent.details
    assert [replace(each, path=None) for each in other.samples("ink")] == [
        replace(each, path=None) for each in full.samples("ink")
    ]
    assert [sha256 for sha256, _ in other.lineage("ink").manifest] == list(IMAGES[1:3])
    assert other.verify() == []
    assert list((other.home / "tmp").iterdir()) == []


@pytest.mark.parametrize(("privacy", "secret"), [("public", True), ("team", True), ("private", False)])
def test_privacy_says_what_leaves_the_house(library, tmp_path, drawn, privacy, secret):
    file = made.adapter(tmp_path / "x.safetensors", 9, metadata={"ss_dataset_dirs": "ann_portraits"})
    lineage = Lineage(manifest=((IMAGES[1], "ann_face.png"),), plan='[data]\nfolder = "/home/ann_k"\n', run="ann_run")
    library.add(file, name="Ink", **ANN, lineage=lineage)
    package = library.pack("ink", tmp_path / "ink.zip", privacy=privacy)
    with zipfile.ZipFile(package.path) as archive:
        held = b"".join(archive.read(name) for name in archive.namelist())
    assert (b"ann_" not in held) == secret
    assert package.withheld == (("ss_dataset_dirs",) if secret else ())


def test_strangers_get_no_notes_no_hashes_of_pictures_and_clean_samples(full, other, tmp_path):
    full.describe("ink", **ANN, owner="Ann", brand="Acme", notes="psst")
    found = other.unpack(full.pack("ink", tmp_path / "ink.zip", privacy="public").path, **BEN)
    assert (found.details.owner, found.details.brand, found.details.notes) == ("", "", "")
    assert (found.details.trigger, found.details.weight_low) == ("inkwash", 0.5)
    assert found.images == 0
    assert found.fingerprint == full.version("ink").fingerprint
    sample = other.samples("ink")[0]
    assert sample.prompt == "an inkwash fox"
    assert b"inkwash" not in sample.path.read_bytes()


@pytest.mark.parametrize("change", [{"card": "ask ann@example.com"}, {"trigger": "/home/ann/style"}], ids=str)
def test_a_public_package_gives_nobody_away(full, tmp_path, change):
    full.describe("ink", **ANN, **change)
    with pytest.raises(UsageError, match="public"):
        full.pack("ink", tmp_path / "ink.zip", privacy="public")
    assert not (tmp_path / "ink.zip").exists()
    full.pack("ink", tmp_path / "ink.zip")


def test_the_same_version_packs_to_the_same_bytes(full, tmp_path):
    one, two = full.pack("ink", tmp_path / "one.zip"), full.pack("ink", tmp_path / "two.zip")
    assert one.sha256 == two.sha256 == sha256_file(two.path)


def test_a_package_is_not_written_over_anything(full, tmp_path):
    (tmp_path / "x.zip").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        full.pack("ink", tmp_path / "x.zip")
    with pytest.raises(UsageError, match="is no"):
        full.pack("ink", tmp_path / "x.tar")
    with pytest.raises(UsageError, match="profile"):
        full.pack("ink", tmp_path / "y.zip", privacy="secret")
    assert (tmp_path / "x.zip").read_text() == "mine"


def test_a_blocked_version_is_not_for_others(full, tmp_path):
    full.withdraw(IMAGES[1], **BEN, reason="revoked")
    with pytest.raises(UsageError, match="revoked"):
        full.pack("ink", tmp_path / "x.zip")
    assert full.pack("ink", tmp_path / "x.zip", privacy="private").path.is_file()


def test_withdrawals_of_the_receiver_hold_for_what_arrives(full, other, tmp_path):
    other.withdraw(IMAGES[2], **BEN, reason="revoked")
    assert other.unpack(full.pack("ink", tmp_path / "x.zip").path, **BEN).blocked == "revoked"


def test_a_package_may_get_another_name(full, other, tmp_path):
    package = full.pack("ink", tmp_path / "x.zip").path
    assert other.unpack(package, **BEN, name="Agency ink").ref == "Agency ink@1"
    with pytest.raises(UsageError, match="cannot be a name"):
        other.unpack(package, **BEN, name="../x")


def zipped(held, path, *, compression=zipfile.ZIP_STORED, also=()):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of names that stand there twice
        for name, data in held.items():
            archive.writestr(name, data)
        for entry, data in also:
            archive.writestr(entry, data)
    return path


def listed(held, **changes):
    """The package with other contents of package.json; a function changes what was there."""
    contents = json.loads(held["package.json"])
    for key, change in changes.items():
        contents[key] = change(contents.get(key)) if callable(change) else change
    return {**held, "package.json": json.dumps(contents).encode()}


def with_file(held, name, data):
    """The package with one more or another file that package.json lists as it is."""
    import hashlib

    entry = {"path": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    others = [each for each in json.loads(held["package.json"])["files"] if each["path"] != name]
    return listed({**held, name: data}, files=[*others, entry])


def link(name, mode=0o120777):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


ESCAPES = (
    "../evil", "../../evil", "/evil", "a/../../evil", "./evil", "a//evil", "..", "\\evil", "..\\evil", "C:\\evil",
    "C:evil", "//host/evil", "samples/../../evil", "evil\\..\\..\\evil", "/", "../",
)  # fmt: skip
NAMES = ("../x", "/abs", "C:\\x", "CON", "nul.safetensors", "x" * 400, "x.", "\u202ex", "", "x\0y", "x@3")
CONTENTS = {
    "no JSON": lambda held: {**held, "package.json": b"{"},
    "no object": lambda held: {**held, "package.json": b"[]"},
    "not text": lambda held: {**held, "package.json": b"\xff\xfe\x00"},
    "deep": lambda held: {**held, "package.json": b"[" * 200_000},
    "another format": lambda held: listed(held, format="other"),
    "a later version": lambda held: listed(held, version=2),
    "more than is known": lambda held: listed(held, run_this="x"),
    "another adapter": lambda held: listed(held, adapter="other.safetensors"),
    "another sample": lambda held: listed(held, samples=[{"path": "x.png"}]),
    "an endless seed": lambda held: listed(held, samples=[{"path": "samples/1.png", "seed": 10**30}]),
    "a weight that is none": lambda held: listed(held, details=lambda said: {**said, "weight": "NaN"}),
    "a weight that is a word": lambda held: listed(held, details=lambda said: {**said, "weight": "much"}),
    "a false hash of a picture": lambda held: listed(held, lineage=lambda said: {**said, "manifest": [["x", "y"]]}),
    "a parent that is a path": lambda held: listed(held, lineage=lambda said: {**said, "parents": [["../x", 1.0]]}),
    "a file twice": lambda held: listed(held, files=lambda files: [*files, files[0]]),
    "a file less": lambda held: listed(held, files=lambda files: files[:-1]),
    "a false hash": lambda held: listed(held, files=lambda files: [{**files[0], "sha256": "0" * 64}, *files[1:]]),
    "a smaller size": lambda held: listed(held, files=lambda files: [{**files[0], "bytes": 5}, *files[1:]]),
    "a larger size": lambda held: listed(held, files=lambda files: [{**files[0], "bytes": 10**6}, *files[1:]]),
    "a size beyond all": lambda held: listed(held, files=lambda files: [{**files[0], "bytes": 10**30}, *files[1:]]),
    "a pickle": lambda held: with_file(held, "Ink.safetensors", b"\x80\x04K\x01."),
    "a cut adapter": lambda held: with_file(held, "Ink.safetensors", held["Ink.safetensors"][:-9]),
    "a flipped adapter": lambda held: with_file(held, "Ink.safetensors", held["Ink.safetensors"][:-1] + b"\x7f"),
    "a page as a sample": lambda held: with_file(held, "samples/1.png", b"<script>alert(1)</script>"),
    "one file more": lambda held: {**held, "evil.sh": b"x"},
    "one file less": lambda held: {name: data for name, data in held.items() if name != "card.html"},
    "nothing": lambda held: {},
    **{f"the file {name!a}": lambda held, name=name: {**held, name: b"x"} for name in ESCAPES},
    **{f"the listed {name!a}": lambda held, name=name: with_file(held, name, b"x") for name in ESCAPES},
    **{f"the name {name[:20]!a}": lambda held, name=name: listed(held, name=name) for name in NAMES},
}  # fmt: skip


def refused(other, path):
    """Unpack, and see that nothing came in; outside of the library nothing may appear either."""
    head, around = other.head(), {each for each in path.parent.rglob("*") if "library.db" not in each.name}
    with pytest.raises((LoraDiffusionError, DatasetError)) as error:
        other.unpack(path, **BEN)
    assert other.head() == head
    assert other.verify() == []
    made_here = {each for each in path.parent.rglob("*") if "library.db" not in each.name} - around
    assert made_here <= {other.home / "tmp"}
    return str(error.value)


@pytest.mark.parametrize("what", CONTENTS)
def test_a_package_with_something_wrong_adds_nothing(good, other, tmp_path, what):
    refused(other, zipped(CONTENTS[what](good), tmp_path / "x.zip"))


@pytest.mark.parametrize(
    "entry",
    [
        (link("evil"), b"/etc/passwd"), (link("card.html"), b"/etc/passwd"), (link("pipe", 0o010644), b""),
        (link("device", 0o020644), b""), (link("samples/1.png"), b"x"), ("CARD.HTML", b"x"), ("Card.html", b"x"),
    ],
    ids=lambda entry: getattr(entry[0], "filename", entry[0]),
)  # fmt: skip
def test_links_devices_and_twins_are_refused(good, other, tmp_path, entry):
    refused(other, zipped(good, tmp_path / "x.zip", also=[entry]))


def test_a_file_of_zeros_that_would_fill_the_disk_is_refused_early(good, other, tmp_path):
    bomb = with_file(good, "bomb.bin", bytes(40 << 20))
    path = zipped(bomb, tmp_path / "x.zip", compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    assert "compressed" in refused(other, path)


def test_a_list_of_very_many_entries_is_not_even_read(good, other, tmp_path):
    many = {**good, **{f"x{number}": b"" for number in range(1200)}}
    assert "1000 entries" in refused(other, zipped(many, tmp_path / "x.zip"))


def entry_sizes(data, name, **sizes):
    """The zip with other sizes in the list of entries, which is what the library goes by."""
    at = data.index(b"PK\x01\x02")
    while True:
        length = struct.unpack_from("<H", data, at + 28)[0]
        if data[at + 46 : at + 46 + length] == name.encode():
            break
        at = data.index(b"PK\x01\x02", at + 4)
    result = bytearray(data)
    for key, value in sizes.items():
        struct.pack_into("<I", result, at + {"packed": 20, "size": 24, "offset": 42, "flags": 8}[key], value)
    return bytes(result)


@pytest.mark.parametrize(
    "sizes",
    [{"size": 10}, {"size": 3 << 30}, {"size": 0xFFFFFFFE}, {"packed": 10}, {"packed": 3 << 30}, {"offset": 0}],
    ids=str,
)  # fmt: skip
def test_sizes_and_places_that_lie_are_refused(good, other, tmp_path, sizes):
    path = zipped(good, tmp_path / "x.zip")
    path.write_bytes(entry_sizes(path.read_bytes(), "Ink.safetensors", **sizes))
    refused(other, path)


def test_an_encrypted_entry_is_refused(good, other, tmp_path):
    path = zipped(good, tmp_path / "x.zip")
    path.write_bytes(entry_sizes(path.read_bytes(), "Ink.safetensors", flags=1))
    assert "encrypted" in refused(other, path)


def test_an_unusual_compression_is_refused(good, other, tmp_path):
    path = zipped(good, tmp_path / "x.zip", compression=zipfile.ZIP_LZMA)
    assert "unusual" in refused(other, path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_package_is_refused(good, other, tmp_path, share):
    path = zipped(good, tmp_path / "x.zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(other, path)


def test_a_flip_of_any_byte_is_refused_or_changes_nothing(good, other, tmp_path):
    """Dates and the like of the zip itself are read by nobody."""
    import random

    path = zipped(good, tmp_path / "x.zip")
    data, draw = path.read_bytes(), random.Random(5)
    sent = {"Ink.safetensors", "samples/1.png", "samples/2.png"}
    for at in draw.sample(range(len(data)), 150):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :])
        try:
            found = other.unpack(path, **BEN)
        except (LoraDiffusionError, DatasetError):
            continue
        assert other.path(found.ref).read_bytes() == good["Ink.safetensors"]
        assert {each.path.read_bytes() for each in other.samples(found.ref)} <= {good[name] for name in sent}
    assert other.verify() == []


def test_what_is_no_zip_is_refused(other, tmp_path):
    path = tmp_path / "x.zip"
    for data in (b"", b"PK", b"hello" * 100, b"PK\5\6", b"PK\5\6" + bytes(18), io.BytesIO().getvalue()):
        path.write_bytes(data)
        with pytest.raises(CorruptFile):
            other.unpack(path, **BEN)
    with pytest.raises(UsageError, match="is not a file"):
        other.unpack(tmp_path / "nothing.zip", **BEN)
