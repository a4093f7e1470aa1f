"""An event is, for the contract, exactly what a request with the same values is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.contract import Contract
from ml_platform.core.digests import keyed
from ml_platform.core.errors import DataError
from ml_platform.core.ids import uuid_v8
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import utc
from ml_platform.serving.online_contract import OnlineContract
from ml_platform.serving.stream.events import DECIDED_AT, EventContract, event_schema
from ml_platform.serving.stream.fastavro import EventCodec
from ml_platform.serving.stream.schemas import EventSchemas
from ml_platform.serving.stream.topics import ID_TAG, Place, Position, stream_ids
from tests.formats.streamed import CONTRACT, SCHEMA
from tests.serving.test_online_contract import CONTRACTS, NOW, Store, rows_of, tensors

CODEC = EventCodec(SCHEMA)
WHOLE = {"loan_id": 42, "applied_at": None, "dti": 0.5, "term": "36"}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_contract_makes_of_an_event_what_it_makes_of_the_same_request(data: Any) -> None:
    contract: Contract = data.draw(CONTRACTS)
    rows = data.draw(rows_of(contract))
    rows = list({(row["loan_id"], row["at"]): row for row in rows}.values())
    codec = EventCodec(event_schema("risk", contract))
    names = [*(name for name, _ in contract.entity_keys), "at", *(item.name for item in contract.inputs)]
    events = []
    for row in rows:
        decoded = codec.decode(codec.encode({name: row[name] for name in names}))
        events.append({**decoded, DECIDED_AT: NOW})
    online = OnlineContract(contract).admit([tensors(contract, row) for row in rows], NOW, Store(rows))
    stream = EventContract(contract).admit(events, 0, Store(rows))
    assert stream.bodies == online.bodies
    assert stream.entity_keys == online.entity_keys
    assert stream.matrix.tobytes() == online.matrix.tobytes()
    assert stream.flags == online.flags
    assert stream.requests == online.requests
    assert stream.refused == online.refused


@given(
    st.binary(min_size=32, max_size=32), st.integers(0, 63), st.text(max_size=8),
    st.lists(st.tuples(st.integers(0, 4_000_000_000_000_000), st.integers(0, 2**62)), min_size=1, max_size=5),
)  # fmt: skip
def test_an_id_is_a_keyed_uuid_of_the_events_place(
    key: bytes, partition: int, role: str, rows: list[tuple[int, int]]
) -> None:
    from datetime import UTC, datetime, timedelta

    place = Place("cluster", "00" * 16)
    slow = [
        uuid_v8(
            utc(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)),
            keyed(
                key, ID_TAG, ("text", place.cluster), ("text", place.topic_uuid), ("i64", partition), ("i64", offset),
                ("text", role),
            ),
        )
        for at, offset in rows
    ]  # fmt: skip
    assert stream_ids(key, place, partition, rows, role) == slow


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_position_is_read_back_and_nothing_else_is_one(offset: int, seq: int) -> None:
    position = Position(offset, seq)
    assert Position.of_committed(offset, position.to_metadata()) == position
    assert Position.of_key(position.to_key()) == position


@pytest.mark.parametrize("metadata", [None, "", "seq=", "seq=-1", "seq=x", "number=3", "3", "seq=²"])
def test_an_offset_that_somebody_else_committed_is_no_position(metadata: str | None) -> None:
    assert Position.of_committed(7, metadata) is None


@pytest.mark.parametrize("key", [None, b"", b"12", b":3", b"12:", b"a:b", b"1:-2"])
def test_a_message_that_somebody_else_wrote_says_no_position(key: bytes | None) -> None:
    assert Position.of_key(key) is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_event_or_refused(raw: bytes) -> None:
    try:
        found = CODEC.decode(raw)
    except DataError:
        return
    again = CODEC.decode(CODEC.encode(found))
    assert repr(again) == repr(found)  # NaN is not equal to itself


@pytest.mark.parametrize("cut", range(1, len(CODEC.encode(WHOLE)) + 1))
def test_an_event_that_is_cut_or_longer_than_its_schema_is_refused(cut: int) -> None:
    raw = CODEC.encode(WHOLE)
    with pytest.raises(DataError, match="no event"):
        CODEC.decode(raw[:-cut])
    with pytest.raises(DataError, match="no event"):
        CODEC.decode(raw + raw[:cut])


def test_a_schema_is_known_once_it_was_kept_and_only_for_its_model(tmp_path: Any) -> None:
    objects = ObjectStore(str(tmp_path / "store"))
    digest = EventSchemas(objects, "credit_risk").keep(CONTRACT).encode()
    later = EventSchemas(objects, "credit_risk")
    assert later.codec(digest).decode(CODEC.encode(WHOLE)) == WHOLE
    for named, who in (
        (digest, "other"),
        (b"sha256:" + b"0" * 64, "credit_risk"),
        (b"../../x", "credit_risk"),
        (None, "credit_risk"),
    ):
        with pytest.raises(DataError, match="schema"):
            EventSchemas(objects, who).codec(named)
