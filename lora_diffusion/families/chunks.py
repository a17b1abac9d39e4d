"""Prompts longer than a CLIP text encoder reads at once, in chunks that are encoded one by one.

Each chunk has its own start and end, and what the encoder says of them stands side by side: with 77 positions a chunk
holds 75 tokens. It is what the usual interfaces do, so prompts that were written there mean the same here.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["MOST", "chunks_of", "in_chunks", "joined", "tokens_of"]

MOST = 8
"""Chunks that a prompt may have: 600 tokens; attention to the text costs as much again for each."""

_log = logging.getLogger("lora_diffusion")


def chunks_of(tokenizer: Any, prompts: Sequence[str]) -> int:
    """Return how many chunks the longest prompt needs, 1 to MOST; the log says where that is not enough."""
    longest = max((len(_bare(tokenizer, prompt)) for prompt in prompts), default=0)
    needed = max(1, -(-longest // _room(tokenizer)))
    if needed > MOST:
        _log.warning("a prompt of %d tokens is cut after %d", longest, MOST * _room(tokenizer))
    return min(needed, MOST)


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


def _room(tokenizer: Any) -> int:
    return int(tokenizer.model_max_length) - 2


def _bare(tokenizer: Any, prompt: str) -> list[int]:
    return list(tokenizer(prompt, add_special_tokens=False).input_ids)


def _chunked(tokenizer: Any, prompt: str, chunks: int) -> list[int]:
    ids, room, result = _bare(tokenizer, prompt), _room(tokenizer), []
    for chunk in range(chunks):
        piece = ids[chunk * room : (chunk + 1) * room]
        result += [tokenizer.bos_token_id, *piece, tokenizer.eos_token_id]
        result += [tokenizer.pad_token_id] * (room - len(piece))
    return result
