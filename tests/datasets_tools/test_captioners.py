import csv
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from datasets_tools.captioners import captioner, captioner_names
from datasets_tools.errors import DatasetError, InvalidManifest, InvalidSetting


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    """A random BLIP of 60 thousand weights with a real processor, as a folder."""
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipProcessor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    folder = tmp_path_factory.mktemp("blip model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(27))]
    (folder / "vocab.txt").write_text("\n".join(words))
    small = {
        "initializer_range": 0.5,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    ids = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    torch.manual_seed(0)
    config = BlipConfig(
        text_config={**small, **ids, "encoder_hidden_size": 16, "vocab_size": len(words), "projection_dim": 16},
        vision_config={**small, "image_size": 16, "patch_size": 8, "projection_dim": 16},
        projection_dim=16,
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    pictures = BlipImageProcessorPil(size={"height": 16, "width": 16})
    BlipProcessor(pictures, BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


# name, category; the model tells for each the mean of one channel of the middle, over 255
TAGS = [("general", 9), ("blue_thing", 0), ("green_thing", 0), ("o_o", 0), ("some_one_(red)", 4)]


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    """A real ONNX graph that averages each channel, with the table that belongs to it, as a folder."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("tagger@home")
    picture = helper.make_tensor_value_info("input_1:0", TensorProto.FLOAT, [1, 32, 32, 3])
    chances = helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [1, len(TAGS)])
    # by channel of the input in their order, for rating, blue, green, face and red
    weights = [weight for channel in ([0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 1, 1]) for weight in channel]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("weights", TensorProto.FLOAT, [3, len(TAGS)], [weight / 255 for weight in weights]),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["input_1:0", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["predictions"]),
    ]
    graph = helper.make_graph(nodes, "tagger", [picture], [chances], constants)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "model.onnx"
    )
    table(folder, TAGS)
    return folder


def table(folder, tags):
    with (folder / "selected_tags.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows((number, *tag, 100) for number, tag in enumerate(tags))


@pytest.fixture
def picture(tmp_path):
    """A picture twice as wide as high: red 255, green 102, blue 51."""
    Image.new("RGB", (64, 32), (255, 102, 51)).save(tmp_path / "a red house.png")
    return tmp_path / "a red house.png"


@pytest.mark.parametrize("name", captioner_names())
def test_every_captioner_that_is_found_keeps_the_protocol(name, request, picture):
    if name in {"blip", "wd-tagger"}:
        one = captioner(f"{name}:{request.getfixturevalue(name.removeprefix('wd-'))}")
    else:
        one = captioner(name)
    assert one.name == name
    assert isinstance(one.caption(picture), str)


def test_listing_the_captioners_imports_none_of_them():
    code = """
import sys
from pathlib import Path
from datasets_tools.captioners import captioner_names
names = captioner_names()
loaded = [name for name in sys.modules if name.startswith("datasets_tools.captioners.")]
print(len(names) > 3, loaded, [name for name in ("torch", "transformers", "onnxruntime") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True [] []"


def test_an_unknown_captioner_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidSetting, match="did you mean filename") as refused:
        captioner("file-name:x")
    assert "filename" in refused.value.hint


def test_an_argument_where_none_is_taken_is_refused():
    with pytest.raises(InvalidSetting, match="filename takes no argument, but got 'x'"):
        captioner("filename:x")


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


@pytest.mark.parametrize(
    ("file", "name", "caption"),
    [
        ("night city/a.jpg", "folder", "night city"),
        ("10_brand style/a.jpg", "folder", "brand style"),
        ("10_brandCup-red/a.jpg", "folder", "brand Cup red"),
        ("red cups/images/a.jpg", "folder", ""),
        ("red cups/images/a.jpg", "folder:2", "red cups"),
        ("cups/Rot_Grün/a.jpg", "folder:2", "cups, Rot Grün"),
        ("2024/a.jpg", "folder", ""),
        ("3_2024/a.jpg", "folder", ""),
        ("3d objects/a.jpg", "folder", "3d objects"),
    ],
)
def test_folder_names_become_words(tmp_path, file, name, caption):
    assert captioner(name).caption(tmp_path / file) == caption


@pytest.mark.parametrize("levels", ["0", "x", "-1", "", "10"])
def test_levels_that_are_no_number_are_refused(levels):
    with pytest.raises(InvalidSetting, match="levels"):
        captioner(f"folder:{levels}")


def test_blip_says_the_same_words_every_time(blip, picture):
    first, second = (captioner(f"blip:{blip}").caption(picture) for _ in range(2))
    assert first == second
    assert "word" in first
    assert "[" not in first


def test_blip_looks_at_the_picture(blip, tmp_path):
    one = captioner(f"blip:{blip}")
    said = set()
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)]):
        Image.new("RGB", (20, 20), colour).save(tmp_path / f"{number}.png")
        said.add(one.caption(tmp_path / f"{number}.png"))
    assert len(said) > 1


def test_a_model_that_is_not_there_is_one_sentence_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("acme/no-such-model", str(tmp_path)):
        with pytest.raises(DatasetError, match=f"the BLIP model {name} cannot be loaded: ") as refused:
            captioner(f"blip:{name}")
        assert "\n" not in str(refused.value)
        assert "hf download" in refused.value.hint


def test_weights_that_could_run_code_are_never_loaded(blip, tmp_path):
    import torch

    for file in blip.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DatasetError, match="cannot be loaded"):
        captioner(f"blip:{tmp_path}")


def test_tags_above_the_threshold_are_said_with_the_surest_first(tagger, picture):
    # half of the square is white: red 1.0, green 0.7, blue 0.6; the rating is not said
    assert captioner(f"wd-tagger:{tagger}").caption(picture) == "o_o, some one (red), green thing, blue thing"
    assert captioner(f"wd-tagger:{tagger}@0.65").caption(picture) == "o_o, some one (red), green thing"
    assert captioner(f"wd-tagger:{tagger}@0.9").caption(picture) == "o_o, some one (red)"


def test_a_square_picture_gets_no_white(tagger, tmp_path):
    Image.new("RGB", (40, 40), (0, 0, 255)).save(tmp_path / "blue.png")
    assert captioner(f"wd-tagger:{tagger}").caption(tmp_path / "blue.png") == "blue thing"


def test_a_table_of_another_model_is_refused_with_both_numbers(tagger, tmp_path):
    (tmp_path / "model.onnx").write_bytes((tagger / "model.onnx").read_bytes())
    table(tmp_path, TAGS[1:])
    with pytest.raises(InvalidManifest, match="has 4 tags, and the model tells 5"):
        captioner(f"wd-tagger:{tmp_path}")
    (tmp_path / "selected_tags.csv").write_text("tag;category\nx;0\n")
    with pytest.raises(InvalidManifest, match=r"line 2: there is no 'name'"):
        captioner(f"wd-tagger:{tmp_path}")


def test_a_damaged_model_and_a_missing_file_are_named(tagger, tmp_path):
    with pytest.raises(DatasetError, match=r"has no model\.onnx"):
        captioner(f"wd-tagger:{tmp_path}")
    (tmp_path / "model.onnx").write_bytes((tagger / "model.onnx").read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"has no selected_tags\.csv"):
        captioner(f"wd-tagger:{tmp_path}")
    table(tmp_path, TAGS)
    with pytest.raises(DatasetError, match=r"model\.onnx cannot be loaded") as refused:
        captioner(f"wd-tagger:{tmp_path}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("argument", "says"),
    [("", "needs the folder"), (":", "needs the folder"), (":f@0", "threshold"), (":f@nan", "nan")],
)
def test_a_tagger_without_folder_or_with_a_wrong_threshold_is_refused(argument, says):
    with pytest.raises(InvalidSetting, match=says):
        captioner(f"wd-tagger{argument}")


def test_without_onnxruntime_the_exact_command_is_said(tagger):
    code = f"""
import sys
from pathlib import Path
sys.modules["onnxruntime"] = None
from datasets_tools.captioners import captioner
try:
    captioner({f"wd-tagger:{tagger}"!r})
except Exception as error:
    print(type(error).__name__, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "DatasetError pip install 'lora-diffusion[tagger]'"


@pytest.mark.parametrize(
    "name",
    [
        "DSC01234", "IMG_2041", "PXL_20240312_101112", "WhatsApp Image 2024-03-12 at 10.11.12", "20240312_101112",
        "Screenshot 2024-03-12 at 10.11.12", "3f2a9c1e-aaaa-4bbb-8ccc-0123456789ab", "Bildschirmfoto 2024-03-12 um 10",
    ],
)  # fmt: skip
def test_names_that_devices_make_say_nothing(name):
    assert captioner("filename").caption(Path(f"{name}.jpg")) == ""


def test_words_of_people_stay():
    assert captioner("filename").caption(Path("red-house_3 facade.jpg")) == "red house facade"
