import errno
from datetime import date

import pytest

from datasets_tools import DataSettings, prepare_folder, read_manifest, storage
from datasets_tools.bucket import Bucket, BucketRule, crop_for
from datasets_tools.errors import DatasetError, NoImages, OutOfSpace
from datasets_tools.journal import Journal
from datasets_tools.manifest import Rights
from tests.datasets_tools.corpus import photos, scene

WANTED = DataSettings(rule=BucketRule(resolution=64, step=8), trigger="brndx")


def test_prepare_writes_a_manifest_beside_the_pictures_and_lists_what_is_left_out(tmp_path):
    photos(tmp_path, 3)
    (tmp_path / "bad.png").write_bytes(b"")
    prepared = prepare_folder(tmp_path, WANTED)
    assert prepared.manifest_path == tmp_path / "manifest.jsonl"
    assert [one.file for one in prepared.quarantined] == ["bad.png"]
    assert (tmp_path / "bad.png").exists()
    records = read_manifest(prepared.manifest_path).records
    assert [record.caption for record in records] == [f"brndx, a shape, number {n}" for n in range(3)]
    assert {record.bucket for record in records} == {Bucket(width=80, height=56)}
    assert prepared.to_dict() == {
        "manifest": str(tmp_path / "manifest.jsonl"),
        "images": 3,
        "quarantined": [{"file": "bad.png", "reason": prepared.quarantined[0].reason}],
        "changed": 3,
        "encoded": 0,
    }
    assert {record.trigger for record in records} == {"brndx"}
    assert [crop_for(96, 64, record.bucket) for record in records] == [record.crop for record in records]


def test_the_manifest_says_what_was_found_about_each_picture(tmp_path):
    photos(tmp_path, 8)
    scene(16, 16, seed=50).save(tmp_path / "tiny.png")
    (tmp_path / "rights.csv").write_text("file_name,owner,expires\n*,Brand,2030-01-01\ntiny.png,Other,2020-01-01\n")
    done = prepare_folder(tmp_path, WANTED, today=date(2026, 1, 1))
    records = {record.file: record for record in read_manifest(done.manifest_path).records}
    assert {"image-tiny", "rights-expired", "caption-missing"} <= set(records["tiny.png"].findings)
    assert records["photo 00.png"].findings == ()
    assert records["photo 00.png"].rights == Rights(owner="Brand", expires="2030-01-01")


def test_a_second_call_looks_only_at_what_changed(tmp_path):
    pictures, journal = photos(tmp_path / "pictures", 5), tmp_path / "scan.jsonl"
    assert prepare_folder(pictures, WANTED, journal=Journal(journal)).changed == 5
    first = (pictures / "manifest.jsonl").read_bytes()
    assert prepare_folder(pictures, WANTED, journal=Journal(journal)).changed == 0
    assert (pictures / "manifest.jsonl").read_bytes() == first
    scene(seed=77).save(pictures / "photo 03.png")
    assert prepare_folder(pictures, WANTED, journal=Journal(journal)).changed == 1


def test_an_interrupted_call_loses_nothing(tmp_path):
    pictures, journal = photos(tmp_path / "pictures", 12), tmp_path / "scan.jsonl"

    def stop(done, total):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_folder(pictures, WANTED, journal=Journal(journal), on_progress=stop)
    assert not (pictures / "manifest.jsonl").exists()
    assert prepare_folder(pictures, WANTED, journal=Journal(journal)).changed <= 4
    assert len(read_manifest(pictures / "manifest.jsonl").records) == 12


def test_preparing_again_gives_the_same_bytes(tmp_path):
    photos(tmp_path, 3)
    first = prepare_folder(tmp_path, WANTED).manifest_path.read_bytes()
    assert prepare_folder(tmp_path, WANTED).manifest_path.read_bytes() == first


def test_nothing_readable_is_said_with_the_first_reason_and_nothing_is_written(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(NoImages, match=r"bad\.png: it is empty"):
        prepare_folder(tmp_path, WANTED)
    assert not (tmp_path / "manifest.jsonl").exists()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, OutOfSpace), (errno.EROFS, DatasetError)])
def test_an_older_manifest_survives_a_full_or_read_only_disk(tmp_path, monkeypatch, number, kind):
    photos(tmp_path, 2)
    old = prepare_folder(tmp_path, WANTED).manifest_path.read_bytes()
    scene(seed=9).save(tmp_path / "new.png")

    def boundary(name, path):
        raise OSError(number, "no")

    monkeypatch.setattr(storage, "_boundary", boundary)
    with pytest.raises(kind) as refused:
        prepare_folder(tmp_path, WANTED)
    assert refused.value.hint
    assert (tmp_path / "manifest.jsonl").read_bytes() == old


def test_a_file_of_that_name_from_elsewhere_is_not_replaced(tmp_path):
    photos(tmp_path, 2)
    (tmp_path / "manifest.jsonl").write_text('{"file": "photo 00.png", "text": "my precious caption"}\n')
    with pytest.raises(DatasetError, match="not a manifest of ours"):
        prepare_folder(tmp_path, WANTED)
    assert "precious" in (tmp_path / "manifest.jsonl").read_text()
