import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_tools.caption import decode_text, find_captions, tidy, with_trigger
from datasets_tools.captioners import captioner, captioner_names
from datasets_tools.errors import InvalidSetting, UnreadableCaption

DECODED = [
    (b"a red house", "a red house"),
    ("Häuser über Öl 🎨".encode(), "Häuser über Öl 🎨"),
    ("Häuser".encode("utf-8-sig"), "Häuser"),
    ("日本の家".encode("utf-16"), "日本の家"),
    (b"\xfe\xff" + "日本の家".encode("utf-16-be"), "日本の家"),
    ("a café".encode("utf-32"), "a café"),
    ("un café près de l’église".encode("cp1252"), "un café près de l’église"),
    ("שלום עולם".encode(), "שלום עולם"),
    (b"", ""),
    (b" \r\n\t ", ""),
    (b"one\r\ntwo\r\n", "one, two"),
    (b"a sentence.\nanother", "a sentence. another"),
    (b"tag one,\n  tag   two", "tag one, tag two"),
    (b"braces {} %s (word:1.2) \\(x\\)", "braces {} %s (word:1.2) \\(x\\)"),
    (b"bell\x07tab\tend", "bell tab end"),
]


@pytest.mark.parametrize(("data", "text"), DECODED, ids=[repr(text) for _, text in DECODED])
def test_captions_are_decoded_and_tidied(data, text):
    assert tidy(decode_text(data, "a.txt")) == text


REFUSED = [
    (b"abc\0def", "offset 3"),
    ("no mark".encode("utf-16-le"), "offset 1"),
    (b"\xff\xfea\0\0\0b\0", "offset 4"),
    (b"\xff\xfea\0b", "byte 4"),
    (b"\xef\xbb\xbfok \xff", "byte 6"),
    ("夏の日の絵".encode("shift-jis"), "byte 0"),
    ("Привет, мир".encode("cp1251"), "byte 0"),
    (b"ok " + bytes([0x81]), "byte 3"),
    (b"x" * 1_000_000, "1.0 MB"),
]


@pytest.mark.parametrize(("data", "where"), REFUSED, ids=[where for _, where in REFUSED])
def test_what_cannot_be_decoded_is_refused_with_file_and_offset(data, where):
    with pytest.raises(UnreadableCaption, match=r"my caption\.txt") as refused:
        decode_text(data, "my caption.txt")
    assert where in str(refused.value)
    assert refused.value.hint


@given(st.text())
def test_any_text_becomes_one_clean_line_and_stays_it(text):
    line = tidy(text)
    assert line == line.strip()
    assert not any(sign in line for sign in "\r\n\t\0\x85\u2028")
    assert tidy(line) == line


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data):
    try:
        text = decode_text(data, "a.txt")
    except UnreadableCaption:
        return
    assert "\0" not in text


@pytest.mark.parametrize(
    ("caption", "trigger", "result"),
    [
        ("a house", "brndx", "brndx, a house"),
        ("", "brndx", "brndx"),
        ("a house", "", "a house"),
        ("a house", "  ", "a house"),
        ("a Brndx house", "brndx", "a Brndx house"),
        ("brndx", "brndx", "brndx"),
        ("a brndxs house", "brndx", "brndx, a brndxs house"),
        ("a house, [trigger] style", "brndx", "a house, brndx style"),
        ("[Trigger], a house", "", "a house"),
        ("a house", "c++", "c++, a house"),
        ("a c++ house", "c++", "a c++ house"),
        ("[trigger] house", r"a\1b", r"a\1b house"),
        ("a house in brand x colours", "brand x", "a house in brand x colours"),
    ],
)
def test_the_trigger_is_in_the_caption_once(caption, trigger, result):
    assert with_trigger(caption, trigger) == result


@given(st.text(st.characters(categories=["L", "N"]), min_size=1), st.text())
def test_adding_the_trigger_twice_changes_nothing(trigger, text):
    once = with_trigger(tidy(text), trigger)
    assert with_trigger(once, trigger) == once


