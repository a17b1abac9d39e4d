"""What the studio refuses. Messages name the culprit; `hint` is the next step; `status` is that of HTTP."""

__all__ = ["BadRequest", "NotAllowed", "NotFound", "StudioError", "TooMany"]


class StudioError(Exception):
    status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadRequest(StudioError):
    status = 422


class NotAllowed(StudioError):
    status = 403


class NotFound(StudioError):
    status = 404


class TooMany(StudioError):
    status = 429
