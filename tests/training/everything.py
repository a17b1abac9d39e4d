"""Everything that can vary what a step sees, switched on at once."""

from pathlib import Path

from PIL import Image

from datasets_tools.image import load_image
from tests import tiny

EVERYTHING = (
    "adapter.dropout=0.2",
    "data.trigger=zyx",
    "data.caption_dropout=0.2",
    "data.shuffle_tags=true",
    "data.keep_tags=1",
    "data.tag_dropout=0.3",
    "data.more_resolutions=96",
    'data.repeats={"00*"=2.5}',
    "data.flip=true",
    "data.colour_jitter=0.1",
    "data.masks=alpha",
    "data.mask_floor=0.1",
    "data.regularisation_weight=0.5",
    "loss.noise_offset=0.05",
    "run.micro_batch=2",
    "validation.every=2",
)


def everything(folder: Path) -> tuple[Path, Path]:
    """Return a folder of style pictures with tags and transparency, and one of ordinary pictures."""
    style, ordinary = tiny.pictures(folder / "style", 4), tiny.pictures(folder / "ordinary", 3)
    for path in style.glob("*.png"):
        image = load_image(path)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(path)
        caption = path.with_suffix(".txt")
        caption.write_text(f"{caption.read_text()}, red, blue, big, small, round")
    return style, ordinary
