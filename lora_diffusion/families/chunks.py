"""Prompts longer than a CLIP text encoder reads at once, in chunks that are encoded one by one.

Each chunk has its own start and end, and what the encoder says of them stands side by side: with 77 positions a chunk
holds 75 tokens. It is what the usual interfaces do, so prompts that were written there mean the same here.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["MOST", "chunks_needed", "chunks_of", "in_chunks", "joined", "room", "tokens_of", "whole_chunks"]

MOST = 8
"""Chunks that a prompt may have: 600 tokens; attention to the text costs as much again for each."""

_log = logging.getLogger("lora_diffusion")


def chunks_of(tokenizer: Any, prompts: Sequence[str]) -> int:
    """Return how many chunks the longest prompt needs, 1 to MOST; the log says where that is not enough."""
    needed = chunks_needed(tokenizer, prompts)
    if needed > MOST:
        _log.warning("a prompt of %d tokens is cut after %d", _longest(tokenizer, prompts), MOST * room(tokenizer))
    return min(needed, MOST)


def chunks_needed(tokenizer: Any, prompts: Sequence[str]) -> int:
    """Return how many chunks hold the whole of the longest prompt, at least 1."""
    return max(1, -(-_longest(tokenizer, prompts) // room(tokenizer)))


def whole_chunks(tokenizer: Any, tokens: int) -> int:
    """Return how many chunks so many tokens fill, at least 1."""
    return max(1, tokens // room(tokenizer))


def tokens_of(tokenizer: Any, prompts: Sequence[str], chunks: int = 1) -> Tensor:
    """Return token ids [n, chunks * length]; what is longer is cut, what is shorter filled up."""
    if chunks > 1:
        return torch.tensor([_chunked(tokenizer, prompt, chunks) for prompt in prompts])
    found = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    ids: Tensor = found.input_ids
    return ids


def in_chunks(ids: Tensor, length: int) -> Tensor:
    """Return ids [n, chunks * length] as [n * chunks, length]; shorter ones stay as they are."""
    return ids.reshape(-1, length) if ids.shape[1] > length else ids


def joined(states: Tensor, prompts: int) -> Tensor:
    """Return what an encoder said of chunks [n * chunks, length, width] as [n, chunks * length, width]."""
    return states.reshape(prompts, -1, states.shape[-1])


def room(tokenizer: Any) -> int:
    """Return how many tokens a chunk holds: 75 for CLIP, which reads 77 with a start and an end."""
    return int(tokenizer.model_max_length) - 2


def _longest(tokenizer: Any, prompts: Sequence[str]) -> int:
    return max((len(_bare(tokenizer, prompt)) for prompt in prompts), default=0)


def _bare(tokenizer: Any, prompt: str) -> list[int]:
    return list(tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids)


def _chunked(tokenizer: Any, prompt: str, chunks: int) -> list[int]:
    ids, size, result = _bare(tokenizer, prompt), room(tokenizer), []
    for chunk in range(chunks):
        piece = ids[chunk * size : (chunk + 1) * size]
        result += [tokenizer.bos_token_id, *piece, tokenizer.eos_token_id]
        result += [tokenizer.pad_token_id] * (size - len(piece))
    return result
