"""The one tree of errors.

::

    PlatformError
    ├── DeclarationError        a declaration names something impossible
    ├── SettingsError           the settings file or root folder is unusable
    ├── DataError               data that breaks a promise its declaration made
    │   ├── SchemaMismatch      a column is missing, extra, mistyped or naive in time
    │   ├── DuplicateKeys       two rows say they are the same row
    │   ├── LabelError          a label known before its event, unknown at maturity …
    │   ├── NotEnoughData       empty, all null, one class only
    │   └── ContractViolation   a row that the model's contract refuses
    ├── NotFound                no such model, version, prediction, object
    ├── IntegrityError          stored bytes are not what their digest says
    │   ├── ArtifactCorrupt
    │   └── Tampered            the audit log or what it commits to was changed
    ├── Conflict                somebody else was first, or the same name holds other content
    │   └── ConcurrentTransition
    ├── Refused                 a rule of governance says no
    │   ├── IllegalTransition
    │   ├── GateFailed
    │   ├── ApprovalMissing
    │   ├── ApprovalInvalid
    │   ├── EvaluationStale
    │   ├── PolicyViolation
    │   └── ValidationFailed    a version does not score in the server as it did at training
    ├── NotReproducible         a rebuild differs; names the first input that does
    └── StorageFailed           disk full, store unreachable: nothing half-done
        └── ServerUnavailable   the inference server is away, or cannot answer now

Every error says what happened and the operator's next step. None carries a row value or a secret: fields, rules
and kinds of value only.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ApprovalInvalid",
    "ApprovalMissing",
    "ArtifactCorrupt",
    "ConcurrentTransition",
    "Conflict",
    "ContractViolation",
    "DataError",
    "DeclarationError",
    "DuplicateKeys",
    "EvaluationStale",
    "GateFailed",
    "IllegalTransition",
    "IntegrityError",
    "LabelError",
    "NotEnoughData",
    "NotFound",
    "NotReproducible",
    "PlatformError",
    "PolicyViolation",
    "Refused",
    "SchemaMismatch",
    "ServerUnavailable",
    "SettingsError",
    "StorageFailed",
    "Tampered",
    "ValidationFailed",
]


class PlatformError(Exception):
    """What happened, which field, and the next step.

    Args:
        what: one sentence: what happened. No row values, no secrets.
        field: the field, column, key or setting concerned, where there is one.
        next_step: what the reader can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, field: str | None = None, next_step: str) -> None:
        super().__init__(what, field, next_step)
        self.what = what
        self.field = field
        self.next_step = next_step

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.what} Next: {self.next_step}"

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (Dagster steps, workers): keep the keyword-only arguments.
        return (_rebuild, (type(self), self.what, self.field, self.next_step))


def _rebuild(kind: type[PlatformError], what: str, field: str | None, next_step: str) -> PlatformError:
    return kind(what, field=field, next_step=next_step)


class DeclarationError(PlatformError):
    """A declaration names something impossible; raised when it is built."""

    exit_code = 2


class SettingsError(PlatformError):
    """The settings file, an environment variable or the root folder is unusable."""

    exit_code = 2


class DataError(PlatformError):
    """Data that breaks a promise its declaration made."""

    exit_code = 3


class SchemaMismatch(DataError):
    """A column is missing, extra, mistyped, or a timestamp has no time zone."""


class DuplicateKeys(DataError):
    """Two rows say that they are the same row."""


class LabelError(DataError):
    """A label known before its event, or unknown at maturity where it must be known."""


class NotEnoughData(DataError):
    """Empty, all null, or one class only: nothing can be learned or measured."""


class ContractViolation(DataError):
    """A row that the model's contract refuses; names field and rule, never the value."""


class NotFound(PlatformError):
    """No such model, version, prediction or object."""

    exit_code = 4


class IntegrityError(PlatformError):
    """Stored bytes are not what their digest says."""

    exit_code = 5


class ArtifactCorrupt(IntegrityError):
    """An artifact's bytes differ from the digest under which it was registered; it is not loaded."""


class Tampered(IntegrityError):
    """The audit log, or something that it commits to, was changed."""


class Conflict(PlatformError):
    """Somebody else was first, or the same name already holds other content."""

    exit_code = 6


class ConcurrentTransition(Conflict):
    """Another transition of the same model was written first; this one changed nothing."""


class Refused(PlatformError):
    """A rule of governance says no."""

    exit_code = 7


class IllegalTransition(Refused):
    """The stage machine has no such move."""


class GateFailed(Refused):
    """A gate is red, or inconclusive without a person's signed decision."""


class ApprovalMissing(Refused):
    """Too few valid approvals for this transition."""


class ApprovalInvalid(Refused):
    """An approval that does not count: wrong digest, author's own, expired, replayed, revoked, unknown key."""


class EvaluationStale(Refused):
    """The evaluation compared with a version that no longer is in production."""


class PolicyViolation(Refused):
    """A declaration or event is laxer than the policy that risk officers signed."""


class ValidationFailed(Refused):
    """A version does not load in the real server, or scores its golden rows otherwise than at training."""


class NotReproducible(PlatformError):
    """A rebuild differs from the record; names the first input that does."""

    exit_code = 8


class StorageFailed(PlatformError):
    """The disk is full or a store cannot be reached; nothing was half-done."""

    exit_code = 9


class ServerUnavailable(StorageFailed):
    """The inference server is away, or cannot answer now; nothing was half-done."""
