"""Tags from an ONNX model of the WD14 family: a folder with model.onnx and selected_tags.csv.

The input is [1, side, side, 3], BGR in 0..255, the picture in the middle of a white square; the output is a probability
for each row of the table, whose category is 0 (general), 4 (character) or 9 (rating).
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_tools.caption import Captioner
from datasets_tools.errors import DatasetError, InvalidManifest, InvalidSetting
from datasets_tools.text import decode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["captioner"]

_MODEL, _TABLE = "model.onnx", "selected_tags.csv"
_THRESHOLD = 0.35  # what the authors of the models use for general tags
_SIDE = 448  # of the published models, for one whose input says no size
_SAID = {"0", "4"}  # a rating is a judgement, not something that the picture shows


@dataclass(frozen=True, kw_only=True)
class _Tagger:
    session: Any
    tags: Sequence[tuple[str, str]]  # (words, category)
    side: int
    threshold: float
    name: str = "wd-tagger"

    def caption(self, file: Path) -> str:
        from datasets_tools.image import load_image

        pixels = _pixels(load_image(file), self.side)
        (chances,) = self.session.run(None, {self.session.get_inputs()[0].name: pixels})
        told = [
            (float(chance), words)
            for chance, (words, category) in zip(chances[0], self.tags, strict=True)
            if category in _SAID and chance >= self.threshold
        ]
        return ", ".join(words for _, words in sorted(told, key=lambda tag: -tag[0]))


def captioner(argument: str = "") -> Captioner:
    """Load a tagger from `FOLDER` or `FOLDER@THRESHOLD`; a tag is said from that probability on, 0.35 by default.

    Raises InvalidSetting without a folder or for a wrong threshold, DatasetError where onnxruntime or a file is missing
    or does not fit the other.
    """
    folder, threshold = _parsed(argument)
    for name in (_MODEL, _TABLE):
        if not (folder / name).is_file():
            reason = f"the tagger's folder {folder} has no {name}"
            raise DatasetError(reason, hint=f"put {_MODEL} and {_TABLE} of one WD14 tagger into it")
    session = _session(folder / _MODEL)
    tags = _tags(folder / _TABLE)
    outputs = session.get_outputs()[0].shape[-1]
    if isinstance(outputs, int) and outputs != len(tags):
        reason = f"{folder / _TABLE} has {len(tags)} tags, and the model tells {outputs}"
        raise InvalidManifest(reason, hint=f"take {_TABLE} from where the model is from")
    shape = session.get_inputs()[0].shape
    side = shape[1] if len(shape) == 4 and isinstance(shape[1], int) else _SIDE
    return _Tagger(session=session, tags=tags, side=side, threshold=threshold)


def _parsed(argument: str) -> tuple[Path, float]:
    folder, at, tail = argument.rpartition("@")
    if not at:
        folder, tail = argument, str(_THRESHOLD)
    try:
        threshold = float(tail)
    except ValueError:  # a folder may have an @ in its name
        folder, threshold = argument, _THRESHOLD
    if not folder:
        raise InvalidSetting("wd-tagger needs the folder of a model", hint="write wd-tagger:FOLDER")
    if not 0 < threshold <= 1:
        raise InvalidSetting(f"the threshold {tail} is not a probability", hint="write wd-tagger:FOLDER@0.35")
    return Path(folder), threshold


def _session(model: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        reason = "wd-tagger needs onnxruntime, which is not installed"
        raise DatasetError(reason, hint="pip install 'lora-diffusion[tagger]'") from error
    try:
        return onnxruntime.InferenceSession(model, providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime has an exception for every status, with no common base of its own
        first = str(error).strip().split("\n")[0]
        raise DatasetError(f"{model} cannot be loaded: {first}", hint="download the model again") from error


def _tags(table: Path) -> list[tuple[str, str]]:
    rows = csv.DictReader(decode(table.read_bytes(), table).text.splitlines())
    try:
        return [(_words(row["name"]), row["category"].strip()) for row in rows]
    except (KeyError, AttributeError, csv.Error) as error:
        reason = f"{table}, line {rows.line_num}: there is no {error}"
        raise InvalidManifest(reason, hint="the columns are tag_id, name, category, count") from error


def _words(tag: str) -> str:
    """Return a tag with spaces for its underscores; faces such as ^_^ and o_o stay."""
    return tag if len(tag) <= 3 or not any(sign.isalpha() for sign in tag) else tag.replace("_", " ").strip()


def _pixels(image: "Image.Image", side: int) -> "NDArray[np.float32]":
    import numpy as np
    from PIL import Image as Pillow

    square = Pillow.new("RGB", (max(image.size),) * 2, (255, 255, 255))
    square.paste(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
    scaled = square.resize((side, side), Pillow.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(scaled, dtype=np.float32)[None, :, :, ::-1])
