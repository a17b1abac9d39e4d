import csv
import io
import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_tools.caption import find_captions
from datasets_tools.errors import InvalidManifest
from datasets_tools.rows import change_rows, read_rows


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


SPELT = [
    ("é.png", "e\u0301.png"),
    ("sub/a.png", "sub\\a.png"),
    ("a.png", "  a.png "),
    ("sub/é.png", " sub\\e\u0301.png"),
    ("sub/a.png", "./sub//a.png"),
]


@pytest.mark.parametrize(("image", "named"), SPELT)
def test_a_row_finds_its_picture_however_the_name_is_spelt(tmp_path, image, named):
    write(tmp_path, metadata_dot_jsonl=json.dumps({"file_name": named, "text": "x"}))
    captions = found(tmp_path, [image])
    assert (texts(captions), captions.findings) == ({image: "x"}, ())


@pytest.mark.parametrize(("image", "named"), SPELT[:-1])
def test_a_row_means_the_picture_that_is_called_exactly_so(tmp_path, image, named):
    rows = [{"file_name": named, "text": "as named"}, {"file_name": image, "text": "the other"}]
    write(tmp_path, metadata_dot_jsonl="\n".join(map(json.dumps, rows)))
    captions = found(tmp_path, [image, named])
    assert (texts(captions), captions.findings) == ({named: "as named", image: "the other"}, ())


@pytest.mark.parametrize(("named", "twin"), [(" sub", "sub"), ("e\u0301", "é"), ("sub\\deep", "sub/deep")])
def test_a_default_means_the_folder_that_is_called_exactly_so(tmp_path, named, twin):
    write(tmp_path, rights_dot_csv=f"file_name,owner\n{named}/*,Ada\n")
    assert set(found(tmp_path, [f"{twin}/a.png", f"{named}/a.png"]).rights) == {f"{named}/a.png"}
    assert set(found(tmp_path, [f"{twin}/a.png", "a.png"]).rights) == {f"{twin}/a.png"}


def test_half_characters_in_json_become_spaces_that_can_be_written(tmp_path):
    write(tmp_path, metadata_dot_jsonl='{"file_name": "a.png", "text": "a\\ud800b"}')
    assert texts(found(tmp_path, ["a.png"])) == {"a.png": "a b"}


def test_findings_and_rights_can_always_be_written_as_text(tmp_path):
    rows = ['{"file_name": "\\ud800.png"}', '{"file_name": "a.png", "owner": "\\ud800Ada"}']
    write(tmp_path, metadata_dot_jsonl="\n".join(rows))
    captions = found(tmp_path, ["a.png"])
    assert captions.rights["a.png"].owner == "Ada"
    captions.findings[0].reason.encode()


EXPORTS = [
    b'file_name,text\na.png,"a house, red"\n',
    b"\xef\xbb\xbffile_name;text\r\na.png;a house, red\r\n",
    "file_name\ttext\na.png\ta house, red\n".encode("utf-16"),
    b"sep=;\r\nfile_name;text\r\na.png;a house, red\r\n",
    b"File_Name ; Text\na.png;a house, red",
    b'"file_name","text"\n"a.png","a house,\nred"\n',
    b'"file_name","text"\r\n"a.png","a house,\r\nred"\r\n',
    b'\n\nfile_name,text\n\na.png,"a house, red"\n,\n',
    b'file,prompt,note\na.png,"a house, red",\n',
]


@pytest.mark.parametrize("data", EXPORTS, ids=range(len(EXPORTS)))
def test_a_csv_is_read_as_spreadsheets_write_it(tmp_path, data):
    write(tmp_path, metadata_dot_csv=data)
    captions = found(tmp_path, ["a.png"])
    assert captions.findings == ()
    assert texts(captions) == {"a.png": "a house, red"}


def test_a_western_european_spreadsheet_keeps_its_letters(tmp_path):
    write(tmp_path, metadata_dot_csv="file_name;text\nGrün.png;ein Haus über dem Fluss\n".encode("cp1252"))
    assert texts(found(tmp_path, ["Grün.png"])) == {"Grün.png": "ein Haus über dem Fluss"}


def test_a_comma_without_quotes_is_named_by_line_instead_of_cutting_the_caption(tmp_path):
    write(tmp_path, metadata_dot_csv="file_name,text\na.png,fine\nb.png,a house, red\n")
    captions = found(tmp_path, ["a.png", "b.png"])
    assert texts(captions) == {"a.png": "fine"}
    (finding,) = captions.findings
    assert (finding.code, finding.severity) == ("metadata-invalid", "blocks")
    assert "line 3 has 3 cells, the header 2" in finding.reason
    assert "double quotes" in finding.remedy


def test_a_column_that_is_there_twice_is_refused_instead_of_one_of_them_winning(tmp_path):
    write(tmp_path, metadata_dot_csv="file_name,text, Text\na.png,a fox,a house\n")
    captions = found(tmp_path, ["a.png"])
    assert texts(captions) == {}
    (finding,) = captions.findings
    assert (finding.code, finding.severity) == ("metadata-invalid", "blocks")
    assert 'metadata.csv, line 1 names the column "text" twice' in finding.reason


