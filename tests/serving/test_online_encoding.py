"""The router's fast bytes are those of the record's own functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.contract import Contract
from ml_platform.core.ids import id_text, uuid_v7
from ml_platform.core.rows import encode_row, micros, utc
from ml_platform.serving.building import Decided
from ml_platform.serving.online_encoding import DecisionEncoder, Moment, id_texts_of, new_ids, number_pieces
from ml_platform.serving.online_record import LoggedDecision, decode, encode_decision
from ml_platform.serving.preparing import TextLists
from ml_platform.serving.record import Header, Section
from tests.serving.support import CONTRACT
from tests.serving.test_online_record import HEADERS, ONLINE, SECTIONS

F32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
TIMES = st.integers(0, 2**62)
NO_END = b"\x00\x01\x00\x00\x00\x00"


def body_of(section: Section) -> bytes:
    return replace(section, outputs=(), decision=None, reasons=()).to_bytes().removesuffix(NO_END)


@given(
    HEADERS,
    st.lists(st.tuples(SECTIONS, F32, st.integers(0, 1), st.integers(0, 2)), max_size=4),
    TIMES, TIMES, st.integers(0, 2**40), st.integers(0, 2**40), st.data(),
)  # fmt: skip
def test_payloads_are_those_of_the_plain_encoder(
    header: Header, rows: Any, decided_at: int, recorded_at: int, latency: int, first_seq: int, data: st.DataObject
) -> None:
    texts, reasons = ("approved", None), ((), ("a", "é"), ("b",))
    decided = Decided(
        {"score": np.array([row[1] for row in rows], np.float32)},
        np.array([row[2] for row in rows], np.int64),
        texts,
        TextLists(np.array([row[3] for row in rows], np.int64), reasons),
    )
    salts = data.draw(st.binary(min_size=32 * len(rows), max_size=32 * len(rows)))
    ids = [bytes([number]) * 16 for number in range(len(rows))]
    encoder = DecisionEncoder(header)
    moment = Moment(decided_at, recorded_at, latency)
    bodies = [body_of(row[0]) for row in rows]
    payloads = encoder.payloads(moment, bodies, decided, ids, salts, first_seq)
    headers = encoder.headers(moment, ids, first_seq)
    expected = []
    for number, (section, score, code, reason) in enumerate(rows):
        assert headers[number].seq == first_seq + number
        assert (headers[number].decided_at_us, headers[number].prediction_id) == (decided_at, ids[number])
        whole = replace(section, outputs=(score,), decision=texts[code], reasons=reasons[reason])
        logged = LoggedDecision(headers[number], whole, salts[32 * number : 32 * number + 32])
        expected.append(encode_decision(logged))
    assert payloads == expected


@given(st.integers(0, 2**45), st.lists(st.binary(min_size=10, max_size=10), max_size=5))
def test_ids_are_uuids_of_version_7(decided_at: int, random: list[bytes]) -> None:
    from tests.features.support import at

    ids = new_ids(decided_at, b"".join(random))
    assert micros(utc(at(decided_at))) == decided_at
    assert ids == [uuid_v7(at(decided_at), one) for one in random]
    assert id_texts_of(ids) == [id_text(one) for one in ids]


def test_a_payload_is_read_back() -> None:
    def contract(digest: str) -> Contract:
        return CONTRACT

    section = Section(5, (("i64", 1),), tuple(("f32" if f.kind == "number" else "text", None) for f in CONTRACT.fields),
                      (None, 7), ("term:unknown:flag",), (0.5,), "declined", ("reason",))  # fmt: skip
    decided = Decided(
        {"score": np.array([0.5], np.float32)}, np.array([0]), ("declined",), TextLists(np.array([0]), (("reason",),))
    )
    (payload,) = DecisionEncoder(ONLINE).payloads(
        Moment(1, 2, 3), [body_of(section)], decided, [bytes(16)], bytes(32), 9
    )
    found = decode(payload, contract)
    assert isinstance(found, LoggedDecision)
    assert found.section == section
    assert (found.header.seq, found.header.latency_us, found.header.recorded_at_us) == (9, 3, 2)


@given(st.integers(1, 4).flatmap(lambda k: st.lists(st.lists(st.floats(width=32), min_size=k, max_size=k), max_size=4)))
def test_numbers_side_by_side_are_fields_one_after_the_other(rows: list[list[float]]) -> None:
    block = np.array(rows, np.float32).reshape(len(rows), -1 if rows else 2)
    expected = [encode_row([("f32", None if value != value else value + 0.0) for value in row]) for row in rows]
    assert number_pieces(block) == expected
    assert number_pieces(np.asfortranarray(block)) == expected
