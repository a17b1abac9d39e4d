"""Sets of pictures: what comes from outside is made harmless or refused by name; what is written can be undone."""

import io
import json
import re
import stat
import struct
import zipfile
import zlib

import pytest
from PIL import Image, PngImagePlugin

from datasets_tools import sha256_file
from webui.actions import act, as_json
from webui.errors import BadRequest, NotAllowed, NotFound
from webui.refusals import refusal
from webui.text import Text
from webui.users import User

ANA = User(name="Ana", role="creator")
BEN = User(name="Ben", role="creator")
EVE = User(name="Eve", role="viewer")
XSS = "<img src=x onerror=alert(1)>{{7*7}}${7*7}"


def picture(colour="red", size=(80, 60), form="PNG", **options):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format=form, **options)
    return buffer.getvalue()


def zipped(*entries):
    """A zip of (name or ZipInfo, bytes)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def _by_name(value):
    return value if isinstance(value, str) else ""


class Desk:
    """One user at one set."""

    def __init__(self, studio, user=ANA):
        self.studio, self.user = studio, user
        self.id = self("create", name="Spring").id
        self.folder = studio.datasets.find(self.id).folder

    def __call__(self, name, /, **arguments):
        return act(self.studio, self.user, f"datasets.{name}", **arguments)

    def add(self, *files):
        """Send files as (name, bytes)."""
        names = []
        for number, (name, data) in enumerate(files):
            folder = self.studio.home / "uploads" / f"u{number}-{len(list((self.studio.home / 'uploads').iterdir()))}"
            folder.mkdir()
            (folder / name).write_bytes(data)
            names.append(str((folder / name).relative_to(self.studio.home / "uploads")))
        return self("add_pictures", id=self.id, uploads=names)

    def pictures(self):
        return {each.file: each for each in self("show", id=self.id, wait=False).pictures}


@pytest.fixture
def desk(studio):
    return Desk(studio)


def refusals(taken):
    return {each.name: each.reason for each in taken.refused}


def test_the_sets_of_the_package_are_there_from_the_first_start_and_stay_as_they_are(studio):
    listed = act(studio, EVE, "datasets.list")
    assert {"demo:papercut", "demo:twoink", "demo:blueprint"} == {each.id for each in listed if each.read_only}
    assert all(each.pictures == 24 and len(each.covers) == 4 for each in listed)
    with pytest.raises(BadRequest, match="stays as it is"):
        act(studio, ANA, "datasets.caption", id="demo:papercut", file="03_bear.png", text="x")


def test_a_copy_of_a_set_of_the_package_may_be_changed(studio):
    copy = act(studio, ANA, "datasets.copy_demo", style="papercut")
    act(studio, ANA, "datasets.caption", id=copy.id, file="03_bear.png", text="a bear")
    captions = {each.file: each.caption for each in act(studio, ANA, "datasets.show", id=copy.id, wait=False).pictures}
    assert captions["03_bear.png"] == "a bear"
    original = act(studio, ANA, "datasets.show", id="demo:papercut", wait=False).pictures
    assert "a bear" not in {each.caption for each in original}


def test_a_viewer_looks_and_changes_nothing(studio, desk):
    desk.add(("a.png", picture()))
    assert [each.file for each in act(studio, EVE, "datasets.show", id=desk.id, wait=False).pictures] == ["a.png"]
    for name, arguments in {
        "create": {"name": "x"},
        "add_pictures": {"id": desk.id, "uploads": []},
        "caption": {"id": desk.id, "file": "a.png", "text": "x"},
        "edit_captions": {"id": desk.id, "edits": [{"do": "prepend", "text": "x"}]},
        "rights": {"id": desk.id, "owner": "x"},
        "exclude": {"id": desk.id, "files": ["a.png"]},
        "undo": {"id": desk.id},
        "remove": {"id": desk.id},
    }.items():
        with pytest.raises(NotAllowed):
            act(studio, EVE, f"datasets.{name}", **arguments)


def test_pictures_are_kept_upright_without_what_the_camera_wrote(desk):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    exif[0x010E] = "secret"
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "secret")
    taken = desk.add(("a.jpg", picture("red", (80, 60), "JPEG", exif=exif)), ("b.png", picture("blue", pnginfo=text)))
    assert taken.added == ("a.png", "b.png")
    with Image.open(desk.folder / "a.png") as kept:
        assert kept.size == (60, 80)
        assert dict(kept.getexif()) == {}
        assert kept.info == {}
    assert all(b"secret" not in path.read_bytes() for path in desk.folder.iterdir() if path.is_file())


def test_a_large_picture_is_scaled_to_4096_on_its_longest_side(desk):
    desk.add(("wide.png", picture("white", (5000, 100))))
    with Image.open(desk.folder / "wide.png") as kept:
        assert kept.size == (4096, 82)


def test_a_picture_that_is_there_is_not_kept_twice(desk):
    desk.add(("a.png", picture()))
    assert refusals(desk.add(("b.png", picture()))) == {"b.png": "it is in the set already, as a.png"}


def _bomb():
    """A PNG of 40,000 x 40,000 pixels in its header."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("page.png", b"<!doctype html><script>alert(1)</script>", "web page"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "SVG"),
        ("paper.jpg", b"%PDF-1.7\n", "PDF"),
        ("setup.png", b"MZ\x90\0" + b"\0" * 200, "not a picture"),
        ("moving.gif", b"GIF89a" + b"\0" * 50, "GIF"),
        ("empty.png", b"", "empty"),
        ("dot.png", picture("red", (1, 1)), "fewer than 32"),
        ("line.png", picture("red", (9000, 40)), "fewer than 32"),
        ("cut.jpg", picture("red", (400, 400), "JPEG")[:600], "JPEG"),
        ("bomb.png", _bomb(), "too many pixels"),
        ("model.safetensors", struct.pack("<Q", 2) + b"{}", "not a picture"),
        ("words.txt", b"a caption of nothing", "no picture has this name"),
        ("words.txt", b"\xff\xfe\x00\xd8", "cannot be read|UTF-16|decode|NUL|not"),
    ],
    ids=_by_name,
)
def test_what_is_no_picture_is_refused_by_name_and_the_others_are_kept(desk, name, data, said):
    taken = desk.add(("good.png", picture()), (name, data))
    assert taken.added == ("good.png",)
    assert list(refusals(taken)) == [name]
    assert re.search(said, refusals(taken)[name])
    assert {path.name for path in desk.folder.iterdir()} <= {"good.png", ".captions"}
    assert str(desk.studio.home) not in json.dumps(as_json(taken))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("..\\..\\evil.png", "evil.png"),
        (".htaccess.png", "htaccess.png"),
        ("a\x1b[31m\u202egnp.png", "a__31m_gnp.png"),
        ("CON.png", "_CON.png"),
        ("<script>alert(1)<%2Fscript>.png", "script_alert(1)__2Fscript.png"),
        ("été 日本.png", "été 日本.png"),
        ("x" * 200 + ".png", "x" * 120 + ".png"),
        ("=cmd|'calc'!A1.png", "cmd__calc__A1.png"),
    ],
)
def test_names_become_names_that_every_system_takes(desk, name, kept):
    archive = zipped((name, picture())) if "\\" not in name else None
    taken = desk.add((name, picture())) if archive is None else desk.add(("p.zip", archive))
    assert taken.added == (kept,)
    assert {path.name for path in desk.folder.iterdir()} == {kept}


