"""Files from anyone: damage is noticed, other formats are refused by content, nothing runs."""

import hashlib
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path

import pytest
import torch

import lora_diffusion
from lora_diffusion.errors import CorruptFile, FileError, LoraDiffusionError, UnknownDialect, UsageError
from lora_diffusion.files.adapter import read_adapter, write_adapter
from lora_diffusion.files.hashes import HASH_KEY, OLD_HASH_KEY, PAYLOAD_KEY, SPEC_KEY
from lora_diffusion.files.inspect import inspect_adapter
from lora_diffusion.files.safe import MAX_HEADER, open_safe
from lora_diffusion.files.writing import plan_of, write_safe
from tests.files.samples import sample_adapter, save


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("safe") / "adapter.safetensors"
    write_adapter(sample_adapter(kernels=False, text=False, ranks=(1,), alphas=(4.0,)), path, dialect="diffusers")
    return path


@pytest.mark.parametrize("key", [HASH_KEY, OLD_HASH_KEY])
def test_every_one_of_2000_flipped_bits_of_the_tensors_is_refused(key, written, tmp_path):
    tensors = dict(open_safe(written).tensors())
    path = tmp_path / "good.safetensors"
    write_safe(path, plan_of(tensors), tensors.__getitem__, {"format": "pt"}, hashes=(key,))
    assert key in open_safe(path).metadata
    open_safe(path).verify()
    good, start = path.read_bytes(), open_safe(path).payload
    draw, path, refused = random.Random(1), tmp_path / "flipped.safetensors", 0
    for _ in range(2000):
        bad = bytearray(good)
        bad[draw.randrange(start, len(good))] ^= 1 << draw.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(CorruptFile):
            open_safe(path).verify()
        refused += 1
    assert refused == 2000


def test_no_flipped_bit_of_the_header_changes_a_delta(written, tmp_path):
    """A title may change without notice; names, shapes, ranks and alphas may not."""
    good, start = written.read_bytes(), open_safe(written).payload
    meant = read_adapter(written).fingerprint
    draw, path, refused = random.Random(4), tmp_path / "flipped.safetensors", 0
    for _ in range(500):
        bad = bytearray(good)
        bad[draw.randrange(start)] ^= 1 << draw.randrange(8)
        path.write_bytes(bad)
        try:
            assert read_adapter(path).fingerprint == meant
        except LoraDiffusionError:
            refused += 1
    assert refused > 400


def test_a_flipped_bit_is_refused_by_the_reader_of_adapters(written, tmp_path):
    bad = bytearray(written.read_bytes())
    bad[-3] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(bad)
    with pytest.raises(CorruptFile, match="SHA-256"):
        read_adapter(tmp_path / "flipped.safetensors")


def test_an_alpha_changed_in_the_header_is_refused_too(written, tmp_path):
    text = written.read_bytes()
    assert text.count(b'lora_alpha\\": 4.0') == 1
    (tmp_path / "a.safetensors").write_bytes(text.replace(b'lora_alpha\\": 4.0', b'lora_alpha\\": 9.0'))
    with pytest.raises(CorruptFile, match="SHA-256"):
        read_adapter(tmp_path / "a.safetensors")


_CANARY = []


class _Canary:
    def __reduce__(self):
        return _CANARY.append, (1,)


def _zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Canary()))


