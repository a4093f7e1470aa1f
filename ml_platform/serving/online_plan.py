"""What a sealer fixes before it writes: which files of a writer become which segments (``ml-platform/seal-plan/1``).

``seal.json`` lies beside the files that it names and is replaced as a whole. A sealer that was killed finds it again
and makes the same segments from the same files, whatever the writer has added since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from ml_platform.core.digests import canonical_json, parse_canonical
from ml_platform.core.errors import DeclarationError, Tampered
from ml_platform.core.files import write_atomically

__all__ = ["PLAN_FILE", "Plan", "read_plan"]

PLAN_FILE: Final = "seal.json"
FORMAT: Final = "ml-platform/seal-plan/1"


@dataclass(frozen=True)
class Plan:
    """A step of sealing one writer.

    Args:
        first_frame: the number of the first frame of its first file, among all frames of the writer.
        first_seq: the sequence number that its first decision must have.
        files: names of the files that it takes whole.
        end: the number of the frame after the last, once everything is sealed and the files may go; None before.
    """

    first_frame: int
    first_seq: int
    files: tuple[str, ...]
    end: int | None = None
    format: str = FORMAT

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        if document.get("format") != FORMAT:
            raise DeclarationError("This is no plan of a sealer.", field="format", next_step=f"Expected {FORMAT}.")
        return cls(**{**document, "files": tuple(document["files"])})

    def to_bytes(self) -> bytes:
        return canonical_json({**asdict(self), "files": list(self.files)})

    def write(self, folder: Path) -> None:
        """Replaces the folder's plan; raises ``StorageFailed``."""
        write_atomically(folder / PLAN_FILE, self.to_bytes())

    @property
    def done(self) -> bool:
        return self.end is not None


def read_plan(folder: Path) -> Plan | None:
    """The folder's plan; None where nothing of the writer was sealed yet.

    Raises:
        Tampered: it is none.
    """
    try:
        return Plan.from_json(parse_canonical((folder / PLAN_FILE).read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, DeclarationError) as error:
        raise Tampered(
            "The sealer's plan cannot be read as one.", field=PLAN_FILE, next_step="Restore it: it says what is sealed."
        ) from error
