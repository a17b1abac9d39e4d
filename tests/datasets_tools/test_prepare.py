import errno

import pytest

from datasets_tools import prepare, read_manifest, storage
from datasets_tools.bucket import Bucket, BucketRule
from datasets_tools.captioners import filename
from datasets_tools.errors import DatasetError, InvalidSetting, NoImages, OutOfSpace
from tests.datasets_tools.corpus import photos, scene

RULE = BucketRule(resolution=64, step=8)


def test_prepare_writes_a_manifest_beside_the_pictures_and_lists_what_is_left_out(tmp_path):
    photos(tmp_path, 3)
    (tmp_path / "bad.png").write_bytes(b"")
    prepared = prepare(tmp_path, rule=RULE, trigger="brndx")
    assert prepared.manifest_path == tmp_path / "manifest.jsonl"
    assert [one.file for one in prepared.quarantined] == ["bad.png"]
    assert (tmp_path / "bad.png").exists()
    records = read_manifest(prepared.manifest_path).records
    assert [record.caption for record in records] == [f"brndx, a shape, number {n}" for n in range(3)]
    assert {record.bucket for record in records} == {Bucket(width=72, height=56)}
    assert prepared.to_dict() == {
        "manifest": str(tmp_path / "manifest.jsonl"),
        "images": 3,
        "quarantined": [{"file": "bad.png", "reason": prepared.quarantined[0].reason}],
    }


def test_preparing_again_gives_the_same_bytes(tmp_path):
    photos(tmp_path, 3)
    first = prepare(tmp_path, rule=RULE).manifest_path.read_bytes()
    assert prepare(tmp_path, rule=RULE).manifest_path.read_bytes() == first


def test_a_captioner_fills_only_what_is_missing_and_changes_no_file(tmp_path):
    photos(tmp_path, 1)
    scene(seed=9).save(tmp_path / "red_house.png")
    before = sorted(tmp_path.iterdir())
    prepared = prepare(tmp_path, rule=RULE, captioner="filename", trigger="brndx", out=tmp_path / "out" / "m.jsonl")
    captions = [record.caption for record in read_manifest(prepared.manifest_path, folder=tmp_path).records]
    assert captions == ["brndx, a shape, number 0", "brndx, red house"]
    assert sorted(path for path in tmp_path.iterdir() if path.is_file()) == before


def test_a_captioner_that_fails_never_blocks(tmp_path, monkeypatch, caplog):
    photos(tmp_path, 2, captions=False)
    monkeypatch.setattr(filename._FromFileName, "caption", lambda self, file: 1 / 0)
    assert prepare(tmp_path, rule=RULE, captioner="filename").images == 2
    assert "failed on" in caplog.text


def test_an_unknown_captioner_is_refused_before_any_work(tmp_path):
    with pytest.raises(InvalidSetting, match="captioner"):
        prepare(tmp_path / "missing", rule=RULE, captioner="nope")


def test_nothing_readable_is_said_with_the_first_reason_and_nothing_is_written(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(NoImages, match=r"bad\.png: it is empty"):
        prepare(tmp_path, rule=RULE)
    assert not (tmp_path / "manifest.jsonl").exists()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, OutOfSpace), (errno.EROFS, DatasetError)])
def test_an_older_manifest_survives_a_full_or_read_only_disk(tmp_path, monkeypatch, number, kind):
    photos(tmp_path, 2)
    old = prepare(tmp_path, rule=RULE).manifest_path.read_bytes()
    scene(seed=9).save(tmp_path / "new.png")

    def boundary(name, path):
        raise OSError(number, "no")

    monkeypatch.setattr(storage, "_boundary", boundary)
    with pytest.raises(kind) as refused:
        prepare(tmp_path, rule=RULE)
    assert refused.value.hint
    assert (tmp_path / "manifest.jsonl").read_bytes() == old