def test_an_archive_brings_pictures_and_their_captions(desk):
    taken = desk.add(
        (
            "set.zip",
            zipped(
                ("set/one/fox.jpg", picture("red", form="JPEG")),
                ("set/one/fox.txt", b"a fox\nred"),
                ("set/two/FOX.png", picture("blue")),
                ("set/two/fox.txt", b"a blue fox"),
                ("__MACOSX/set/._fox.jpg", b"x"),
            ),
        )
    )
    assert (taken.added, taken.captions, taken.refused) == (("fox.png", "FOX-2.png"), 2, ())
    assert {file: each.caption for file, each in desk.pictures().items()} == {
        "FOX-2.png": "a blue fox",
        "fox.png": "a fox, red",
    }


def test_a_caption_that_comes_later_finds_its_picture(desk):
    desk.add(("fox.png", picture()))
    assert desk.add(("Fox.txt", b"a fox")).captions == 1
    assert desk.pictures()["fox.png"].caption == "a fox"
    desk("undo", id=desk.id)
    assert desk.pictures()["fox.png"].caption == ""


def _link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def _lying(data, name, size):
    """An archive whose directory says another size of its entry than what comes out."""
    archive = bytearray(zipped((name, data)))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = archive.index(signature)
        archive[at + offset : at + offset + 4] = struct.pack("<I", size)
    return bytes(archive)


