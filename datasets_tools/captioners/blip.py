"""A sentence from BLIP (Li et al. 2022, arXiv:2201.12086), from a local folder or a hub id.

It says what a picture shows and little about how it looks, which is what captions of a style set need.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_tools.caption import Captioner
from datasets_tools.errors import DatasetError

__all__ = ["captioner"]

_BASE = "Salesforce/blip-image-captioning-base"  # 990 MB, BSD-3-Clause
_LONGEST = 40  # tokens; its sentences have about 10, and more is repetition


@dataclass(frozen=True, kw_only=True)
class _Blip:
    model: Any
    processor: Any
    name: str = "blip"

    def caption(self, file: Path) -> str:
        from datasets_tools.image import load_image

        inputs = self.processor(images=load_image(file), return_tensors="pt").to(self.model.device)
        words = self.model.generate(**inputs, max_new_tokens=_LONGEST, do_sample=False, num_beams=1)
        return str(self.processor.decode(words[0], skip_special_tokens=True)).strip()


def captioner(model: str = _BASE) -> Captioner:
    """Load a BLIP model from a folder or by hub id, onto a GPU where there is one.

    Raises DatasetError where it is not there, or no BLIP model. Weights are read from safetensors only.
    """
    from transformers import BlipForConditionalGeneration, BlipProcessor

    local = Path(model).is_dir()
    try:
        processor = BlipProcessor.from_pretrained(model, local_files_only=local)
        loaded = BlipForConditionalGeneration.from_pretrained(
            model, local_files_only=local, use_safetensors=True, device_map="auto"
        )
    except (OSError, ValueError) as error:  # transformers tells missing files, no network and wrong models like this
        raise DatasetError(
            f"the BLIP model {model} cannot be loaded: {_first_sentence(error)}",
            hint=f"without a network: run `hf download {_BASE} --local-dir blip` elsewhere, then use blip:blip",
        ) from error
    return _Blip(model=loaded.eval(), processor=processor)


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".") or type(error).__name__
