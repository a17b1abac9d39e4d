"""Prompt fit as a CLIP model sees it, where somebody has one."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from lora_diffusion.evaluation.evidence import Drawn, Evidence, Prompt
from lora_diffusion.evaluation.features import Array
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.score import Score, missing

__all__ = ["ClipScore"]

_NEARLY = 0.95
_BATCH = 16


class ClipScore(Metric):
    name: ClassVar[str] = "clip_score"
    title: ClassVar[str] = "Prompt fit by CLIP"
    means: ClassVar[str] = (
        "How well picture and prompt fit by a CLIP model: 100 times the cosine of the two (Hessel et al. 2021). "
        "Compare it with that of the base model; the same or higher is good."
    )
    place: ClassVar[int] = 25
    asked: ClassVar[bool] = False

    def measure(self, evidence: Evidence) -> Score:
        if evidence.clip is None:
            return missing("give --clip, a folder with a CLIP model")
        judge = _Judge(evidence.clip)
        base = float(judge(evidence.base, evidence.prompts).mean())
        by_weight = {weight: float(judge(drawn, evidence.prompts).mean()) for weight, drawn in evidence.sweep.items()}
        value = by_weight[evidence.strongest]
        kept = value >= _NEARLY * base
        return Score(
            value=value,
            unit="100 cosine",
            verdict="CLIP finds the prompts as well as without the adapter."
            if kept
            else "CLIP finds less of the prompts.",
            tone="good" if kept else "warns",
            by_weight=by_weight,
            details={"base": base, "model": evidence.clip.name},
        )


class _Judge:
    """A CLIP model of a local folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoProcessor

        self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)

    def __call__(self, drawn: Sequence[Drawn], prompts: Sequence[Prompt]) -> Array:
        """Return 100 times the cosine of each picture and its prompt's content [n]."""
        import torch

        found = []
        for start in range(0, len(drawn), _BATCH):
            some = drawn[start : start + _BATCH]
            words = [prompts[each.prompt].content for each in some]
            given = self._processor(
                text=words, images=[each.pixels for each in some], return_tensors="pt", padding=True, truncation=True
            )
            with torch.no_grad():
                said = self._model(**given)
            pictures, texts = (each / each.norm(dim=-1, keepdim=True) for each in (said.image_embeds, said.text_embeds))
            found.append(100 * (pictures * texts).sum(dim=-1).double().numpy())
        return np.concatenate(found)
