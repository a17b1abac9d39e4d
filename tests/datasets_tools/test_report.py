import re
from html.parser import HTMLParser

from datasets_tools import check_folder, write_report
from datasets_tools.bucket import BucketRule
from datasets_tools.finding import Finding
from tests.datasets_tools.corpus import photos, scene

RULE = BucketRule(resolution=64, step=8)


class Balance(HTMLParser):
    """Fails on tags that do not nest."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self):
        super().__init__()
        self.open = []
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page(folder, tmp_path):
    file = tmp_path / "report ü.html"
    write_report(check_folder(folder, rule=RULE), file)
    text = file.read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    return text, parser.seen


def test_the_page_needs_no_other_file_and_shows_every_picture_with_its_crop(tmp_path):
    text, tags = page(photos(tmp_path / "set", 9), tmp_path)
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert len(images) == 9
    assert all(image["src"].startswith("data:image/jpeg;base64,") and image["alt"] for image in images)
    assert not re.search(r"(https?:)?//\w", re.sub(r"base64,[\w+/=]+", "", text))
    assert len(re.findall(r'class="frame" style="left:\d+\.\d+%;top:', text)) == 9


def test_names_and_captions_are_shown_as_text_never_as_markup(tmp_path):
    folder = photos(tmp_path / "<b>set", 8)
    evil = '"><script>alert(1)</script>'
    (folder / "photo 00.txt").write_text(evil)
    scene(seed=40).save(folder / "a'b & <i>c.png")
    text, tags = page(folder, tmp_path)
    assert "script" not in {tag for tag, _ in tags}
    assert "&lt;script&gt;" in text
    assert "&lt;i&gt;c.png" in text


def test_findings_are_grouped_by_severity_with_the_remedy(tmp_path):
    folder = photos(tmp_path / "set", 9, captions=False)
    (folder / "bad.png").write_text("words")
    text, _ = page(folder, tmp_path)
    assert text.index("Must be fixed") < text.index("Worth fixing") < text.index("Good to know")
    assert "Pictures that cannot be read" in text
    assert "put the real picture in its place" in text
    assert "Not ready" in text


def test_findings_of_a_plan_are_shown_too(tmp_path):
    report = check_folder(photos(tmp_path / "set", 9), rule=RULE, trigger="brndx")
    finding = Finding(code="rate-odd", severity="warns", file="", reason="1 is much", remedy="lower it")
    write_report(report.with_findings([finding]), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Rate odd" in text
    assert "lower it" in text


def test_an_empty_folder_has_a_page_too(tmp_path):
    (tmp_path / "set").mkdir()
    text, _ = page(tmp_path / "set", tmp_path)
    assert "No picture to train on" in text