@pytest.mark.parametrize(
    ("archive", "name", "said"),
    [
        (zipped(("../../evil.png", picture("blue"))), "../../evil.png", "leads out"),
        (zipped(("/etc/evil.png", picture("blue"))), "/etc/evil.png", "leads out"),
        (zipped(("C:\\evil.png", picture("blue"))), "C:\\evil.png", "leads out"),
        (zipped((_link("link.png"), b"/etc/passwd")), "link.png", "a link"),
        (zipped(("inner.zip", zipped(("a.png", picture("blue"))))), "inner.zip", "inside an archive"),
        (zipped(("zeros.png", b"\0" * 20_000_000)), "zeros.png", "120 times its size"),
        (_lying(b"\0" * 20_000_000, "liar.png", 100), "liar.png", "damaged inside"),
        (zipped(("run.exe", b"MZ\x90\0")), "run.exe", "not a picture|text"),
        (zipped(("a.png", picture("blue")))[:-30], "bad.zip", "damaged"),
        (b"PK\x03\x04" + b"x" * 100, "bad.zip", "damaged"),
    ],
    ids=_by_name,
)
def test_what_an_archive_must_not_hold_is_refused_by_name(desk, archive, name, said):
    taken = desk.add(("bad.zip", archive), ("good.png", picture()))
    assert taken.added == ("good.png",)
    assert list(refusals(taken)) == [name]
    assert re.search(said, refusals(taken)[name])
    assert not (desk.studio.home / "evil.png").exists()


def test_an_archive_of_too_many_files_is_refused_as_a_whole(desk):
    taken = desk.add(("many.zip", zipped(*((f"{n}.png", b"") for n in range(4001)))))
    assert refusals(taken) == {"many.zip": "it holds 4001 files, more than 4000"}


@pytest.mark.parametrize("name", ["../studio.db", "/etc/passwd", "nothing.png", "x/../../studio.db"])
def test_only_what_was_uploaded_can_be_added(desk, name):
    with pytest.raises(NotFound, match="no such upload"):
        desk("add_pictures", id=desk.id, uploads=[name])


@pytest.mark.parametrize("id", ["../../etc", "demo:../x", "0123456789abcdef", "demo:nothing", "x" * 16])
def test_an_id_that_names_no_set_is_refused(studio, id):
    with pytest.raises((BadRequest, NotFound)):
        act(studio, ANA, "datasets.show", id=id)


def test_a_check_says_what_is_wrong_with_which_picture_and_how_much_it_costs(desk):
    desk.add(*((f"p{n}.png", picture((n * 25, 99, 120), (1200, 60 + n))) for n in range(3)))
    (desk.folder / "broken.png").write_bytes(picture()[:100])
    found = desk("show", id=desk.id, resolution=512)
    by_file = {each.file: each for each in found.pictures}
    assert "crop-loses" in {one.code for one in by_file["p0.png"].findings}
    assert by_file["p0.png"].size == (1200, 60)
    left, top, width, height = by_file["p0.png"].crop
    assert 0 < left < 0.5
    assert width == pytest.approx(1 - 2 * left, abs=0.01)
    assert (top, height) == (0, 1)
    assert "image-unreadable" in {one.code for one in by_file["broken.png"].findings}
    assert by_file["broken.png"].crop is None
    assert found.health.blocked
    assert {"captions-none", "few-images"} <= {one.code for one in found.health.findings}
    assert 0 < found.health.score < 60
    assert len(found.health.changes) == 3
    assert json.dumps(as_json(found))


def test_a_report_is_kept_until_a_file_of_the_set_changes(desk):
    desk.add(("a.png", picture()))
    assert desk("show", id=desk.id, wait=False).health is None
    before = desk("show", id=desk.id).health
    assert desk("show", id=desk.id, wait=False).health == before
    assert desk("list")[0].score == before.score
    desk("caption", id=desk.id, file="a.png", text="a red field")
    assert desk("show", id=desk.id, wait=False).health is None
    codes = {one.code for one in desk("show", id=desk.id).health.findings}
    assert "captions-none" not in codes


