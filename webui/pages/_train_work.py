"""Longer questions to the studio, with the seconds told while they are answered."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["asking"]

_POLL_SECONDS = 1.0


def asking(ctx: Context, request: gr.Request, name: str, **arguments: Any) -> Iterator[tuple[int, Any]]:
    """Do an action and yield (seconds, None) while it works, and in the end (seconds, its result)."""
    began = time.monotonic()
    pool = ThreadPoolExecutor(1)
    work = pool.submit(ctx.act, request, name, **arguments)
    pool.shutdown(wait=False)
    while not wait([work], timeout=_POLL_SECONDS).done:
        yield round(time.monotonic() - began), None
    yield round(time.monotonic() - began), work.result()
