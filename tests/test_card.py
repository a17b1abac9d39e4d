"""Cards: what a file says about itself, for people, with nothing that could run or give its makers away."""

from html.parser import HTMLParser

import pytest
from PIL import Image

from datasets_tools.errors import DatasetError
from lora_diffusion.card import Card
from lora_diffusion.errors import UsageError
from lora_diffusion.exporting import export
from lora_diffusion.files.adapter import read_adapter, write_adapter
from lora_diffusion.generation.picture import Picture, Settings
from tests.files.samples import sample_adapter

_SAID = {
    "modelspec.trigger_phrase": "inkwash",
    "modelspec.license": "CC-BY-4.0",
    "lora_diffusion.base": "sd15.safetensors",
    "ss_num_train_images": "24",
    "ss_dataset_dirs": '{"ann_portraits": 1}',
}
_HOSTILE = """<script>alert(1)</script> "x" 'y' & | `rm` [a](javascript:b) ![c](d) *e* {{ 7 * 7 }}\n# heading"""


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.pictures = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])

    def handle_data(self, data):
        self.text += data


def _source(tmp_path, **more):
    write_adapter(sample_adapter(), tmp_path / "source.safetensors", metadata={**_SAID, **more})
    return tmp_path / "source.safetensors"


def _picture(path, prompt="an inkwash fox"):
    settings = Settings(
        prompt=prompt, seed=7, width=1024, height=640, steps=20, guidance=5.0, sampler="DDIM", base="b",
        adapters={"inkwash": 0.8},
    )  # fmt: skip
    return Picture(image=Image.new("RGB", (1024, 640), "teal"), settings=settings).save(path)


@pytest.mark.parametrize("ending", ["md", "html"])
def test_a_card_says_what_a_stranger_needs(ending, tmp_path):
    card = Card(path=tmp_path / f"card.{ending}", weights=(0.6, 1.0))
    done = export(_source(tmp_path), tmp_path / "out.safetensors", privacy="public", cards=[card])
    assert done.cards == (card.path,)
    text = card.path.read_text("utf-8").replace("\\", "")
    for said in (
        "inkwash", "0.6 to 1", "sd15.safetensors", "CC-BY-4.0", "24", "kohya", "fp16", "public", "out.safetensors",
        "2 to 4", done.sha256, read_adapter(done.path).fingerprint,
    ):  # fmt: skip
        assert said in text, said
    assert "ann" not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("ending", ["md", "html"])
def test_what_is_not_known_is_not_guessed(ending, tmp_path):
    write_adapter(sample_adapter(), tmp_path / "bare.safetensors")
    card = Card(path=tmp_path / f"card.{ending}")
    export(tmp_path / "bare.safetensors", tmp_path / "out.safetensors", cards=[card])
    assert card.path.read_text("utf-8").count("not stated") == 3
    assert "trained on" not in card.path.read_text("utf-8")


def test_html_shows_hostile_texts_as_they_are(tmp_path):
    card = Card(path=tmp_path / "card.html", description=_HOSTILE, licence=_HOSTILE)
    export(_source(tmp_path, **{"modelspec.title": _HOSTILE}), tmp_path / "out.safetensors", cards=[card])
    page = _Page(card.path.read_text("utf-8"))
    assert page.text.count(_HOSTILE) >= 3
    assert not {"script", "a", "em"} & set(page.tags)
    assert card.path.read_text("utf-8").startswith("<!doctype html>")


def test_markdown_shows_hostile_texts_as_they_are(tmp_path):
    card = Card(path=tmp_path / "card.md", description=_HOSTILE, licence=_HOSTILE)
    export(_source(tmp_path), tmp_path / "out.safetensors", cards=[card])
    text = card.path.read_text("utf-8")
    body = text.split("\n---\n", 1)[1]
    assert "<" not in body
    for sign in ("`rm", "[a", "](", "![c", "*e", "# heading"):
        assert all(body[at - 1] == "\\" for at in _places(body, sign)), sign
    assert "49" not in body
    assert all(line.count("|") - line.count("\\|") == 3 for line in body.splitlines() if line.startswith("|"))


def _places(text, sign):
    found = text.find(sign)
    while found >= 0:
        yield found
        found = text.find(sign, found + 1)


def test_the_head_of_a_markdown_card_is_one_yaml_mapping(tmp_path):
    card = Card(path=tmp_path / "card.md", licence='"\n---\nevil: true')
    export(_source(tmp_path), tmp_path / "out.safetensors", cards=[card])
    head = card.path.read_text("utf-8").split("\n---\n")[0].splitlines()
    assert head[0] == "---"
    assert [line.split(":")[0] for line in head[1:]] == ["license", "base_model", "tags", "instance_prompt"]


@pytest.mark.parametrize("ending", ["md", "html"])
def test_samples_are_small_and_carry_nothing_but_the_picture(ending, tmp_path):
    picture = _picture(tmp_path / "secret place.png")
    card = Card(path=tmp_path / f"my card.{ending}", samples=(picture, picture))
    export(_source(tmp_path), tmp_path / "out.safetensors", cards=[card])
    text = card.path.read_text("utf-8")
    assert "an inkwash fox" in text
    assert "seed 7" in text.replace("\\", "")
    assert "secret" not in text
    if ending == "md":
        files = sorted((tmp_path / "my card-samples").iterdir())
        assert [file.name for file in files] == ["1.jpg", "2.jpg"]
        assert "(my%20card-samples/1.jpg)" in text
        with Image.open(files[0]) as image:
            assert image.size == (768, 480)
            assert not {"parameters", "exif", "lora_diffusion"} & set(image.info)
    else:
        assert [each[:23] for each in _Page(text).pictures] == ["data:image/jpeg;base64,"] * 2


@pytest.mark.parametrize(("privacy", "told"), [("public", False), ("team", True)])
def test_a_public_card_hides_a_prompt_that_gives_somebody_away(privacy, told, tmp_path):
    picture = _picture(tmp_path / "a.png", prompt="a portrait of ann.lee@example.com")
    card = Card(path=tmp_path / "card.html", samples=(picture,))
    export(_source(tmp_path), tmp_path / "out.safetensors", privacy=privacy, cards=[card])
    page = card.path.read_text("utf-8")
    assert ("ann.lee" in page) is told
    assert "data:image/jpeg" in page


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "card.txt"},
        {"path": "taken.md"},
        {"path": "card.md", "weights": (1.0, 0.5)},
        {"path": "card.md", "samples": ("absent.png",)},
    ],
)
def test_a_card_that_cannot_be_written_stops_the_export(wrong, tmp_path):
    source = _source(tmp_path)
    (tmp_path / "taken.md").write_text("mine")
    samples = tuple(tmp_path / each for each in wrong.get("samples", ()))
    card = Card(**{**wrong, "path": tmp_path / wrong["path"], "samples": samples})
    with pytest.raises(UsageError) as caught:
        export(source, tmp_path / "out.safetensors", cards=[card])
    assert caught.value.hint
    assert sorted(each.name for each in tmp_path.iterdir()) == ["source.safetensors", "taken.md"]
    assert (tmp_path / "taken.md").read_text() == "mine"


def test_a_sample_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    card = Card(path=tmp_path / "card.md", samples=(tmp_path / "a.png",))
    with pytest.raises(DatasetError, match=r"a\.png"):
        export(_source(tmp_path), tmp_path / "out.safetensors", cards=[card])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.png", "source.safetensors"]