def test_rights_come_from_their_own_file_and_say_nothing_about_captions(tmp_path):
    write(
        tmp_path, rights_dot_csv="file_name,owner,license,source,consent,expires\na.png,Ada,CC0,shop,mail,2030-12-31\n"
    )
    captions = found(tmp_path, ["a.png"])
    rights = captions.rights["a.png"]
    assert (rights.owner, rights.licence, rights.source) == ("Ada", "CC0", "shop")
    assert (rights.consent, rights.expires) == ("mail", "2030-12-31")
    assert (captions.by_image, captions.excluded, captions.findings) == ({}, {}, ())


def test_the_most_specific_row_wins_field_by_field(tmp_path):
    rows = "file_name,owner,licence,source\n*,Ada,CC0,web\nsub/*,Bob,,\nsub/a.png,,MIT,\n"
    write(tmp_path, rights_dot_csv=rows)
    rights = found(tmp_path, ["a.png", "sub/a.png", "sub/deep/b.png"]).rights
    stated = {image: (one.owner, one.licence, one.source) for image, one in rights.items()}
    assert stated == {
        "a.png": ("Ada", "CC0", "web"),
        "sub/a.png": ("Bob", "MIT", "web"),
        "sub/deep/b.png": ("Bob", "CC0", "web"),
    }


def test_a_star_in_a_folder_speaks_of_that_folder_only(tmp_path):
    write(tmp_path, sub__rights_dot_csv="file_name,owner\n*,Ada\n")
    assert set(found(tmp_path, ["a.png", "sub/a.png", "sub/deep/a.png"]).rights) == {"sub/a.png", "sub/deep/a.png"}


def test_a_caption_for_a_folder_serves_pictures_without_their_own(tmp_path):
    rows = [{"file_name": "*", "text": "a thing"}, {"file_name": "b.png", "text": "a boat"}]
    write(tmp_path, metadata_dot_jsonl="\n".join(map(json.dumps, rows)), c_dot_txt="a cat")
    captions = found(tmp_path, ["a.png", "b.png", "c.png"])
    assert texts(captions) == {"a.png": "a thing", "b.png": "a boat", "c.png": "a cat"}
    assert captions.findings == ()


def test_rights_of_the_rights_file_win_and_a_contradiction_is_said(tmp_path):
    write(tmp_path, rights_dot_csv="file_name,owner,licence\na.png,Ada,CC0\n")
    write(tmp_path, metadata_dot_jsonl=json.dumps({"file_name": "a.png", "owner": "Bob", "licence": "CC0"}))
    captions = found(tmp_path, ["a.png"])
    assert captions.rights["a.png"].owner == "Ada"
    (finding,) = captions.findings
    assert (finding.code, finding.file) == ("rights-conflict", "a.png")
    assert "rights.csv, line 2 and metadata.jsonl, line 1" in finding.reason


@pytest.mark.parametrize("wrong", ["31.12.2030", "2030-1-1", "20301231", "2030-02-30", "2030-W01-1", "next year"])
def test_a_date_in_another_form_is_named_by_row_and_not_taken_for_a_date(tmp_path, wrong):
    write(tmp_path, rights_dot_csv=f"file_name,owner,expires\n*,Ada,\na.png,Ada,{wrong}\n")
    captions = found(tmp_path, ["a.png"])
    assert captions.rights["a.png"].expires == ""
    (finding,) = captions.findings
    assert (finding.code, finding.severity, finding.file) == ("rights-date", "warns", "rights.csv")
    assert "line 3" in finding.reason
    assert wrong in finding.reason
    assert "YYYY-MM-DD" in finding.reason


@given(st.dates())
def test_every_date_in_the_right_form_is_taken(tmp_path_factory, day):
    folder = tmp_path_factory.mktemp("rights")
    write(folder, rights_dot_csv=f"file_name,expires\na.png,{day.isoformat()}\n")
    assert date.fromisoformat(found(folder, ["a.png"]).rights["a.png"].expires) == day


@pytest.mark.parametrize("value", ["true", "TRUE", "yes", "1", "x"])
def test_a_row_can_leave_a_picture_out(tmp_path, value):
    write(tmp_path, metadata_dot_csv=f"file_name,exclude\na.png,{value}\nb.png,\nc.png,no\n")
    captions = found(tmp_path, ["a.png", "b.png", "c.png"])
    assert captions.excluded == {"a.png": "metadata.csv, line 2"}
    assert captions.findings == ()


def test_a_folder_can_be_left_out_but_for_one_picture(tmp_path):
    rows = [{"file_name": "old/*", "exclude": True}, {"file_name": "old/b.png", "exclude": False}]
    write(tmp_path, metadata_dot_jsonl="\n".join(map(json.dumps, rows)))
    assert set(found(tmp_path, ["a.png", "old/a.png", "old/b.png"]).excluded) == {"old/a.png"}


