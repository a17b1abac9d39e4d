"""What can go wrong with images, captions and the files made from them.

DatasetError            every error of this package; `hint` is the next step
├── UnreadableImage     a file that is not a picture, broken, or beyond the limits
├── UnreadableCaption   text that cannot be decoded, with the byte offset
├── NoImages            a folder that is missing, or holds no picture
├── InvalidManifest     a manifest or metadata file that does not parse
├── InvalidSetting      a bucket rule, template or option that cannot work
└── OutOfSpace          the disk is full
"""

__all__ = [
    "DatasetError",
    "InvalidManifest",
    "InvalidSetting",
    "NoImages",
    "OutOfSpace",
    "UnreadableCaption",
    "UnreadableImage",
]


class DatasetError(Exception):
    """Name the culprit in the message; put what to do next in `hint`."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnreadableImage(DatasetError):
    """`passing` says that the same bytes may be readable another time: memory was short, a codec was not there."""

    def __init__(self, message: str, *, hint: str = "", passing: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.passing = passing


class UnreadableCaption(DatasetError):
    pass


class NoImages(DatasetError):
    exit_code = 2


class InvalidManifest(DatasetError):
    exit_code = 2


class InvalidSetting(DatasetError):
    exit_code = 2


class OutOfSpace(DatasetError):
    pass
