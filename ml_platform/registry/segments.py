"""Rules for sealed segments: every writer's sequence is gap-free and ends with a closing entry. Pure."""

from __future__ import annotations

from ml_platform.core.errors import Conflict, DeclarationError
from ml_platform.registry.events import Entry
from ml_platform.registry.judging import Judging
from ml_platform.registry.state import State, WriterState

__all__ = ["check_closed", "check_sealed"]


def check_sealed(state: State, entry: Entry, _: Judging) -> None:
    """Segments follow each other, per writer, without gap or overlap.

    Raises:
        Conflict: a sequence number is missing or was sealed before, or the writer is closed.
        DeclarationError: a segment's own figures contradict each other.
    """
    writers: dict[str, WriterState] = {}
    for segment in entry.body["segments"]:
        name = segment["writer"]
        before = writers.get(name) or state.writers.get(name) or WriterState(0)
        if before.closed or segment["first_seq"] != before.next_seq:
            raise Conflict(
                f"The writer's next record is {before.next_seq}"
                f"{' and it is closed' if before.closed else ''}; the segment begins elsewhere.",
                field="first_seq",
                next_step="Seal a writer's segments in order, each once.",
            )
        count = segment["last_seq"] - segment["first_seq"] + 1
        if count != segment["size"] or segment["min_decided_at"] > segment["max_decided_at"]:
            raise DeclarationError(
                "Size, sequence numbers or times of a segment contradict each other.",
                field="segments",
                next_step="Build the segment's description from its records.",
            )
        writers[name] = WriterState(segment["last_seq"] + 1)


def check_closed(state: State, entry: Entry, _: Judging) -> None:
    """A writer closes once, after its last record was sealed; raises `Conflict` otherwise."""
    writer = state.writers.get(entry.body["writer"])
    if writer is None or writer.closed or writer.next_seq != entry.body["last_seq"] + 1:
        raise Conflict(
            "The writer has unsealed records, is closed already, or never wrote.",
            field="writer",
            next_step="Seal its segments first; close it once.",
        )
