"""How the studio looks: tokens with AA contrast in light and dark, and the few rules that Gradio has no token for."""

from pathlib import Path
from typing import Any

from webui.users import ROLES

__all__ = ["CSS", "roles", "theme"]

CSS = Path(__file__).parent / "studio.css"


def roles() -> str:
    """Return the rules that hide controls from those who may not use them, and notes from those they are not meant for.

    `for-ROLE` is what a role and those above it see, a tab by its id; `below-ROLE` is what the others see instead.
    """
    rules = []
    for number, role in enumerate(ROLES):
        hidden = [f'.for-{each}, [id$="-for-{each}-button"]' for each in ROLES[number + 1 :]]
        hidden += [f".below-{each}" for each in ROLES[: number + 1]]
        rules.append(f"[data-role={role}] :is({', '.join(hidden)}) {{ display: none !important; }}")
    return "\n".join(rules)


def theme() -> Any:
    """Return the theme; no font or file comes from elsewhere."""
    import gradio as gr
    from gradio.themes import Color

    ink = Color(
        c50="#f5f6f8", c100="#eceef2", c200="#dcdfe6", c300="#c0c5d0", c400="#8a91a0", c500="#5b6373",
        c600="#474e5c", c700="#343a46", c800="#22262f", c900="#181b22", c950="#0f1115",
    )  # fmt: skip
    accent = Color(
        c50="#eef3ff", c100="#dbe5ff", c200="#b9ccff", c300="#8dabff", c400="#5f85f7", c500="#3b63e0",
        c600="#2a4fc4", c700="#223f9c", c800="#1d347c", c900="#192c63", c950="#101b3d",
    )  # fmt: skip
    fonts = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    return gr.themes.Base(
        primary_hue=accent,
        secondary_hue=accent,
        neutral_hue=ink,
        radius_size="lg",
        font=fonts,
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_700",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_background_fill="white",
        input_background_fill_dark="*neutral_800",
        input_border_width="1px",
        input_border_color="*neutral_400",
        input_border_color_dark="*neutral_500",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_300",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_border_width="1px",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_secondary_text_color="*neutral_900",
        button_secondary_text_color_dark="*neutral_100",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
    )
