"""The topics of a model, and the names that follow from where an event lies. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ml_platform.core.rows import encode_value
from ml_platform.serving.hashing import OneKey
from ml_platform.serving.online_writers import STREAM_WRITER

__all__ = ["ID_TAG", "Place", "Position", "Topics", "stream_ids", "writer_of"]

ID_TAG: Final = "ml-platform/stream-id/1"


@dataclass(frozen=True)
class Topics:
    """The topics of one model, by their fixed names.

    Attributes:
        events: what is decided about; its producers are others.
        decisions: the answers, for consumers.
        predictions: the records, for the sealer; the same partition as the event's.
        dead_letters: refused events, byte for byte, with field and rule in the headers.
        control: signed routes, one partition.
        group: the consumer group of the model's workers.
    """

    events: str
    decisions: str
    predictions: str
    dead_letters: str
    control: str
    group: str

    @classmethod
    def of(cls, model: str) -> Topics:
        names = ("events", "decisions", "predictions", "dead-letters", "control", "workers")
        return cls(*(f"{model}.{name}" for name in names))

    @property
    def written(self) -> tuple[str, str, str]:
        """The topics that a worker writes."""
        return self.decisions, self.predictions, self.dead_letters


@dataclass(frozen=True)
class Place:
    """Where events lie: ids and writers follow from it, whatever process decides.

    Args:
        cluster: the cluster's id.
        topic_uuid: hex of the topic's UUID: a topic of the same name that was made anew is another place.
    """

    cluster: str
    topic_uuid: str


def writer_of(place: Place, partition: int) -> str:
    """The writer of the records about a partition's events: its sequence goes on from worker to worker."""
    return f"{STREAM_WRITER}{place.topic_uuid}-{partition}"


def stream_ids(key: bytes, place: Place, partition: int, rows: Sequence[tuple[int, int]], role: str) -> list[bytes]:
    """UUIDs of version 8, 16 bytes each: a retry gives the same, and nobody can guess one (DECISIONS 17).

    Args:
        key: the root's id key, 32 bytes.
        place: of the topic.
        partition: of these events.
        rows: of each event ``decided_at`` in microseconds UTC, and its offset.
        role: the arm that decided.
    """
    fields = (("text", ID_TAG), ("text", place.cluster), ("text", place.topic_uuid), ("i64", partition))
    prefix = b"".join(encode_value(kind, value) for kind, value in fields)  # type: ignore[arg-type]
    end = encode_value("text", role)
    macs = OneKey(key).macs(prefix, [encode_value("i64", offset) + end for _, offset in rows])
    found = []
    for (decided_at_us, _), mac in zip(rows, macs, strict=True):
        mark = bytes((0x80 | mac[0] & 0x0F, mac[1], 0x80 | mac[2] & 0x3F))
        found.append((decided_at_us // 1000).to_bytes(6, "big") + mark + mac[3:10])
    return found


@dataclass(frozen=True)
class Position:
    """Where a partition stands: the next event, and the number that its next decision has."""

    offset: int
    seq: int

    def to_metadata(self) -> str:
        """What is committed with the offset."""
        return f"seq={self.seq}"

    @classmethod
    def of_committed(cls, offset: int, metadata: str | None) -> Position | None:
        """The position of a committed offset; None where somebody else has set it."""
        name, _, number = (metadata or "").partition("=")
        return cls(offset, int(number)) if name == "seq" and number.isascii() and number.isdecimal() else None

    def to_key(self) -> bytes:
        """The key of the last record before it: so the log of records alone says where to go on."""
        return b"%d:%d" % (self.offset, self.seq)

    @classmethod
    def of_key(cls, key: bytes | None) -> Position | None:
        """The position after a record; None where its key is none of ours."""
        offset, _, seq = (key or b"").partition(b":")
        return cls(int(offset), int(seq)) if offset.isdigit() and seq.isdigit() else None
