"""What the rules need to see beside the state: evidence objects, and the root of the log at an earlier size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ml_platform.core.errors import ApprovalInvalid, NotFound
from ml_platform.registry.evidence import Evidence

__all__ = ["Judging"]


@dataclass(frozen=True, slots=True)
class Judging:
    """Evidence by digest, and ``root_at(size)``: 32 bytes, or `NotFound` beyond the log."""

    evidence: Evidence
    root_at: Callable[[int], bytes]

    def is_prefix(self, seen: dict[str, Any]) -> bool:
        """Whether {size, root} is what the log was at that size."""
        try:
            return bool("sha256:" + self.root_at(int(seen["size"])).hex() == seen["root"])
        except NotFound:
            return False

    def require_seen(self, seen: dict[str, Any]) -> None:
        """Raises `ApprovalInvalid` when somebody signed with another log before their eyes."""
        if not self.is_prefix(seen):
            raise ApprovalInvalid(
                "The signer saw another log: size and root are no prefix of this one.",
                field="seen",
                next_step="Make the payload again from this root, read it and sign it.",
            )
