"""A batch of events decided: records, answers and dead letters, each event in exactly one of the last two.

Contract, route, arms, scores, decisions and reasons are the router's own code; this adds what a stream has and a
request has not: schemas, ids that follow from an event's place, sequences that follow its partition.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ml_platform.core.contract import Contract, Refusal
from ml_platform.core.errors import DataError, SchemaMismatch
from ml_platform.core.rows import encode_value
from ml_platform.serving.building import Decided
from ml_platform.serving.features_lookup import FeatureLookup
from ml_platform.serving.online_contract import Admitted, RefusedRow
from ml_platform.serving.online_encoding import Moment, id_texts_of, section_ends
from ml_platform.serving.online_record import LoggedRefusal, encode_refusal
from ml_platform.serving.router_batch import groups_of
from ml_platform.serving.router_clock import RouterClock, wall_us
from ml_platform.serving.scoring import quarantine_index
from ml_platform.serving.served import ServedArm, ServedRoute
from ml_platform.serving.stream.events import DECIDED_AT, SCHEMA_HEADER, Event
from ml_platform.serving.stream.following import Follower
from ml_platform.serving.stream.schemas import EventSchemas
from ml_platform.serving.stream.topics import Place, Position, stream_ids, writer_of

__all__ = ["OUTPUT_FORMAT", "Batch", "DeadLetter", "Output", "StreamDecider"]

OUTPUT_FORMAT: Final = "ml-platform/stream-decision/1"
_SALT: Final = 32
_dumps = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Output:
    """An answer: the event's key, and JSON of ``ml-platform/stream-decision/1``."""

    partition: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that got no decision, byte for byte, and every rule that it broke."""

    event: Event
    refusals: tuple[Refusal, ...]
    version: int | None


@dataclass
class Batch:
    """What a batch of events became.

    Attributes:
        records: partition → (key, payload) for its log of records, one of each event, in their order.
        outputs, letters: together as many as there were events.
        epoch: of the route that decided all of them.
        following: partition → the number that its next decision has.
    """

    epoch: int
    events: int
    records: dict[int, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    following: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Row:
    """An event on its way: decoded, and what became of it."""

    event: Event
    decided_at_us: int
    values: dict[str, Any]


@dataclass(slots=True)
class _Found:
    """What one arm made of some rows: of each admitted one its row, its body and what was said of it."""

    arm: ServedArm
    rows: list[_Row]
    bodies: Sequence[bytes]
    decided: Decided


@dataclass
class StreamDecider:
    """Decides batches, one after the other, from one thread.

    Args:
        model: its name.
        place: of the topic.
        follower: tells before every batch which versions decide.
        schemas: read events.
        clock: of the root. In a wall root ``decided_at`` is the broker's time of the event, whatever this says.
        id_key: of the root, 32 bytes.
        seed_of: the seed, 32 bytes, under which refused rows of a contract's entity are found again.
        features: finds stored features; None where no version has any.
    """

    model: str
    place: Place
    follower: Follower
    schemas: EventSchemas
    clock: RouterClock
    id_key: bytes
    seed_of: Callable[[Contract], bytes]
    features: FeatureLookup | None = None
    _seed: bytes = b""

    def decide(self, events: Sequence[Event], following: Mapping[int, int]) -> Batch:
        """Decides all of them under one route.

        Args:
            events: of one or several partitions, each partition's in order.
            following: partition → the number that its next decision has.

        Raises:
            PlatformError: nothing can be decided now; the same events may be decided later.
        """
        served = self.follower.current()
        self._seed = self._seed or self.seed_of(served.primary.contract.contract)
        replay = self.clock.now_us() if self.clock.kind == "replay" else None
        batch = Batch(served.routed.epoch, len(events), following=dict(following))
        refused: dict[int, tuple[ServedArm | None, RefusedRow]] = {}
        rows: dict[int, _Row] = {}
        for number, event in enumerate(events):
            try:
                values = self.schemas.codec(event.header(SCHEMA_HEADER)).decode(event.value or b"")
            except DataError as error:
                refused[number] = (None, self._unread(served, error))
                continue
            at = event.at_us if replay is None else replay
            values[DECIDED_AT] = at
            rows[number] = _Row(event, at, values)
        numbers = list(rows)
        found: dict[int, tuple[_Found, int]] = {}
        for group in groups_of(served, [rows[number].values for number in numbers]):
            of = [numbers[place] for place, _ in group.parts]
            self._judge(group.arm, {number: rows[number] for number in of}, found, refused)
        self._write(events, found, refused, batch)
        return batch

    def _unread(self, served: ServedRoute, error: DataError) -> RefusedRow:
        """Of bytes that are no event: no key, no time."""
        nulls = len(served.primary.contract.contract.entity_keys) + 1
        rule = "schema" if error.field == SCHEMA_HEADER else "avro"
        return RefusedRow(b"\x00" * nulls, (Refusal(0, str(error.field), rule, "bytes that are no known event"),))

    def _judge(
        self,
        arm: ServedArm,
        rows: Mapping[int, _Row],
        found: dict[int, tuple[_Found, int]],
        refused: dict[int, tuple[ServedArm | None, RefusedRow]],
    ) -> None:
        """Contract and version over the rows of one arm; one that no version can judge does not stop the others."""
        numbers = list(rows)
        try:
            admitted = arm.contract.admit([rows[number].values for number in numbers], 0, self.features)
            decided = arm.decide(None, admitted.matrix) if admitted.bodies else None
        except SchemaMismatch:
            raise
        except DataError as error:
            if len(rows) == 1:
                ((number, row),) = rows.items()
                refused[number] = (arm, _unjudged(arm, row, error))
                return
            for number, row in rows.items():
                self._judge(arm, {number: row}, found, refused)
            return
        for place, why in admitted.refused.items():
            refused[numbers[place]] = (arm, why[0])
        if decided is not None:
            self._found(arm, admitted, decided, rows, found)

    @staticmethod
    def _found(
        arm: ServedArm,
        admitted: Admitted,
        decided: Decided,
        rows: Mapping[int, _Row],
        found: dict[int, tuple[_Found, int]],
    ) -> None:
        numbers = list(rows)
        taken = [numbers[place] for place, _ in admitted.requests]
        made = _Found(arm, [rows[number] for number in taken], admitted.bodies, decided)
        for at, number in enumerate(taken):
            found[number] = (made, at)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write(
        self,
        events: Sequence[Event],
        found: Mapping[int, tuple[_Found, int]],
        refused: Mapping[int, tuple[ServedArm | None, RefusedRow]],
        batch: Batch,
    ) -> None:
        """Everything in the order of the events, which is the order of numbers."""
        recorded_at = wall_us()
        seqs: dict[int, int] = {}
        keys: list[bytes] = []
        for number, event in enumerate(events):
            if number in found:
                seqs[number] = batch.following[event.partition]
                batch.following[event.partition] += 1
            keys.append(Position(event.offset + 1, batch.following[event.partition]).to_key())
        made = self._payloads(found, seqs, recorded_at)
        for number, event in enumerate(events):
            records = batch.records.setdefault(event.partition, [])
            if number in found:
                payload, output = made[number]
                records.append((keys[number], payload))
                batch.outputs.append(Output(event.partition, event.key, output))
                continue
            arm, row = refused[number]
            records.append((keys[number], self._refusal(event, arm, row, recorded_at)))
            batch.letters.append(DeadLetter(event, row.refusals, None if arm is None else arm.version))

    def _payloads(
        self, found: Mapping[int, tuple[_Found, int]], seqs: Mapping[int, int], recorded_at_us: int
    ) -> dict[int, tuple[bytes, bytes]]:
        """Of each decided event its record and its answer."""
        made: dict[int, tuple[bytes, bytes]] = {}
        parts: dict[tuple[int, int], list[tuple[int, int]]] = {}
        groups: dict[int, _Found] = {}
        for number, (one, at) in found.items():
            groups[id(one)] = one
            parts.setdefault((id(one), one.rows[at].event.partition), []).append((number, at))
        ends = {known: section_ends(one.decided) for known, one in groups.items()}
        answers = {known: _answers(self.model, one) for known, one in groups.items()}
        for (known, partition), some in parts.items():
            one = groups[known]
            rows = [one.rows[at] for _, at in some]
            ids = stream_ids(
                self.id_key, self.place, partition, [(row.decided_at_us, row.event.offset) for row in rows],
                one.arm.name,
            )  # fmt: skip
            payloads = self.follower.encoder(one.arm, writer_of(self.place, partition)).payloads_at(
                _moments(rows, recorded_at_us),
                [one.bodies[at] for _, at in some],
                [ends[known][at] for _, at in some],
                ids,
                os.urandom(_SALT * len(some)),
                [seqs[number] for number, _ in some],
            )
            for (number, at), payload, text in zip(some, payloads, id_texts_of(ids), strict=True):
                made[number] = payload, (f'{{"prediction_id":"{text}",' + answers[known][at]).encode()
        return made

    def _refusal(self, event: Event, arm: ServedArm | None, row: RefusedRow, recorded_at_us: int) -> bytes:
        return encode_refusal(
            LoggedRefusal(
                writer=writer_of(self.place, event.partition),
                model=self.model,
                version=None if arm is None else arm.version,
                contract_digest=None if arm is None else arm.contract.contract.digest,
                decided_at_us=event.at_us if self.clock.kind == "wall" else self.clock.now_us(),
                recorded_at_us=recorded_at_us,
                row_index=quarantine_index(self._seed, self.model, row.row_key),
                refusals=row.refusals,
            )
        )


def _unjudged(arm: ServedArm, row: _Row, error: DataError) -> RefusedRow:
    """Of a row that the version cannot score, or whose stored features it cannot use."""
    time = row.values.get(arm.contract.contract.time)
    keys = arm.contract.entity_keys(row.values) or [b""]
    why = Refusal(0, error.field or "score", "version", "a row that the version cannot judge")
    return RefusedRow(keys[0] + encode_value("us", row.decided_at_us if time is None else time), (why,))


def _moments(rows: Sequence[_Row], recorded_at_us: int) -> list[Moment]:
    known: dict[int, Moment] = {}
    for row in rows:
        if row.decided_at_us not in known:
            latency = max(0, recorded_at_us - row.event.at_us)
            known[row.decided_at_us] = Moment(row.decided_at_us, recorded_at_us, latency)
    return [known[row.decided_at_us] for row in rows]


def _answers(model: str, one: _Found) -> list[str]:
    """Of each row its answer as JSON text, without its id and the brace that opens it."""
    arm, decided = one.arm, one.decided
    head = {"format": OUTPUT_FORMAT, "model": model, "version": arm.version, "arm": arm.name}
    start = _dumps({**head, "epoch": arm.encoder.header.epoch})[1:-1]
    decisions = [_dumps(text) for text in decided.decision_texts]
    reasons = [_dumps(list(texts)) for texts in decided.reasons.lists]
    outputs = [f"{_dumps(name)}:" for name in decided.outputs]
    values = zip(*(column.tolist() for column in decided.outputs.values()), strict=True)
    codes = zip(decided.decisions.tolist(), decided.reasons.codes.tolist(), values, one.rows, strict=True)
    return [
        f'{start},"decision":{decisions[decision]},"outputs":{{'
        + ",".join(name + repr(value) for name, value in zip(outputs, found, strict=True))
        + f'}},"reason_codes":{reasons[reason]},"decided_at_us":{row.decided_at_us},'
        f'"source":{{"partition":{row.event.partition},"offset":{row.event.offset}}}}}'
        for decision, reason, found, row in codes
    ]
