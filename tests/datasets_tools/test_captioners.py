import pytest

from datasets_tools.captioners import captioner, captioner_names
from datasets_tools.errors import InvalidSetting


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
