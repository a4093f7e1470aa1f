"""Golden vectors of streams: ids, schemas of events, what stands in the topics, and an inbox's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ml_platform.core.contract import Contract, Refusal, ResolvedField
from ml_platform.core.digests import canonical_json
from ml_platform.core.ids import id_text
from ml_platform.serving.building import Decided
from ml_platform.serving.online_encoding import DecisionEncoder
from ml_platform.serving.preparing import TextLists
from ml_platform.serving.served import ServedArm
from ml_platform.serving.stream.deciding import DeadLetter, _answers, _Found, _Row
from ml_platform.serving.stream.events import Event, event_schema, schema_digest
from ml_platform.serving.stream.fastavro import EventCodec
from ml_platform.serving.stream.inbox import InboxState
from ml_platform.serving.stream.kafka_transactions import _why
from ml_platform.serving.stream.topics import Place, Position, Topics, stream_ids, writer_of
from tests.formats.logged import ONLINE

PLACE = Place("tW7hD-WfQ_2WQThw3FrG6w", "00112233445566778899aabbccddeeff")
CONTRACT = Contract(
    entity_keys=(("loan_id", "int64"),),
    time="applied_at",
    fields=(
        ResolvedField("dti", "application@sha256:00:dti", "input", "number", "float64"),
        ResolvedField("term", "application@sha256:00:term", "input", "category", "string", categories=("36",)),
    ),
)
SCHEMA = event_schema("credit_risk", CONTRACT)
EVENT = Event(2, 41, 1_795_545_211_254_000, b"42", b"")
NOTHING: Any = None


def answer() -> str:
    arm = ServedArm("canary", 1, NOTHING, NOTHING, DecisionEncoder(ONLINE))
    decided = Decided(
        {"score": np.array([0.8125], np.float32)},
        np.array([1]),
        ("approved", "declined"),
        TextLists.of(1, {0: ("High use of existing credit",)}),
    )
    (rest,) = _answers("credit_risk", _Found(arm, [_Row(EVENT, EVENT.at_us, {})], [b""], decided))
    return f'{{"prediction_id":"{stream_id()}",{rest}'


def stream_id() -> str:
    return id_text(stream_ids(bytes(range(32)), PLACE, 2, [(EVENT.at_us, EVENT.offset)], "canary")[0])


COMPUTED: dict[str, Callable[[], str]] = {
    "stream-id/1": stream_id,
    "stream writer": lambda: writer_of(PLACE, 2),
    "event-schema/1": lambda: canonical_json(SCHEMA).decode(),
    "event-schema/1 digest": lambda: schema_digest(SCHEMA),
    "stream event": lambda: (
        EventCodec(SCHEMA).encode({"loan_id": 42, "applied_at": 1_275_350_400_000_000, "dti": 0.5, "term": "36"}).hex()
    ),
    "stream-decision/1": answer,
    "stream dead-letter header": lambda: _why(
        Topics.of("credit_risk"), DeadLetter(EVENT, (Refusal(0, "term", "unknown", "an unknown category"),), 1)
    ).decode(),
    "stream record key": lambda: Position(42, 17).to_key().decode(),
    "stream offset metadata": lambda: Position(42, 17).to_metadata(),
    "topic-inbox/1": lambda: canonical_json(InboxState(43, 40, 41, 12, "00000000000000000037.wal").to_json()).decode(),
}