def test_an_exclude_that_is_neither_yes_nor_no_is_refused_by_line(tmp_path):
    write(tmp_path, metadata_dot_csv="file_name,exclude\na.png,perhaps\n")
    (finding,) = found(tmp_path, ["a.png"]).findings
    assert (finding.code, finding.severity) == ("metadata-invalid", "blocks")
    assert "line 2" in finding.reason


def test_a_default_for_a_folder_without_pictures_is_reported(tmp_path):
    write(tmp_path, rights_dot_csv="file_name,owner\nsup/*,Ada\n")
    captions = found(tmp_path, ["sub/a.png"])
    assert codes(captions) == [("caption-orphan", "rights.csv")]
    assert "matches no picture" in captions.findings[0].reason


def test_rows_before_a_bad_one_count(tmp_path):
    write(tmp_path, rights_dot_csv="file_name,owner\na.png,Ada\n,Bob\n" + "b.png," + "x" * 200_000)
    captions = found(tmp_path, ["a.png", "b.png"])
    assert captions.rights["a.png"].owner == "Ada"
    assert codes(captions) == [("metadata-invalid", "rights.csv")]


def test_ten_thousand_rows_are_read(tmp_path):
    rows = "".join(f"sub/{number}.png,Owner {number}\n" for number in range(10_000))
    write(tmp_path, rights_dot_csv="file_name,owner\n*,All\n" + rows)
    rights = found(tmp_path, [f"sub/{number}.png" for number in range(10_001)]).rights
    assert rights["sub/9999.png"].owner == "Owner 9999"
    assert rights["sub/10000.png"].owner == "All"


CSV = 'sep=;\r\nfile_name;text;note\r\na.png;"a; ""b""";1\r\nb.png;"two\r\nlines";\r\n\r\nc.png;last;3'


def test_a_changed_row_leaves_every_other_character_of_a_csv(tmp_path):
    changed = change_rows(CSV, "metadata.csv", {4: {"text": "one; line"}})
    assert changed == CSV.replace('"two\r\nlines"', '"one; line"')


def test_a_new_column_is_added_to_the_header_and_the_row(tmp_path):
    changed = change_rows(CSV, "metadata.csv", {7: {"exclude": True}})
    assert changed == CSV.replace("text;note", "text;note;exclude").replace("c.png;last;3", "c.png;last;3;true")


def test_a_changed_line_leaves_every_other_character_of_json_lines():
    text = '{"file_name":"a.png",  "text":"\u2028 x"}\r\n\r\n{"file_name": "b.png", "n": [1.5, null]}'
    changed = change_rows(text, "metadata.jsonl", {3: {"text": "Grün"}}, [{"file_name": "c.png"}])
    assert changed == (text[: -len("}")] + ', "text": "Grün"}\r\n{"file_name": "c.png"}\r\n')


def test_half_characters_in_a_changed_line_can_still_be_written():
    changed = change_rows('{"file_name": "\\ud800.png"}\n', "metadata.jsonl", {1: {"text": "x"}})
    assert json.loads(changed.encode()) == {"file_name": "\ud800.png", "text": "x"}


def test_a_text_with_a_bad_row_is_never_rewritten():
    with pytest.raises(InvalidManifest, match="line 2 is not JSON"):
        change_rows('{"file_name": "a.png"}\n{', "metadata.jsonl", {1: {"text": "x"}})


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6), CELLS, st.sampled_from(["\n", "\r\n"]))
def test_any_cell_of_any_csv_can_be_changed_alone(rows, new, newline):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows([("file_name", "text", "more"), *rows])
    before = list(read_rows(buffer.getvalue(), "a.csv"))
    if not before:
        return
    changed = change_rows(buffer.getvalue(), "a.csv", {before[-1].first: {"text": new, "file_name": "a"}})
    after = [row.values for row in read_rows(changed, "a.csv")]
    assert after[:-1] == [row.values for row in before[:-1]]
    assert after[-1] == {**before[-1].values, "text": new, "file_name": "a"}


def test_an_open_quote_is_named_instead_of_taking_the_rows_after_it_into_one_caption(tmp_path):
    write(tmp_path, metadata_dot_csv='file_name,text\na.png,"a cup\nb.png,a house\n')
    captions = found(tmp_path, ["a.png", "b.png"])
    assert (texts(captions), codes(captions)) == ({}, [("metadata-invalid", "metadata.csv")])
    assert "double quotes" in captions.findings[0].remedy


def test_two_rows_of_one_file_that_differ_are_called_rows(tmp_path):
    write(tmp_path, metadata_dot_csv="file_name,text,owner\na.png,a cup,Ada\na.png,a mug,Bob\n")
    captions = found(tmp_path, ["a.png"])
    said = {finding.code: finding.reason for finding in captions.findings}
    assert said["caption-conflict"] == "two rows of metadata.csv say different things; the first is used"
    assert "that of metadata.csv, line 2 counts" in said["rights-conflict"]
