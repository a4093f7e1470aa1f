"""The proof of one record: from the stored rows to the leaf, to the segment's root, to the log, to the checkpoint.

Every step is computed here from stored bytes; nothing is believed because it was written down.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from ml_platform.core.contract import Contract
from ml_platform.core.errors import NotFound, Tampered
from ml_platform.governance.parts import Parts
from ml_platform.governance.reading import readable
from ml_platform.governance.trees import inclusion_path, tree_of
from ml_platform.registry import InclusionProof
from ml_platform.registry.notes import Checkpoint, Verifier, open_checkpoint
from ml_platform.serving import FoundRecord
from ml_platform.serving.record import SUBJECT_ROLE
from ml_platform.serving.segment import tiles_path
from ml_platform.serving.tables import header_from_row, leaf_from_rows, personal_table, section_from_row
from ml_platform.serving.unsealed import UnsealedRecord

__all__ = ["NOT_YET_PROVEN", "RecordProof", "UnsealedProof", "prove_record", "prove_unsealed"]

NOT_YET_PROVEN = "recorded, not yet proven"
PROVEN = "proven"


@dataclass(frozen=True)
class RecordProof:
    """What was shown about a record; each step was verified when this was made.

    Attributes:
        header: ``row/1`` bytes of the header.
        personal: ``row/1`` bytes of the personal section.
        role: of that section.
        commitment: 32 bytes; fits salt and personal bytes.
        leaf: 32 bytes, computed from the two rows.
        segment: its id.
        index, size, path: of the leaf in the segment's tree.
        root: of the segment.
        sealing: the sealing entry's way to a signed checkpoint; None while the segment is not sealed.
        checkpoint: what the log's key signed.
    """

    header: bytes
    personal: bytes
    role: str
    commitment: bytes
    leaf: bytes
    segment: str
    index: int
    size: int
    path: tuple[bytes, ...]
    root: bytes
    sealing: InclusionProof | None
    checkpoint: Checkpoint | None

    @property
    def status(self) -> str:
        return NOT_YET_PROVEN if self.sealing is None else PROVEN

    def to_json(self) -> dict[str, Any]:
        """All that an outsider needs to check again; nothing personal but a commitment."""
        return {
            "status": self.status,
            "checked": self.sealing is not None,
            "leaf": {
                "checked": True,
                "says": "The leaf was computed from the stored rows; the personal part fits its commitment.",
                "header": self.header.hex(),
                "sections": [{"role": self.role, "commitment": self.commitment.hex()}],
                "hash": self.leaf.hex(),
            },
            "segment": {
                "checked": True,
                "says": "The path leads from the leaf to the root of its segment.",
                "id": self.segment,
                "index": self.index,
                "size": self.size,
                "path": [one.hex() for one in self.path],
                "root": f"sha256:{self.root.hex()}",
            },
            **_sealing_json(self.sealing, self.checkpoint),
        }


@dataclass(frozen=True)
class UnsealedProof:
    """What can be shown about a record that only its writer's log holds: the leaf that it will have.

    Attributes:
        header: ``row/1`` bytes of the header, as logged.
        commitment: 32 bytes.
        leaf: 32 bytes, computed from the logged bytes.
    """

    header: bytes
    commitment: bytes
    leaf: bytes
    sealing: None = None

    @property
    def status(self) -> str:
        return NOT_YET_PROVEN

    def to_json(self) -> dict[str, Any]:
        """As that of a proven record, its later steps not yet there."""
        says = "The leaf was computed from the bytes that the writer logged; nothing commits to them yet."
        sections = [{"role": SUBJECT_ROLE, "commitment": self.commitment.hex()}]
        leaf = {"header": self.header.hex(), "sections": sections, "hash": self.leaf.hex()}
        absent = {"checked": False, "says": "The record is in no segment yet: recorded, not yet proven."}
        return {
            "status": self.status,
            "checked": False,
            "leaf": {"checked": True, "says": says, **leaf},
            "segment": {**absent, "id": None},
            **_sealing_json(None, None),
        }


def prove_unsealed(found: UnsealedRecord) -> UnsealedProof:
    """The leaf of a record that is not sealed yet."""
    logged = found.logged
    return UnsealedProof(logged.raw_header, logged.commitment(), logged.leaf())


def _sealing_json(sealing: InclusionProof | None, checkpoint: Checkpoint | None) -> dict[str, Any]:
    if sealing is None or checkpoint is None:
        absent = {"checked": False, "says": "The segment is not in the audit log yet: recorded, not yet proven."}
        return {"log": absent, "checkpoint": absent}
    document = sealing.to_json()
    return {
        "log": {
            "checked": True,
            "says": "The entry that seals the segment's root is in the log, under the checkpoint's root.",
            "index": sealing.index,
            "entry": document["entry"],
            "path": document["path"],
        },
        "checkpoint": {
            "checked": True,
            "says": "The log's key signed this size and root.",
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": base64.b64encode(checkpoint.root).decode(),
            "note": document["checkpoint"],
        },
    }


def prove_record(parts: Parts, found: FoundRecord, contract: Contract) -> RecordProof:
    """Recomputes the leaf from the rows and follows it to the signed checkpoint.

    Raises:
        NotFound: the personal part of the record is gone, so there is nothing to recompute the leaf from.
        Tampered: names the step at which what is stored is not what was sealed.
    """
    personal_row = found.personal
    if personal_row is None:
        raise NotFound(
            "The personal part of this record is gone; its leaf stays in the tree.",
            field="prediction_id",
            next_step="Look for its erasure in the log; `mlp verify` says whether one is missing.",
        )
    tables = personal_table(found.segment.model)
    header = readable(tables, lambda: header_from_row(found.header))
    personal = readable(tables, lambda: section_from_row(personal_row, contract).to_bytes())
    leaf = readable(tables, lambda: leaf_from_rows(found.header, personal_row, contract))
    segment, root = found.segment, bytes.fromhex(found.segment.root.removeprefix("sha256:"))
    index, path = _segment_path(parts, found, leaf, root)
    sealing, checkpoint = _sealing(parts, found)
    return RecordProof(
        header=header.to_bytes(),
        personal=personal,
        role=found.header["section_role"],
        commitment=found.header["commitment"],
        leaf=leaf,
        segment=segment.id,
        index=index,
        size=segment.size,
        path=tuple(path),
        root=root,
        sealing=sealing,
        checkpoint=checkpoint,
    )


def _segment_path(parts: Parts, found: FoundRecord, leaf: bytes, root: bytes) -> tuple[int, list[bytes]]:
    """Index and path of the leaf in its segment's tree, which must be those that table and segment name."""
    segment = found.segment
    tree = tree_of(parts.objects.read(tiles_path(segment.id)))
    index, path = inclusion_path(tree, leaf, root, field=found.prediction_id)
    if (index, tree.size, segment.id) != (found.leaf_index, segment.size, found.header["segment_id"]):
        raise Tampered(
            "The record's place in its segment is not the one that its table says.",
            field=found.prediction_id,
            next_step="Restore the table from a backup.",
        )
    return index, path


def _sealing(parts: Parts, found: FoundRecord) -> tuple[InclusionProof | None, Checkpoint | None]:
    try:
        index = parts.registry.sealed_in(found.segment.id)
    except NotFound:
        return None, None
    if found.segment.sealed_entry() not in parts.registry.entry(index).body["segments"]:
        raise Tampered(
            "The stored description of the segment is not the one that the log sealed.",
            field=found.segment.id,
            next_step="Restore segment.json from a backup.",
        )
    genesis = parts.registry.state().genesis
    proof = parts.registry.inclusion(index)
    if genesis is None or not proof.holds(genesis.log_vkey):
        raise Tampered(
            "The entry that seals the segment is not under a checkpoint that the log's key signed.",
            field=f"entry {index}",
            next_step="`mlp verify` names the entry; restore the log or its checkpoints from a backup.",
        )
    return proof, open_checkpoint(proof.checkpoint, [Verifier.parse(genesis.log_vkey)])
