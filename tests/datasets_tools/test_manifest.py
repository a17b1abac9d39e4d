import json
from dataclasses import replace

import pytest

from datasets_tools.bucket import Bucket
from datasets_tools.errors import InvalidManifest
from datasets_tools.manifest import Manifest, Record, Rights, name_order, read_manifest

RECORD = Record(file="ü b/a.png", sha256="0" * 64, bytes=5, width=30, height=20, caption='say "hi" 日本')


def line(**changes):
    row = {"file": "a.png", "sha256": "0", "bytes": 1, "width": 2, "height": 3, "caption": "c"} | changes
    return json.dumps({key: value for key, value in row.items() if value is not ...})


def test_a_manifest_is_read_back_as_written(tmp_path):
    rich = replace(RECORD, rights=Rights(owner="Ada"), bucket=Bucket(width=64, height=128), file="z.png")
    manifest = Manifest(tmp_path, (RECORD, rich))
    manifest.write(tmp_path / "manifest.jsonl")
    again = read_manifest(tmp_path / "manifest.jsonl")
    assert again == manifest
    assert again.fingerprint == manifest.fingerprint
    assert len((tmp_path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_a_manifest_written_elsewhere_is_read_with_its_folder(tmp_path):
    manifest = Manifest(tmp_path / "pictures", (RECORD,))
    manifest.write(tmp_path / "elsewhere" / "m.jsonl")
    again = read_manifest(tmp_path / "elsewhere" / "m.jsonl", folder=tmp_path / "pictures")
    assert again.path(again.records[0]) == tmp_path / "pictures" / "ü b" / "a.png"


@pytest.mark.parametrize(
    "change", [{"file": "b.png"}, {"sha256": "1" * 64}, {"width": 31}, {"caption": "other"}, {"bytes": 6}]
)
def test_whatever_decides_training_changes_the_fingerprint(tmp_path, change):
    assert Manifest(tmp_path, (RECORD,)).fingerprint != Manifest(tmp_path, (replace(RECORD, **change),)).fingerprint


def test_order_changes_the_fingerprint_but_rights_and_place_do_not(tmp_path):
    other = replace(RECORD, file="b.png")
    assert Manifest(tmp_path, (RECORD, other)).fingerprint != Manifest(tmp_path, (other, RECORD)).fingerprint
    owned = replace(RECORD, rights=Rights(owner="Ada"), bucket=Bucket(width=64, height=64))
    assert Manifest(tmp_path, (RECORD,)).fingerprint == Manifest(tmp_path / "moved", (owned,)).fingerprint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: not an object"),
        (line() + "\n" + line(width="2"), "line 2: width is '2'"),
        (line(width=True), "width is True"),
        (line(width=0), "0 x 3 is not a size"),
        (line(sha256=...), "sha256"),
        (line(colour="red"), "colour"),
        (line(file="../a.png"), "leads out of the folder"),
        (line(file="/etc/a.png"), "leads out of the folder"),
        (line(file="C:\\a.png"), "leads out of the folder"),
        (line(file=""), "leads out of the folder"),
        (line(rights={"owners": "x"}), "owners"),
    ],
)
def test_a_damaged_manifest_is_refused_with_the_line(tmp_path, text, says):
    file = tmp_path / "manifest.jsonl"
    file.write_text(text)
    with pytest.raises(InvalidManifest) as refused:
        read_manifest(file)
    assert says in str(refused.value)
    assert refused.value.hint


def test_a_missing_or_undecodable_manifest_says_to_prepare(tmp_path):
    with pytest.raises(InvalidManifest, match="does not exist") as refused:
        read_manifest(tmp_path / "manifest.jsonl")
    assert "prepare" in refused.value.hint
    (tmp_path / "manifest.jsonl").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InvalidManifest, match="cannot be read"):
        read_manifest(tmp_path / "manifest.jsonl")


def test_composed_and_decomposed_names_sort_to_the_same_place():
    assert sorted(["z", "u\u0308", "ü", "a"], key=name_order) == ["a", "z", "u\u0308", "ü"]
