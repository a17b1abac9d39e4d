"""Names, numbers, stages, and what is said of a version."""

import shutil

import pytest

from datasets_tools.errors import DatasetError
from datasets_tools.storage import sha256_file
from lora_diffusion.errors import CorruptFile, LoraDiffusionError, UsageError
from lora_diffusion.library import BACK, MOVES, STAGES, Details, Library, NewSample
from tests.library import made
from tests.library.made import ANN, BEN, approved


def test_versions_of_a_name_are_counted_up(library, files):
    assert [library.add(file, name="Ink", **ANN).ref for file in files[:3]] == ["Ink@1", "Ink@2", "Ink@3"]
    assert library.add(files[0], name="Paper", **ANN).ref == "Paper@1"


def test_the_same_file_under_the_same_name_is_the_version_that_is_there(library, files):
    first = library.add(files[0], name="Ink", **ANN)
    library.add(files[1], name="Ink", **ANN)
    before = library.head()
    assert library.add(files[0], name="ink", **BEN).number == first.number
    assert library.head() == before


def test_a_version_tells_what_its_file_holds(library, tmp_path):
    file = made.adapter(tmp_path / "x.safetensors", 5, rank=3, metadata={"modelspec.trigger_phrase": "inkwash"})
    found = library.add(file, name="Ink", **ANN)
    assert (found.family, found.facts.ranks, found.facts.methods, found.stage) == ("sd1", (3,), ("lora",), "draft")
    assert found.details.trigger == "inkwash"
    assert (found.sha256, found.bytes) == (sha256_file(file), file.stat().st_size)
    assert (found.by, found.at) == ("ann", made.WHEN)


def test_what_is_no_adapter_is_refused_and_leaves_nothing(library, files, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(files[0].read_bytes()[:-7])
    pickle = tmp_path / "pickle.safetensors"
    pickle.write_bytes(b"PK\x03\x04" + bytes(100))
    for path in (broken, pickle, tmp_path, tmp_path / "nothing"):
        with pytest.raises(LoraDiffusionError):
            library.add(path, name="Ink", **ANN)
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DatasetError):
        library.add(files[0], name="Ink", **ANN, samples=[NewSample(path=picture)])
    assert library.versions() == []
    assert library.verify() == []


def test_a_name_means_the_newest_until_one_is_approved(library, files):
    for file in files[:2]:
        library.add(file, name="Ink", **ANN)
    assert library.version("ink").number == 2
    approved(library, "ink@1")
    assert library.version("ink").number == 1
    library.add(files[2], name="Ink", **ANN)
    assert library.version("ink").number == 1
    assert library.version("ink@approved").number == 1
    assert approved(library, "ink@3").current
    assert library.version("INK").number == 3


def test_a_retired_version_hands_its_name_to_the_newest_that_is_approved(library, files):
    for file in files[:3]:
        library.add(file, name="Ink", **ANN)
    approved(library, "ink@1")
    approved(library, "ink@3")
    library.promote("ink@3", "retired", **BEN)
    assert library.version("ink").number == 1
    library.promote("ink@1", "retired", **BEN)
    assert library.version("ink").number == 2
    with pytest.raises(UsageError, match="has no version approved"):
        library.version("ink@approved")


@pytest.mark.parametrize("start", STAGES)
@pytest.mark.parametrize("end", STAGES)
def test_only_the_moves_of_the_table_are_allowed(library, files, start, end):
    library.add(files[0], name="Ink", **ANN)
    for stage in {"draft": [], "in_review": ["in_review"], "approved": ["in_review", "approved"]}.get(
        start, ["in_review", "approved", "retired"]
    ):
        library.promote("ink", stage, **ANN)
    if end not in MOVES[start]:
        with pytest.raises(UsageError, match="cannot become"):
            library.promote("ink", end, **BEN, reason="because")
        return
    if (start, end) in BACK:
        with pytest.raises(UsageError, match="without a reason"):
            library.promote("ink", end, **BEN)
    assert library.promote("ink", end, **BEN, reason="too blue").stage == end
    assert library.history("ink@1", limit=1)[0].reason == "too blue"


def test_rollback_moves_the_pointer_and_no_file(library, files):
    for file in files[:3]:
        library.add(file, name="Ink", **ANN)
    approved(library, "ink@1")
    approved(library, "ink@2")
    paths = {number: library.path(f"ink@{number}") for number in (1, 2, 3)}
    assert library.rollback("ink", 1, **BEN, reason="the new one is too loud").current
    assert library.version("ink").number == 1
    assert library.version("ink@approved").number == 1
    assert library.version("ink@2").stage == "approved"
    assert {number: library.path(f"ink@{number}") for number in (1, 2, 3)} == paths
    for number in (3, 9):
        with pytest.raises(UsageError):
            library.rollback("ink", number, **BEN, reason="why not")
    with pytest.raises(UsageError, match="without a reason"):
        library.rollback("ink", 2, **BEN, reason=" ")