def write(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def found(folder, images):
    texts = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return find_captions(folder, images, sorted(texts))


def texts(captions):
    return {image: caption.text for image, caption in captions.by_image.items()}


def codes(captions):
    return [(finding.code, finding.file) for finding in captions.findings]


@pytest.mark.parametrize("name", ["a.txt", "a.caption", "a.TXT", "a.jpg.txt"])
def test_sidecars_are_found_whatever_their_ending(tmp_path, name):
    (tmp_path / name).write_text("a house")
    assert texts(found(tmp_path, ["a.jpg", "b.jpg"])) == {"a.jpg": "a house"}


def test_sidecars_in_folders_belong_to_their_folder(tmp_path):
    write(tmp_path, x__a_dot_txt="one", y__a_dot_txt="two")
    captions = found(tmp_path, ["x/a.png", "y/a.png", "a.png"])
    assert texts(captions) == {"x/a.png": "one", "y/a.png": "two"}


def test_a_decomposed_name_from_a_mac_finds_its_caption(tmp_path):
    (tmp_path / "Grün.txt").write_text("green")
    assert texts(found(tmp_path, ["Gru\u0308n.png"])) == {"Gru\u0308n.png": "green"}


def test_two_sidecars_that_differ_are_reported_and_txt_wins(tmp_path):
    write(tmp_path, a_dot_txt="one", a_dot_caption="two", b_dot_txt="same", b_dot_caption="same")
    captions = found(tmp_path, ["a.png", "b.png"])
    assert texts(captions) == {"a.png": "one", "b.png": "same"}
    assert codes(captions) == [("caption-conflict", "a.png")]


def test_metadata_in_every_common_form_is_read(tmp_path):
    rows = [{"file_name": f"{key}.png", key: f"from {key}"} for key in ("text", "caption", "prompt")]
    write(tmp_path, metadata_dot_jsonl="\n".join(map(json.dumps, rows)) + "\n")
    write(tmp_path, sub__metadata_dot_csv="file_name;text\nd.png;semicolons, too\n")
    captions = found(tmp_path, ["text.png", "caption.png", "prompt.png", "sub/d.png"])
    assert texts(captions) == {
        "text.png": "from text",
        "caption.png": "from caption",
        "prompt.png": "from prompt",
        "sub/d.png": "semicolons, too",
    }


@pytest.mark.parametrize("spelling", ["licence", "license"])
def test_rights_stated_in_the_metadata_are_kept(tmp_path, spelling):
    row = {"file_name": "a.png", "owner": "Ada", spelling: "CC0", "expires": "2030-01-01"}
    write(tmp_path, metadata_dot_jsonl=json.dumps(row))
    rights = found(tmp_path, ["a.png"]).rights["a.png"]
    assert (rights.owner, rights.licence, rights.expires, rights.consent) == ("Ada", "CC0", "2030-01-01", "")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"file_name": "a.png", "text": "x"}\n{broken', "line 2 is not JSON"),
        ("[1, 2]", "line 1 is not an object"),
        ('{"text": "x"}', "line 1 has no file_name"),
        ('{"file_name": "a.png", "text": 5}', "the caption is not text"),
        ("[" * 100_000, "line 1 is not JSON"),
        (json.dumps({"file_name": "a.png", "text": "x" * 70_000}), "longer than 65536 characters"),
    ],
)
def test_damaged_metadata_is_named_by_line(tmp_path, content, says):
    write(tmp_path, metadata_dot_jsonl=content)
    (finding,) = found(tmp_path, ["a.png"]).findings
    assert (finding.code, finding.severity) == ("metadata-invalid", "blocks")
    assert says in finding.reason


@pytest.mark.parametrize("name", ["b.png", "../a.png", "/a.png", "C:\\a.png"])
def test_metadata_about_other_files_is_reported(tmp_path, name):
    write(tmp_path, metadata_dot_jsonl=json.dumps({"file_name": name, "text": "x"}))
    captions = found(tmp_path, ["a.png"])
    assert texts(captions) == {}
    assert codes(captions) == [("caption-orphan", "metadata.jsonl")]


def test_half_characters_in_json_become_spaces_that_can_be_written(tmp_path):
    write(tmp_path, metadata_dot_jsonl='{"file_name": "a.png", "text": "a\\ud800b"}')
    assert texts(found(tmp_path, ["a.png"])) == {"a.png": "a b"}


def test_findings_and_rights_can_always_be_written_as_text(tmp_path):
    rows = ['{"file_name": "\\ud800.png"}', '{"file_name": "a.png", "owner": "\\ud800Ada"}']
    write(tmp_path, metadata_dot_jsonl="\n".join(rows))
    captions = found(tmp_path, ["a.png"])
    assert captions.rights["a.png"].owner == "Ada"
    captions.findings[0].reason.encode()


def test_captions_without_a_picture_are_reported_but_a_readme_is_not(tmp_path):
    write(tmp_path, b_dot_txt="lost", README_dot_txt="about", a_dot_txt="kept")
    assert codes(found(tmp_path, ["a.png"])) == [("caption-orphan", "b.txt")]


def test_an_unreadable_caption_blocks_and_leaves_the_others(tmp_path):
    write(tmp_path, a_dot_txt=b"bad\0", b_dot_txt="good")
    captions = found(tmp_path, ["a.png", "b.png"])
    assert texts(captions) == {"b.png": "good"}
    assert [(one.code, one.severity, one.file) for one in captions.findings] == [
        ("caption-unreadable", "blocks", "a.txt")
    ]


def test_several_lines_are_joined_and_said(tmp_path):
    write(tmp_path, a_dot_txt="one\ntwo\n")
    captions = found(tmp_path, ["a.png"])
    assert texts(captions) == {"a.png": "one, two"}
    assert codes(captions) == [("caption-lines", "a.txt")]


@pytest.mark.parametrize(
    ("file", "caption"),
    [
        ("sunset_over-the-lake (2).jpg", "sunset over the lake"),
        ("RedHouse copy.png", "Red House"),
        ("IMG_20240102_1234.jpg", ""),
        ("3f2b9c0d1e4a5b6c.png", ""),
        ("Grüße aus Köln.png", "Grüße aus Köln"),
    ],
)
def test_file_names_become_words(tmp_path, file, caption):
    assert captioner("filename").caption(tmp_path / file) == caption


def test_every_captioner_that_is_found_keeps_the_protocol(tmp_path):
    for name in captioner_names():
        one = captioner(name)
        assert one.name == name
        assert isinstance(one.caption(tmp_path / "a red house.png"), str)


def test_an_unknown_captioner_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidSetting, match="did you mean filename") as refused:
        captioner("file-name")
    assert "filename" in refused.value.hint
