"""Longer work on a set, told while it is done."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["told"]

_POLL_SECONDS = 0.3


def told(ctx: Context, request: gr.Request, name: str, *, id: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
    """Do an action on a set and yield (how far it is as HTML, None), and in the end ("", its result).

    It goes on to its end where the visitor leaves. Raises what the action raises.
    """
    pool = ThreadPoolExecutor(1)
    work = pool.submit(ctx.act, request, name, id=id, **arguments)
    pool.shutdown(wait=False)
    while not wait([work], timeout=_POLL_SECONDS).done:
        doing = ctx.act(request, "datasets.progress", id=id)
        if doing:
            yield ctx.render("datasets_doing", **doing), None
    yield ctx.render("datasets_doing", what=""), work.result()