def test_details_change_and_the_others_stay(library, files, drawn):
    library.add(files[0], name="Ink", **ANN, details=Details(trigger="ink", tags=("a",)))
    library.describe("ink", **BEN, notes="Größe", weight=0.7, weight_low=0.4, expires="2027-12-31")
    found = library.describe("ink", **BEN, thumbnail=drawn[0], presets={"soft": "0.5@unet.up=1.2@text=0"}).details
    assert (found.trigger, found.tags, found.notes, found.weight, found.weight_high) == (
        "ink",
        ("a",),
        "Größe",
        0.7,
        None,
    )
    assert found.presets == {"soft": "0.5@unet.up=1.2@text=0"}
    assert sha256_file(library.object(found.thumbnail)) == sha256_file(drawn[0])


@pytest.mark.parametrize(
    "change",
    [
        {"note": "x"}, {"weight": float("nan")}, {"weight_low": 2.0}, {"weight_high": 0.1}, {"expires": "31.12.2027"},
        {"expires": "2027-02-30"}, {"tags": ("",)}, {"tags": ("x" * 65,)}, {"presets": {"a": "0.5@nonsense=1"}},
        {"thumbnail": "0" * 64}, {"notes": "\ud800"}, {"notes": "a\0b"}, {"presets": {"a": "x"}}, {"notes": 3},
        {"tags": "red"}, {"tags": (1,)}, {"presets": ["x"]}, {"weight": "0.8"}, {"presets": {"a": 1}}, {"notes": None},
    ],
    ids=str,
)  # fmt: skip
def test_details_that_cannot_be_are_refused(library, files, change):
    library.add(files[0], name="Ink", **ANN)
    before = library.head()
    with pytest.raises(UsageError):
        library.describe("ink", **ANN, **change)
    assert library.head() == before


@pytest.mark.parametrize("by", ["", "  ", "a\nb", "x" * 201, "\ud800"])
def test_nobody_cannot_change_anything(library, files, by):
    with pytest.raises(UsageError):
        library.add(files[0], name="Ink", by=by, when=made.WHEN)


@pytest.mark.parametrize("when", ["", "yesterday", "2026-01-31", "2026-01-31T09:00:00"])
def test_a_time_has_its_offset(library, files, when):
    with pytest.raises(UsageError, match="is no time"):
        library.add(files[0], name="Ink", by="ann", when=when)


def test_a_renamed_adapter_keeps_versions_id_and_history(library, files):
    first = library.add(files[0], name="Ink", **ANN)
    library.add(files[1], name="Paper", **ANN)
    assert library.rename("ink", "Wash", **BEN, reason="brand guide").id == first.id
    assert [event.what for event in library.history("wash")] == ["rename", "add"]
    assert library.rename("wash", "WASH", **BEN).name == "WASH"
    with pytest.raises(UsageError, match="has no adapter 'Ink'"):
        library.version("Ink")
    with pytest.raises(UsageError, match="already"):
        library.rename("wash", "PAPER", **BEN)
    assert library.add(files[2], name="Ink", **ANN).id != first.id


def test_an_id_stands_for_the_name(library, files):
    found = library.add(files[0], name="Ink", **ANN)
    assert library.version(found.id) == library.version(f"{found.id}@1") == found


def test_an_unknown_name_is_answered_with_the_nearest(library, files):
    with pytest.raises(UsageError) as none:
        library.version("ink")
    assert "empty" in none.value.hint
    library.add(files[0], name="Autumn Poster", **ANN)
    with pytest.raises(UsageError) as close:
        library.version("autum poster")
    assert "Autumn Poster" in close.value.hint
    with pytest.raises(UsageError) as number:
        library.version("autumn poster@7")
    assert "1 (draft)" in number.value.hint


def test_versions_are_found_by_what_is_said_of_them(library, files, drawn):
    made.fill(library, files, drawn)
    library.add(files[2], name="Ink", **ANN)

    def found(**asked):
        return [each.ref for each in library.versions(**asked)]

    assert found() == ["Ink@1", "Paper@1"]
    assert found(every=True) == ["Ink@2", "Ink@1", "Paper@1"]
    assert found(text="INKWASH") == found(text="ink blau") == found(tag="wet") == found(stage="approved") == ["Ink@1"]
    assert found(text="paper") == found(name="pAPER") == ["Paper@1"]
    assert found(text="%") == found(family="sdxl") == found(tag="we") == found(name="../x") == []
    assert found(family="sd1", stage="draft", every=True) == ["Ink@2", "Paper@1"]
    with pytest.raises(UsageError, match="no stage"):
        library.versions(stage="done")


def test_samples_know_what_stands_in_the_picture(library, files, drawn, tmp_path):
    library.add(files[0], name="Ink", **ANN, samples=[NewSample(path=drawn[1])])
    foreign = tmp_path / "foreign.png"
    from PIL import Image

    Image.new("RGB", (9, 9)).save(foreign)
    library.add_sample("ink", foreign, **ANN, prompt="by hand", seed=4)
    first, second = library.samples("ink")
    assert (first.prompt, first.seed, first.weight) == ("an inkwash fox", 1, 0.8)
    assert (second.prompt, second.seed, second.weight) == ("by hand", 4, None)
    assert sha256_file(first.path) == first.sha256 == sha256_file(drawn[1])
    library.add_sample("ink", foreign, **ANN, prompt="better words", seed=4)
    assert [each.prompt for each in library.samples("ink")] == ["an inkwash fox", "better words"]


