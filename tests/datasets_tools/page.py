"""A report as a browser would see it, for the tests."""

import base64
import io
from html.parser import HTMLParser

from PIL import Image

from datasets_tools import DataSettings, check_folder, write_report
from datasets_tools.bucket import BucketRule, bucket_for, crop_for
from datasets_tools.finding import blocks, notes, warns
from datasets_tools.health import Report, Sight
from datasets_tools.manifest import Record
from tests.datasets_tools.corpus import photos

RULE = BucketRule(resolution=64, step=8)


class Page(HTMLParser):
    """What a browser would see: elements with their attributes and text. Fails on tags that do not nest."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, html):
        super().__init__()
        self.html, self.open, self.elements = html, [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", "in": [outer["tag"] for outer in self.open], **dict(attrs)}
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):  # as SVG closes its shapes
        self.elements.append({"tag": tag, "text": "", "in": [outer["tag"] for outer in self.open], **dict(attrs)})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]

    def some(self, name):
        return [element for element in self.elements if name in element.get("class", "").split()]

    @property
    def text(self):
        return " ".join(self.all("body")[0]["text"].split())

    def rows(self, heading):
        """The table whose first header cell says `heading`, as lists of text."""
        cells = [element for element in self.elements if element["tag"] in {"tr", "th", "td"}]
        rows = []
        for cell in cells:
            if cell["tag"] == "tr":
                rows.append([])
            else:
                rows[-1].append(cell["text"].replace("\xa0", " "))
        start = next(number for number, row in enumerate(rows) if row[0] == heading)
        body = rows[start + 1 :]
        length = next((number for number, row in enumerate(body) if len(row) != len(rows[start])), len(body))
        return body[:length]


def written(report, tmp_path, **options):
    file = tmp_path / "report ü.html"
    write_report(report, file, **options)
    return Page(file.read_text(encoding="utf-8"))


def checked(folder, tmp_path, **options):
    return written(check_folder(folder, DataSettings(rule=RULE, **options)), tmp_path)


def sight(file, width=96, height=64, **stated):
    bucket = bucket_for(width, height, RULE)
    record = Record(file=file, sha256="", bytes=1, width=width, height=height, **stated)
    return Sight(record=record, bucket=bucket, crop=crop_for(width, height, bucket))


def drawn(page):
    return [Image.open(io.BytesIO(base64.b64decode(one["href"].partition(",")[2]))) for one in page.all("image")]


def mixed(tmp_path):
    """A folder of twelve pictures and a broken one, with findings of every severity."""
    folder = photos(tmp_path / "set", 12)
    (folder / "bad.png").write_text("words")
    files = [f"photo {number:02}.png" for number in range(12)]
    found = [
        blocks("image-unreadable", "bad.png", "it is a text file", "remove it, or put the real picture in its place"),
        *(warns("caption-missing", file, "it has no caption", "write what it shows") for file in files[:11]),
        warns("bucket-small", "", "only 1 picture is trained at 64 x 64, fewer than the batch size 4", "crop it"),
        warns("trigger-common", "", '"dog" has a meaning of its own', "use a made-up word"),
        warns("rights-expired", files[0], "its rights expired on 2020-01-01", "renew them"),
        notes("image-transparent", files[3], "it has transparent parts", "choose the background colour"),
    ]
    return Report.of(folder, found, [sight(file, caption=f"shape {file}") for file in files], budget=RULE.budget)