def _torch_file(path, *, zipped):
    """As torch.save writes it, with a canary inside."""
    torch.save(
        {"lora_unet_conv_in.alpha": torch.ones(1), "canary": _Canary()}, path, _use_new_zipfile_serialization=zipped
    )
    _CANARY.clear()  # pickling does not run it; loading would


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.ckpt", "a.bin"])
def test_files_of_torch_are_refused_under_any_name(name, zipped, tmp_path, monkeypatch):
    def opened(*_, **__):
        raise AssertionError("torch.load was reached")

    _torch_file(tmp_path / name, zipped=zipped)
    monkeypatch.setattr(torch, "load", opened)
    with pytest.raises(UnknownDialect, match="zip archive" if zipped else "pickle"):
        read_adapter(tmp_path / name)
    with pytest.raises(UnknownDialect):
        inspect_adapter(tmp_path / name)
    assert not _CANARY


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        *((pickle.dumps(_Canary(), protocol=protocol), "pickle|no safetensors") for protocol in range(6)),
        (b"\x80\x04junk" * 50, "pickle"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"7z\xbc\xaf\x27\x1c" * 9, "7z archive"),
        (b"Rar!\x1a\x07\x01\x00" * 9, "rar archive"),
        (b"\x1f\x8b\x08" * 9, "gzip archive"),
        (b"GGUF" + bytes(90), "GGUF"),
        (bytes(100), "no safetensors"),
        (b"", "empty"),
        (b"abc", "no safetensors"),
    ],
)
def test_other_formats_are_refused_by_what_they_contain(content, kind, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(FileError, match=kind):
        read_adapter(tmp_path / "a.safetensors")
    assert not _CANARY


def test_an_archive_of_torch_is_refused(tmp_path):
    _zip(tmp_path / "a.safetensors")
    with pytest.raises(UnknownDialect, match="zip archive"):
        read_adapter(tmp_path / "a.safetensors")
    assert not _CANARY


def _file(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


_F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (_file({"a": _F32}, bytes(3)), "truncated"),
        (_file({"a": _F32}, bytes(5)), "after the last tensor"),
        (_file({"a": {**_F32, "data_offsets": [4, 8]}}, bytes(8)), "gap"),
        (_file({"a": _F32, "b": _F32}, bytes(4)), "overlap"),
        (_file({"a": {**_F32, "shape": [2]}}, bytes(4)), "another length"),
        (_file({"a": {**_F32, "shape": [-1]}}, bytes(4)), "limits"),
        (_file({"a": {**_F32, "shape": [2**40]}}, bytes(4)), "limits"),
        (_file({"a": {**_F32, "dtype": "F99"}}, bytes(4)), "F99"),
        (_file({"a": {**_F32, "dtype": []}}, bytes(4)), "stores"),
        (_file({"a": 3}), "describes"),
        (_file({"a": {**_F32, "data_offsets": [0]}}, bytes(4)), "describes"),
        (_file({"x" * 600: _F32}, bytes(4)), "limits"),
        (_file({"__metadata__": {"a": 1}}), "other than texts"),
        (_file(b'{"a": 1, "a": 2}'), "twice"),
        (_file(b"{" + b"[" * 50_000), "no JSON"),
        (_file(b"{\xff}"), "no JSON"),
        (_file(b'{"a": [' + b"1," * 1_100_000 + b"1]}"), "1000000 values"),
        (struct.pack("<Q", MAX_HEADER + 9) + b"{" + bytes(MAX_HEADER + 8), "header of"),
        (_file({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_002)}), "50000"),
    ],
)
def test_headers_beyond_the_format_are_refused(content, what, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CorruptFile, match=what):
        open_safe(tmp_path / "a.safetensors")


