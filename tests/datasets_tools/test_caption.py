import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_tools.caption import decode_text, find_captions, tidy, with_trigger
from datasets_tools.errors import UnreadableCaption

DECODED = [
    (b"a red house", "a red house"),
    ("Häuser über Öl 🎨".encode(), "Häuser über Öl 🎨"),
    ("Häuser".encode("utf-8-sig"), "Häuser"),
    (b"\xef\xbb\xbf", ""),
    ("日本の家".encode("utf-16"), "日本の家"),
    (b"\xfe\xff" + "日本の家".encode("utf-16-be"), "日本の家"),
    ("🎨 paint".encode("utf-16"), "🎨 paint"),
    (b"\xff\xfe", ""),
    ("a café".encode("utf-32"), "a café"),
    (b"\0\0\xfe\xff" + "a café 🎨".encode("utf-32-be"), "a café 🎨"),
    ("un café près de l’église".encode("cp1252"), "un café près de l’église"),
    ("Größe, Fuß, Übermaß".encode("cp1252"), "Größe, Fuß, Übermaß"),
    ("smörgås på bordet".encode("cp1252"), "smörgås på bordet"),
    ("Öl".encode("cp1252"), "Öl"),
    ("Füße, süß".encode("cp1252"), "Füße, süß"),
    ("ÖL".encode("cp1250"), "ÖL"),
    ("“quoted” – and a dash…".encode("cp1252"), "“quoted” – and a dash…"),
    ("5 € off, ½ price".encode("cp1252"), "5 € off, ½ price"),
    ("sœur, Žofie, naïve".encode("cp1252"), "sœur, Žofie, naïve"),
    ("日本の家".encode(), "日本の家"),
    ("한국의 집".encode(), "한국의 집"),
    ("дом у реки".encode(), "дом у реки"),
    ("บ้านสีแดง".encode(), "บ้านสีแดง"),
    ("लाल घर".encode(), "लाल घर"),
    ("שלום עולם".encode(), "שלום עולם"),
    ("بيت أحمر 12".encode(), "بيت أحمر 12"),
    ("\u202eright to left\u202c".encode(), "\u202eright to left\u202c"),
    ("👩‍👩‍👧 family, 🏳️‍🌈".encode(), "👩‍👩‍👧 family, 🏳️‍🌈"),
    ("🇩🇪 flag".encode(), "🇩🇪 flag"),
    ("e\u0301 and é".encode(), "e\u0301 and é"),
    ("zero\u200bwidth".encode(), "zero\u200bwidth"),
    ("a\u00a0b\u3000c".encode(), "a b c"),
    ("one\ufefftwo".encode(), "onetwo"),
    (b"", ""),
    (b" \r\n\t ", ""),
    (b"\n\n\n", ""),
    ("\u3000\u00a0\u2003".encode(), ""),
    (b"one\r\ntwo\r\n", "one, two"),
    (b"one\rtwo", "one, two"),
    (b"one\n\n\ntwo\n", "one, two"),
    ("one\u2028two\x85three".encode(), "one, two, three"),
    (b"a sentence.\nanother", "a sentence. another"),
    (b"tag one,\n  tag   two", "tag one, tag two"),
    (b"bell\x07tab\tend", "bell tab end"),
    (b"\x1b[31mred\x1b[0m", "[31mred [0m"),
    (b"form\x0cfeed", "form, feed"),
    (b"{}", "{}"),
    (b"{0} {name!r:>10}", "{0} {name!r:>10}"),
    (b"{{x}} {% if y %}", "{{x}} {% if y %}"),
    (b"%s %d %(name)s 100%", "%s %d %(name)s 100%"),
    (b"$HOME ${PATH} $(ls) `ls`", "$HOME ${PATH} $(ls) `ls`"),
    (b"(word:1.2), [less], ((more))", "(word:1.2), [less], ((more))"),
    (b"a __wild__ card, {red|green}", "a __wild__ card, {red|green}"),
    (b"<lora:other:0.8>, <s1>", "<lora:other:0.8>, <s1>"),
    (b"a BREAK b AND c", "a BREAK b AND c"),
    (b"\\n \\(x\\) \\u0041 C:\\new", "\\n \\(x\\) \\u0041 C:\\new"),
    (b"<b>bold</b> &amp; <script>x</script>", "<b>bold</b> &amp; <script>x</script>"),
    (b"\"quoted\", 'single'", "\"quoted\", 'single'"),
    (b"'; DROP TABLE captions; --", "'; DROP TABLE captions; --"),
    (b"<|startoftext|> a <|endoftext|>", "<|startoftext|> a <|endoftext|>"),
    (b"## heading\n- point", "## heading, - point"),
    (b'{"caption": "json"}', '{"caption": "json"}'),
    (b",,, , ,", ",,, , ,"),
    (b"word " * 13_000, ("word " * 13_000).strip()),
    (b"x" * 65_536, "x" * 65_536),
    (b"\n" * 65_536, ""),
]


@pytest.mark.parametrize(("data", "text"), DECODED, ids=[repr(text[:30]) for _, text in DECODED])
def test_captions_are_decoded_and_tidied_and_nothing_in_them_is_a_command(tmp_path, data, text):
    (tmp_path / "a.txt").write_bytes(data)
    captions = find_captions(tmp_path, ["a.jpg"], ["a.txt"])
    assert captions.by_image["a.jpg"].text == tidy(decode_text(data, "a.txt")) == text
    assert {finding.code for finding in captions.findings} <= {"caption-lines", "caption-encoding"}