def test_compare_shows_settings_and_pairs_samples_of_one_prompt_and_seed(library, files, drawn):
    made.fill(library, files, drawn)
    library.add(files[2], name="Ink", **ANN, samples=[NewSample(path=drawn[1]), NewSample(path=drawn[2])])
    done = library.compare("ink@1", "ink@2")
    differ = {f"{each.section}.{each.key}": (each.first, each.second) for each in done.settings}
    assert differ["plan.run.steps"] == ("3", "")
    assert differ["details.trigger"] == ("inkwash", "")
    assert "file.fingerprint" in differ
    assert "file.ranks" not in differ
    pairs = [tuple(each and each.seed for each in pair) for pair in done.samples]
    assert pairs == [(1, 1), (0, None), (None, 2)]


def test_comments_stay_with_their_version(library, files):
    for file in files[:2]:
        library.add(file, name="Ink", **ANN)
    library.comment("ink@1", "first", **ANN)
    library.comment("ink@2", "second", **BEN)
    library.comment("ink@1", "third", **BEN)
    assert [(each.by, each.text) for each in library.comments("ink@1")] == [("ann", "first"), ("ben", "third")]
    with pytest.raises(UsageError, match="empty"):
        library.comment("ink", " \n", **ANN)


def test_the_history_tells_who_changed_what_when_and_why(library, files):
    library.add(files[0], name="Ink", **ANN)
    library.describe("ink", **BEN, notes="new")
    told, added = library.history("ink@1")
    assert (told.by, told.at, told.what, told.subject) == ("ben", made.WHEN, "describe", "Ink@1")
    assert [each["notes"] for each in told.before.values()] == [""]
    assert [each["notes"] for each in told.after.values()] == ["new"]
    assert told.previous == added.hash
    assert library.head() == told.hash
    assert [each.number for each in library.history(before=2)] == [1]


def test_what_is_done_beside_the_library_stands_in_the_same_history(library, files):
    library.add(files[0], name="Ink", **ANN)
    library.record("sign in", **BEN, said={"from": "10.0.0.7"})
    told = library.history(limit=1)[0]
    assert (told.what, told.by, told.reason) == ("sign in", "ben", '{"from": "10.0.0.7"}')
    assert library.verify() == []
    for what, said in (("", {}), ("a\nb", {}), ("x", {"y": float("nan")}), ("x", {"y": object()})):
        with pytest.raises(UsageError):
            library.record(what, **BEN, said=said)


def test_files_of_the_library_are_read_only_and_their_own(library, files, tmp_path):
    mine = shutil.copy(files[0], tmp_path / "mine.safetensors")
    version = library.add(mine, name="Ink", **ANN)
    mine.write_bytes(b"changed")
    path = library.path("ink")
    assert sha256_file(path) == version.sha256
    assert path.stat().st_mode & 0o222 == 0


def test_a_changed_or_missing_file_is_never_handed_out(library, files):
    library.add(files[0], name="Ink", **ANN)
    path = library.path("ink")
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match="changed"):
        library.path("ink")
    assert library.add(files[0], name="Ink", **ANN).number == 1
    assert sha256_file(library.path("ink")) == sha256_file(files[0])
    path.unlink()
    with pytest.raises(CorruptFile, match="missing"):
        library.path("ink")


def test_a_library_that_was_copied_without_times_still_works(library, files, tmp_path):
    library.add(files[0], name="Ink", **ANN)
    library.close()
    shutil.copytree(tmp_path / "home", tmp_path / "copy", copy_function=shutil.copyfile)
    with Library.open(tmp_path / "copy") as found:
        assert sha256_file(found.path("ink")) == sha256_file(files[0])
        assert found.verify() == []


def test_shipped_adapters_are_approved_once(library, files, tmp_path):
    from lora_diffusion.library.seeding import seed

    shipped = tmp_path / "shipped"
    shipped.mkdir()
    shutil.copy(files[0], shipped / "papercut.safetensors")
    shutil.copy(files[1], shipped / "ink.safetensors")
    library.add(files[2], name="Ink", **ANN)
    found = seed(library._store, when=made.WHEN, folder=shipped)
    assert [(each.ref, each.stage, each.by) for each in found] == [("papercut@1", "approved", "lora-diffusion")]
    library.rename("papercut", "Cut", **ANN)
    assert seed(library._store, when=made.WHEN, folder=shipped) == []
    assert seed(library._store, when=made.WHEN, folder=tmp_path / "nothing") == []


def test_a_closed_library_says_so(library):
    library.close()
    with pytest.raises(UsageError, match="closed"):
        library.versions()