def test_an_empty_set_is_shown_and_names_no_other_folder(desk):
    found = desk("show", id=desk.id)
    assert (found.pictures, found.health) == ((), None)


def test_progress_is_told_while_a_set_is_worked_on(studio, desk):
    assert desk("progress", id=desk.id) is None
    with studio.datasets.busy(desk.id, "check") as told:
        told(3, 9)
        assert desk("progress", id=desk.id) == {"what": "check", "done": 3, "total": 9}
    assert desk("progress", id=desk.id) is None


def test_a_bulk_edit_is_shown_before_it_is_done_and_can_be_undone(desk):
    desk.add(("a.png", picture("red")), ("a.txt", b"a cat"), ("b.png", picture("blue")), ("b.txt", b"a cat"))
    edits = [{"do": "replace", "old": "cat", "new": "dog"}, {"do": "append", "text": XSS}]
    shown = desk("edit_captions", id=desk.id, edits=edits, files=["b.png"])
    assert [(each.file, each.before, each.after) for each in shown] == [("b.png", "a cat", f"a dog, {XSS}")]
    assert desk.pictures()["b.png"].caption == "a cat"
    assert desk("edit_captions", id=desk.id, edits=edits, files=["b.png"], preview=False) == shown
    assert [each.caption for each in desk.pictures().values()] == ["a cat", f"a dog, {XSS}"]
    assert desk("undo", id=desk.id)["files"] == ("b.txt",)
    assert [each.caption for each in desk.pictures().values()] == ["a cat", "a cat"]
    assert [each["undone"] for each in desk("history", id=desk.id)] == [False, True]


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ([{"do": "drop table"}], "no caption edit"),
        ([{"do": "replace", "old": "(a+)+$", "regex": 3}], "regex of replace is 3"),
        ([{"text": "x"}], "no caption edit"),
    ],
)
def test_an_edit_that_there_is_not_is_refused(desk, edits, said):
    desk.add(("a.png", picture()))
    with pytest.raises(Exception, match=said):
        desk("edit_captions", id=desk.id, edits=edits)


def test_a_refusal_names_the_set_and_no_folder_of_the_server(desk):
    with pytest.raises(BadRequest) as refused:
        desk("undo", id=desk.id)
    assert str(refused.value) == "no change of captions was made in Spring"


def test_captions_are_suggested_where_there_are_none(desk):
    desk.add(("red-house.png", picture("red")), ("b.png", picture("blue")), ("b.txt", b"a boat"))
    desk("suggest_captions", id=desk.id, captioner="filename")
    assert [each.caption for each in desk.pictures().values()] == ["a boat", "red house"]


def test_a_picture_that_is_left_out_stays_in_the_list(desk):
    desk.add(("a.png", picture("red")), ("b.png", picture("blue")))
    desk("exclude", id=desk.id, files=["a.png"])
    found = desk("show", id=desk.id)
    assert [each.excluded for each in found.pictures] == [True, False]
    assert found.health.images == 1
    desk("include", id=desk.id, files=["a.png"])
    assert desk("show", id=desk.id).health.images == 2


def test_rights_are_stated_for_some_or_all_and_expire(desk):
    desk.add(("a.png", picture("red")), ("b.png", picture("blue")))
    assert [each.rights_problem for each in desk.pictures().values()] == ["missing", "missing"]
    desk("rights", id=desk.id, owner=XSS, licence="in house")
    desk("rights", id=desk.id, files=["b.png"], expires="2020-01-31")
    rows = desk.pictures()
    assert rows["a.png"].rights.owner == XSS
    assert [each.rights_problem for each in rows.values()] == ["", "expired"]
    assert "rights-expired" in {one.code for one in desk("show", id=desk.id).pictures[1].findings}


def test_a_set_whose_rights_expired_cannot_be_taught_and_its_health_says_so(desk):
    desk.add(*((f"p{n}.png", picture((n * 40, 99, 120), (512, 512))) for n in range(5)))
    desk("rights", id=desk.id, owner="Acme")
    assert not desk("show", id=desk.id, resolution=512).health.blocked
    desk("rights", id=desk.id, expires="2020-01-31")
    health = desk("show", id=desk.id, resolution=512).health
    assert health.blocked
    assert health.score < 50
    assert health.changes[0].code == "rights-expired"


