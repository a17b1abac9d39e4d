"""Base models."""

from webui.actions import At, action


@action(role="viewer", writes=False)
def current(at: At) -> dict[str, str]:
    """Return the base model that pictures are drawn with unless another is chosen."""
    row = at.studio.store.row("select value from settings where user = '' and key = 'base'")
    return {"base": row["value"] if row else "demo"}