REFUSED = [
    (b"abc\0def", "offset 3"),
    (b"\0", "offset 0"),
    (b"abc\0", "offset 3"),
    ("ü\0".encode(), "offset 2"),
    ("no mark".encode("utf-16-le"), "offset 1"),
    ("no mark".encode("utf-16-be"), "offset 0"),
    ("no mark".encode("utf-32-le"), "offset 1"),
    (b"\xff\xfea\0\0\0b\0", "offset 4"),
    (b"\xfe\xff\0a\0\0", "offset 4"),
    (b"\xff\xfe\0\0a\0\0\0\0\0\0\0", "offset 8"),
    (b"\xff\xfea\0b", "byte 4"),
    (b"\xff\xfea\0\x00\xd8", "byte 4"),
    (b"\xff\xfe\0\0a\0\0\0\0\0\x11\0", "byte 8"),
    (b"\xef\xbb\xbfok \xff", "byte 6"),
    (b"\xef\xbb\xbf\xef\xbb", "byte 3"),
    ("夏の日の絵".encode("shift-jis"), "byte 0"),
    ("赤い house".encode("shift-jis"), "byte 0"),
    ("a 赤い家".encode("euc-jp"), "byte 2"),
    ("红房子".encode("gb18030"), "byte 0"),
    ("붉은 집".encode("euc-kr"), "byte 0"),
    ("Привет, мир".encode("cp1251"), "byte 0"),
    ("я и ты".encode("cp1251"), "byte 0"),
    ("Ö".encode("cp1252"), "byte 0"),
    ("a house, złoty, of gold".encode("cp1250"), "byte 10"),
    ("žluťoučký kůň".encode("cp1250"), "byte 0"),
    ("テスト".encode("shift_jis"), "byte 0"),
    ("中文".encode("gbk"), "byte 0"),
    ("中文".encode("big5"), "byte 0"),
    ("日本語".encode("euc_jp"), "byte 0"),
    ("дом".encode("koi8-r"), "byte 0"),
    ("σπίτι".encode("iso8859-7"), "byte 0"),
    (b"ok " + bytes([0x81]), "byte 3"),
    (b"cut \xe2\x82", "byte 4"),
    (b"overlong \xc0\xaf\xc0\xaf\xc0\xaf", "byte 9"),
    (b"surrogate \xed\xa0\x80", "byte 10"),
    (b"\xff\xd8\xff\xe0\x00\x10JFIF", "offset 4"),
    (b"\x89PNG\r\n\x1a\n\0", "offset 8"),
    (b"PK\x03\x04\x14\0", "offset 5"),
    (b"x" * 65_537, "65.5 kB"),
    (b"x" * 1_000_000, "1.0 MB"),
    (b"\0" * 1_000_000, "1.0 MB"),
]


@pytest.mark.parametrize(("data", "where"), REFUSED, ids=[repr(data[:24]) for data, _ in REFUSED])
def test_what_cannot_be_decoded_is_refused_with_file_and_offset(tmp_path, data, where):
    with pytest.raises(UnreadableCaption, match=r"my caption\.txt") as refused:
        decode_text(data, "my caption.txt")
    assert where in str(refused.value)
    assert refused.value.hint
    (tmp_path / "a.txt").write_bytes(data)
    (finding,) = find_captions(tmp_path, ["a.jpg"], ["a.txt"]).findings
    assert (finding.code, finding.severity, finding.file) == ("caption-unreadable", "blocks", "a.txt")
    assert where in finding.reason


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


@pytest.mark.parametrize("ending", [".txt", ".caption", ".png.txt"])
def test_of_two_sidecars_the_one_that_is_spelt_as_the_picture_counts(tmp_path, ending):
    for picture, other in (("é.png", "e\u0301"), ("e\u0301.png", "é")):
        own = picture.removesuffix(".png") + ending
        for file in (own, f"{other}.txt"):
            (tmp_path / file).write_text(ascii(file))
        captions = find_captions(tmp_path, [picture], sorted([own, f"{other}.txt"]))
        assert captions.by_image[picture].source == own
        assert [finding.code for finding in captions.findings] == ["caption-conflict"]


def test_two_sidecars_that_differ_are_reported_and_txt_wins(tmp_path):
    write(tmp_path, a_dot_txt="one", a_dot_caption="two", b_dot_txt="same", b_dot_caption="same")
    captions = found(tmp_path, ["a.png", "b.png"])
    assert texts(captions) == {"a.png": "one", "b.png": "same"}
    assert codes(captions) == [("caption-conflict", "a.png")]


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
    ("data", "told"),
    [
        ("a house près de Paris".encode("cp1252"), ['"près"']),
        ("a horse called kůň".encode("cp1250"), ['"kùò"']),
        ("Größe in Öl".encode("cp1252"), []),
        ("près, kůň".encode(), []),
    ],
    ids=["French", "Czech, misread", "German, the same in both", "UTF-8"],
)
def test_letters_that_another_encoding_would_read_otherwise_are_shown(tmp_path, data, told):
    (tmp_path / "a.txt").write_bytes(data)
    found = find_captions(tmp_path, ["a.jpg"], ["a.txt"]).findings
    assert [finding.code for finding in found] == ["caption-encoding"] * len(told)
    assert all(word in finding.reason for word, finding in zip(told, found, strict=True))
