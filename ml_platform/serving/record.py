"""The prediction record: a header in the clear, personal sections under salted commitments, one leaf (DECISIONS 16).

Row at a time, and obvious: ``trace``, ``verify`` and the tests use these functions; ``serving.encoding`` and
``serving.hashing`` give the same bytes for whole columns. ``docs/formats.md`` has the bytes and golden vectors.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ml_platform.core.digests import keyed
from ml_platform.core.merkle import leaf_hash
from ml_platform.core.rows import FieldType, encode_row

__all__ = [
    "HEADER_FORMAT",
    "INDEX_TAG",
    "LEAF_TAG",
    "PERSONAL_TAG",
    "SECTION_FORMAT",
    "SHADOW_ROLE",
    "SUBJECT_ROLE",
    "Header",
    "Section",
    "commitment",
    "entity_index",
    "record_leaf",
]

HEADER_FORMAT: Final = "ml-platform/header/1"
SECTION_FORMAT: Final = "ml-platform/personal-section/1"
PERSONAL_TAG: Final = "ml-platform/personal/1"
LEAF_TAG: Final = "ml-platform/leaf/1"
INDEX_TAG: Final = "ml-platform/index/1"
SUBJECT_ROLE: Final = "subject"
SHADOW_ROLE: Final = "shadow"
"""The role of a header whose version only scored along; other roles are the arm that decided."""

Fields = list[tuple[FieldType, object]]


@dataclass(frozen=True)
class Header:
    """What anybody may see of a decision. Times are int64 microseconds UTC, ids 16 bytes.

    Args:
        mode: ``batch``, ``online`` or ``stream``.
        role: ``primary``, ``shadow`` or an arm.
        route_digest, epoch: the signed route by which it was decided; None in batch.
        flip_digest: of a local rollback that outranked that route when it was decided.
        decision_of_record: False for shadows and for re-scored partitions that correct nothing.
        clock: ``wall`` or ``replay`` (replayed, never served).
        supersedes: the id of the decision of the same row that this one follows.
        pair_of: of a shadow record, the id that it accompanies.
        writer: the boot id of the process that wrote it; ``seq`` is gap-free per writer.
    """

    root_id: str
    model: str
    version: int
    mode: str
    role: str
    decision_of_record: bool
    contract_digest: str
    artifact_digest: str
    route_digest: str | None
    epoch: int | None
    flip_digest: str | None
    clock: str
    decided_at_us: int
    recorded_at_us: int
    latency_us: int | None
    supersedes: bytes | None
    pair_of: bytes | None
    writer: str
    prediction_id: bytes
    seq: int

    def constant_fields(self) -> Fields:
        """The fields that are equal in all records of one batch partition."""
        return [
            ("text", HEADER_FORMAT),
            ("text", self.root_id),
            ("text", self.model),
            ("i64", self.version),
            ("text", self.mode),
            ("text", self.role),
            ("bool", self.decision_of_record),
            ("text", self.contract_digest),
            ("text", self.artifact_digest),
            ("text", self.route_digest),
            ("i64", self.epoch),
            ("text", self.flip_digest),
            ("text", self.clock),
            ("us", self.decided_at_us),
            ("us", self.recorded_at_us),
            ("i64", self.latency_us),
        ]

    def varying_fields(self) -> Fields:
        """The fields after them."""
        return [
            ("bytes", self.supersedes),
            ("bytes", self.pair_of),
            ("text", self.writer),
            ("bytes", self.prediction_id),
            ("i64", self.seq),
        ]

    def to_bytes(self) -> bytes:
        return encode_row([*self.constant_fields(), *self.varying_fields()])


@dataclass(frozen=True)
class Section:
    """The personal section of the subject: everything that says something about a person.

    Args:
        request_time_us: T, microseconds UTC.
        keys: the entity keys, typed.
        features: typed values in contract order: a number as the model used it (float32), a category as received.
        ages_us: T minus the event time of each stored feature, in contract order; None where there was no value.
        flags: ``field:rule:policy`` of each remark of the contract, in contract order.
        outputs: the named outputs in contract order.
        decision: None for a model that only scores.
        reasons: reason texts, of adverse decisions only.
    """

    request_time_us: int
    keys: tuple[tuple[FieldType, object], ...]
    features: tuple[tuple[FieldType, object], ...]
    ages_us: tuple[int | None, ...]
    flags: tuple[str, ...]
    outputs: tuple[float | None, ...]
    decision: str | None
    reasons: tuple[str, ...]

    def to_bytes(self) -> bytes:
        return encode_row(
            [
                ("text", SECTION_FORMAT),
                ("us", self.request_time_us),
                *self.keys,
                *self.features,
                *(("i64", age) for age in self.ages_us),
                ("texts", self.flags),
                *(("f32", output) for output in self.outputs),
                ("text", self.decision),
                ("texts", self.reasons),
            ]
        )


def commitment(salt: bytes, personal: bytes) -> bytes:
    """HMAC-SHA-256(salt, "ml-platform/personal/1" ‖ bytes): says nothing without salt and bytes, fits no others."""
    return hmac.digest(salt, encode_row([("text", PERSONAL_TAG), ("bytes", personal)]), "sha256")


def record_leaf(header: bytes, sections: Sequence[tuple[str, bytes]]) -> bytes:
    """SHA-256(0x00 ‖ "ml-platform/leaf/1" ‖ header ‖ role and commitment of each section), 32 bytes."""
    fields: Fields = [("text", LEAF_TAG), ("bytes", header)]
    for role, committed in sections:
        fields += [("text", role), ("bytes", committed)]
    return leaf_hash(encode_row(fields))


def entity_index(seed: bytes, *, model: str, month: str, entity_key: bytes | None) -> bytes:
    """The key under which the decisions about an entity of a month are found: HMAC(seed, tag ‖ model ‖ month).

    Args:
        seed: of the subject, or the shared one of the entity.
        model: its name.
        month: ``YYYY-MM`` of ``decided_at``.
        entity_key: None for a personal entity, whose seed is its own; the ``row/1`` bytes of the key otherwise,
            because entities that are not personal share one seed.
    """
    more: Fields = [] if entity_key is None else [("bytes", entity_key)]
    return keyed(seed, INDEX_TAG, ("text", model), ("text", month), *more)