def test_a_withdrawn_picture_blocks_its_set_until_it_is_left_out(desk):
    desk.add(("a.png", picture("red", (512, 512))), ("b.png", picture("blue", (512, 512))))
    desk("rights", id=desk.id, owner="Acme")
    library, sha256 = desk.studio.library, sha256_file(desk.folder / "a.png")
    library.withdraw(sha256, by="Ada", when="2026-01-02T03:04:05+00:00", reason="the artist asked")
    said = {each.file: [one.reason for one in each.findings] for each in desk.pictures().values()}
    assert said == {"a.png": ["withdrawn: the artist asked"], "b.png": []}
    found = desk("show", id=desk.id)
    assert found.health.blocked
    assert found.row.score == found.health.score < 50
    assert "image-withdrawn" in {one.code for one in found.pictures[0].findings if one.severity == "blocks"}
    desk("exclude", id=desk.id, files=["a.png"])
    assert not desk("show", id=desk.id).health.blocked
    desk("include", id=desk.id, files=["a.png"])
    library.reinstate(sha256, by="Ada", when="2026-01-02T03:04:05+00:00", reason="they agreed")
    assert not desk("show", id=desk.id).health.blocked


@pytest.mark.parametrize(
    ("edit", "after"),
    [
        ({"do": "prepend", "text": "twoinq style, "}, "twoinq style, a stack"),
        ({"do": "append", "text": " ,on paper"}, "a stack, on paper"),
        ({"do": "prepend", "text": "twoinq, ", "joiner": "/"}, "twoinq, /a stack"),
    ],
)
def test_a_text_that_brings_its_own_comma_gets_no_second_one(desk, edit, after):
    desk.add(("a.png", picture()), ("a.txt", b"a stack"))
    assert [each.after for each in desk("edit_captions", id=desk.id, edits=[edit])] == [after]


def test_no_text_is_put_into_no_caption(desk):
    desk.add(("a.png", picture()), ("a.txt", b"a stack"))
    with pytest.raises(BadRequest, match="no text"):
        desk("edit_captions", id=desk.id, edits=[{"do": "append", "text": " , "}])


@pytest.mark.parametrize(
    "edit",
    [
        {"do": "replace", "old": "", "new": "dog"},
        {"do": "remove", "text": " "},
        {"do": "trigger", "trigger": ""},
    ],
)
def test_an_empty_text_is_refused_in_the_words_of_the_page(desk, edit):
    desk.add(("a.png", picture()), ("a.txt", b"a stack"))
    with pytest.raises(BadRequest, match="the text is empty") as refused:
        desk("edit_captions", id=desk.id, edits=[edit])
    assert [refusal(Text("de"), each) for each in (str(refused.value), refused.value.hint)] == [
        "Der Text ist leer.",
        "Geben Sie zuerst den Text ein.",
    ]


def test_the_name_of_a_set_is_what_can_be_seen_and_no_path(desk):
    assert desk("create", name="Spring\x1b\u202e\n 2026").name == "Spring 2026"
    for name in ("../Spring", "Spring\\Summer", "..", "\x00"):
        with pytest.raises(BadRequest, match="name"):
            desk("create", name=name)


def test_a_caption_that_stays_as_it_is_writes_nothing(desk):
    desk.add(("a.png", picture()), ("a.txt", b"a stack"))
    before = desk("history", id=desk.id)
    assert desk("caption", id=desk.id, file="a.png", text="a stack ") is None
    assert desk("history", id=desk.id) == before


def test_a_set_is_removed_by_its_owner_and_only_hidden(studio, desk):
    desk.add(("a.png", picture()))
    with pytest.raises(NotAllowed, match="belongs to Ana"):
        act(studio, BEN, "datasets.remove", id=desk.id)
    desk("remove", id=desk.id)
    assert desk.id not in {each.id for each in desk("list")}
    with pytest.raises(NotFound):
        desk("show", id=desk.id)
    assert (desk.folder / "a.png").exists()


def test_what_was_done_is_in_the_audit(studio, desk):
    desk("create", name=XSS)
    assert [each.name for each in desk("list")][:1] == [XSS]


def test_looking_at_sets_loads_no_torch(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from webui.studio import Studio; from webui.actions import act\n"
        "from webui.users import LOCAL\n"
        "act(Studio(Path(sys.argv[1])), LOCAL, 'datasets.show', id='demo:papercut')\n"
        "assert not {'torch', 'gradio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
