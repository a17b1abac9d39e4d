"""Everything that this package raises on purpose.

LoraDiffusionError          `hint` is the next step, `exit_code` what the command line ends with
├── UsageError              2: the request itself is wrong; nothing was written
│   ├── PlanError           an unknown key, a wrong type, a value out of range
│   ├── TargetError         a target that matches nothing, a rank that does not fit
│   ├── WrongFamily         an adapter and a base model that do not belong together
│   ├── BaseNotFound        a base model that is missing or of no known family
│   └── RunExists           a run directory that holds another run, or is in use
├── FileError               3: a file that cannot be trusted
│   ├── UnknownDialect      an adapter file that no dialect claims
│   ├── CorruptFile         truncated, hash mismatch, missing pairs, NaN
│   └── VerificationFailed  what was written does not read back as what was meant
├── NotMergeable            3: a method whose effect is no change of weights
├── NonFiniteLoss           3: training met NaN or infinity and stopped
├── DeviceError             3: precision, attention or device that this machine cannot give
└── SnapshotError           3: a snapshot that is incomplete or belongs to another plan
"""

__all__ = [
    "BaseNotFound",
    "CorruptFile",
    "DeviceError",
    "FileError",
    "LoraDiffusionError",
    "NonFiniteLoss",
    "NotMergeable",
    "PlanError",
    "RunExists",
    "SnapshotError",
    "TargetError",
    "UnknownDialect",
    "UsageError",
    "VerificationFailed",
    "WrongFamily",
]


class LoraDiffusionError(Exception):
    """Name the culprit in the message, with what is allowed; put what to do next in `hint`."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(LoraDiffusionError):
    exit_code = 2


class PlanError(UsageError):
    pass


class TargetError(UsageError):
    pass


class WrongFamily(UsageError):
    pass


class BaseNotFound(UsageError):
    pass


class RunExists(UsageError):
    pass


class FileError(LoraDiffusionError):
    pass


class UnknownDialect(FileError):
    pass


class CorruptFile(FileError):
    pass


class VerificationFailed(FileError):
    pass


class NotMergeable(LoraDiffusionError):
    pass


class NonFiniteLoss(LoraDiffusionError):
    pass


class DeviceError(LoraDiffusionError):
    pass


class SnapshotError(LoraDiffusionError):
    pass
