"""A CLIP-shaped byte-pair tokenizer trained on the captions; all 256 bytes stay, so that it can encode any text."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_tools.storage import write_text
from lora_diffusion.demo.pretraining.nets import TOKENS

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

__all__ = ["Vocabulary", "learn", "write_pair"]

SIZE = 2000  # entries at most; the shipped tokenizer has 1 569
WORD_END = "</w>"

Merge = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What makes a CLIP tokenizer: token numbers, and pairs to merge in order."""

    numbers: dict[str, int]
    merges: Sequence[Merge]

    def tokenizer(self) -> "CLIPTokenizer":
        from transformers import CLIPTokenizer

        return CLIPTokenizer(vocab=self.numbers, merges=list(self.merges), model_max_length=TOKENS)


def learn(captions: Iterable[str]) -> Vocabulary:
    """Find the merges that shorten these captions most."""
    from tokenizers import Tokenizer, models, trainers
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    clip = CLIPTokenizer().backend_tokenizer
    alphabet = sorted(ByteLevel.alphabet())
    pairs = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    pairs.normalizer, pairs.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, end_of_word_suffix=WORD_END, initial_alphabet=alphabet, show_progress=False
    )
    pairs.train_from_iterator(captions, trainer)
    merges = [_merge(entry) for entry in json.loads(pairs.to_str())["model"]["merges"]]
    return Vocabulary(numbers=_numbers(alphabet, merges), merges=merges)


def write_pair(vocabulary: Vocabulary, folder: Path) -> None:
    """Write vocab.json and merges.txt, which programs look for that cannot read transformers' tokenizer.json."""
    lines = ["#version: 0.2", *(" ".join(merge) for merge in vocabulary.merges)]
    write_text(folder / "vocab.json", json.dumps(vocabulary.numbers, ensure_ascii=False))
    write_text(folder / "merges.txt", "\n".join(lines) + "\n")


def _merge(entry: str | list[str]) -> Merge:
    """Read a merge; older versions of tokenizers write it as one string."""
    first, second = entry.split(" ") if isinstance(entry, str) else entry
    return first, second


def _numbers(alphabet: Sequence[str], merges: Sequence[Merge]) -> dict[str, int]:
    words = [*alphabet, *(letter + WORD_END for letter in alphabet), *(a + b for a, b in merges)]
    return {word: number for number, word in enumerate(dict.fromkeys([*words, "<|startoftext|>", "<|endoftext|>"]))}