def test_a_missing_file_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="is not a file"):
        read_adapter(tmp_path / "none.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value, tmp_path):
    tensors = {
        "unet.conv_in.lora_A.weight": torch.ones(2, 4, 3, 3),
        "unet.conv_in.lora_B.weight": torch.ones(8, 2, 1, 1),
    }
    tensors["unet.conv_in.lora_B.weight"][0, 0] = value
    save(tensors, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match="NaN or infinite"):
        read_adapter(tmp_path / "a.safetensors")


def test_the_library_reads_our_files_and_lays_tensors_in_the_same_order(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save as library_save

    dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)
    tensors = {f"{name}{at}": torch.ones(at + 1).to(dtype) for at, dtype in enumerate(dtypes) for name in "ba"}
    tensors |= {"scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4)}
    hashes = write_safe(tmp_path / "a.safetensors", plan_of(tensors), tensors.__getitem__, {"key": "välue"}).hashes
    theirs = library_save(tensors)
    length = struct.unpack("<Q", theirs[:8])[0]
    assert (tmp_path / "a.safetensors").read_bytes()[open_safe(tmp_path / "a.safetensors").payload :] == theirs[
        8 + length :
    ]
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"key": "välue", **hashes}
        assert all(torch.equal(file.get_tensor(name), each) for name, each in tensors.items())
    ours = dict(open_safe(tmp_path / "a.safetensors").tensors())
    assert all(torch.equal(ours[name], each) and ours[name].dtype == each.dtype for name, each in tensors.items())


def test_all_hashes_are_those_of_the_bytes(written):
    file = open_safe(written)
    stored = {key: file.metadata[key] for key in (HASH_KEY, PAYLOAD_KEY, SPEC_KEY)}
    assert file.hashes_of(stored) == stored
    assert stored[PAYLOAD_KEY] == hashlib.sha256(written.read_bytes()[file.payload :]).hexdigest()


def test_our_hash_is_made_of_the_digests_of_the_tensors_as_its_rule_says(tmp_path):
    """Another program can make it anew with a reader of safetensors and of JSON."""
    tensors = {"b": torch.arange(6, dtype=torch.int64).reshape(2, 3), "a": torch.ones(3).half()}
    path, said = tmp_path / "a.safetensors", {"lora_diffusion.family": "sd1", "title": "any"}
    write_safe(path, plan_of(tensors), tensors.__getitem__, said, hashes=(HASH_KEY,))
    ones, counted = (hashlib.sha256(tensors[name].numpy().tobytes()).hexdigest() for name in "ab")
    table = f'[["a", "torch.float16", [3], "{ones}"], ["b", "torch.int64", [2, 3], "{counted}"]]'
    text = f'[{table}, {{"lora_diffusion.family": "sd1"}}]'
    assert open_safe(path).metadata["lora_diffusion.sha256_v2"] == hashlib.sha256(text.encode()).hexdigest()


def test_digests_that_several_cores_make_are_those_of_the_tensors(tmp_path):
    draw = torch.Generator().manual_seed(0)
    tensors = {f"t{at}": torch.randn(at * 40_000, generator=draw) for at in range(9)}  # 5.8 MB, and one of nothing
    path = tmp_path / "a.safetensors"
    write_safe(path, plan_of(tensors), tensors.__getitem__, {})
    wanted = {name: hashlib.sha256(each.numpy().tobytes()).digest() for name, each in tensors.items()}
    assert open_safe(path).digests(tensors) == wanted
    assert open_safe(path).wrong_hashes() == []
    assert open_safe(path).digests(["t3"]) == {"t3": wanted["t3"]}


def test_a_newer_hash_that_version_0_1_handed_on_is_not_taken_for_damage(written, tmp_path):
    tensors, path = dict(open_safe(written).tensors()), tmp_path / "a.safetensors"
    stale = {HASH_KEY: "0" * 64}
    write_safe(path, plan_of(tensors), tensors.__getitem__, stale, hashes=(OLD_HASH_KEY,))
    open_safe(path).verify()
    assert open_safe(path).wrong_hashes() == []
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptFile, match="SHA-256"):
        open_safe(path).verify()
    assert open_safe(path).wrong_hashes() == [OLD_HASH_KEY]


def test_a_file_of_version_0_1_is_verified_by_its_own_hash():
    """The two adapters that come with the program were written then."""
    path = Path(lora_diffusion.__file__).parent / "demo" / "adapters" / "papercut.safetensors"
    file = open_safe(path)
    assert OLD_HASH_KEY in file.metadata
    assert HASH_KEY not in file.metadata
    file.verify()
    assert file.wrong_hashes() == []


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    import datasets_tools.storage as storage
    from datasets_tools.errors import OutOfSpace

    path = tmp_path / "a.safetensors"
    write_adapter(sample_adapter(), path)
    before = path.read_bytes()

    def full(kind, where):
        if kind == "fsync":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "_boundary", full)
    with pytest.raises(OutOfSpace):
        write_adapter(sample_adapter(seed=1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
