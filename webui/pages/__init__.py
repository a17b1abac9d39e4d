"""The pages. Each is a file of this folder with NAME and `build(ctx, page)`."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import gradio as gr

from webui.components import signed_in
from webui.context import Context

__all__ = ["ORDER", "build"]

ORDER = ("home", "create", "train", "datasets", "blend", "library", "review", "export", "activity", "settings")
"""Of the navigation; the first is where one begins."""


def build(ctx: Context) -> gr.Blocks:
    """Return the pages of one language as one app."""
    found = {module.name for module in iter_modules(__path__)}
    pages = [import_module(f"{__name__}.{name}") for name in ORDER if name in found]
    with gr.Blocks(analytics_enabled=False, title=ctx.t("common.title"), delete_cache=(3600, 86400)) as blocks:
        _page(ctx, pages[0], blocks)
    for page in pages[1:]:
        with blocks.route(ctx.t(f"{page.NAME}.name"), f"/{page.NAME}") as route:
            _page(ctx, page, route)
    return blocks


def _page(ctx: Context, page: Any, blocks: gr.Blocks) -> None:
    gr.Navbar(main_page_name=ctx.t("home.name"))  # each page has one of its own
    signed_in(ctx, blocks)
    page.build(ctx, blocks)
