"""The proof that an entry is in the log: bytes, audit path, signed checkpoint. Checked without our database."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from ml_platform.core.errors import PlatformError
from ml_platform.core.merkle import leaf_hash, verify_inclusion
from ml_platform.registry.notes import Verifier, open_checkpoint

__all__ = ["InclusionProof"]


@dataclass(frozen=True)
class InclusionProof:
    """An entry's way to a signed root (RFC 6962, 2.1.1).

    Args:
        index: log index.
        raw: the entry's stored bytes.
        path: sibling hashes from the leaf upwards, 32 bytes each.
        checkpoint: the signed note of the log's size and root.
    """

    index: int
    raw: bytes
    path: tuple[bytes, ...]
    checkpoint: bytes

    def holds(self, log_vkey: str) -> bool:
        """Whether the log with this key committed to these bytes at this index. Never raises."""
        try:
            checkpoint = open_checkpoint(self.checkpoint, [Verifier.parse(log_vkey)])
        except PlatformError:
            return False
        return verify_inclusion(leaf_hash(self.raw), self.index, checkpoint.size, list(self.path), checkpoint.root)

    def to_json(self) -> dict[str, Any]:
        """For ``--json`` and export; hashes and bytes in base64, as in tlog proofs."""
        return {
            "index": self.index,
            "entry": self.raw.decode(),
            "path": [base64.b64encode(one).decode() for one in self.path],
            "checkpoint": self.checkpoint.decode(),
        }
