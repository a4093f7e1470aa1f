"""Payloads of the log: what goes in comes out, with the bytes that are proven."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.contract import Contract, Refusal
from ml_platform.core.errors import IntegrityError
from ml_platform.core.rows import encode_row
from ml_platform.serving.online_record import (
    LoggedDecision,
    LoggedRefusal,
    decision_parts,
    decode,
    encode_decision,
    encode_refusal,
)
from ml_platform.serving.record import Header, Section
from tests.serving.support import CONTRACT
from tests.serving.test_record import HEADER, SALT, SECTION

I64 = st.integers(-(2**63), 2**63 - 1)
COUNT = st.none() | st.integers(0, 2**40)
TEXT = st.text(max_size=12)
F32 = st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
ONLINE = replace(
    HEADER,
    mode="online",
    role="canary",
    route_digest="sha256:" + "22" * 32,
    epoch=3,
    flip_digest="sha256:" + "33" * 32,
    latency_us=412,
    writer="router-" + "ab" * 16,
)
LOAN = replace(
    SECTION,
    features=(("f32", 0.5), ("f32", None), ("text", "60"), ("text", None), ("f32", None), ("f32", 0.5), ("text", "x")),
)
REFUSED = LoggedRefusal(
    writer=ONLINE.writer,
    model="credit_risk",
    version=1,
    contract_digest=HEADER.contract_digest,
    decided_at_us=HEADER.decided_at_us,
    recorded_at_us=HEADER.recorded_at_us,
    row_index=bytes(range(32)),
    refusals=(Refusal(0, "grade", "unknown", "an unknown category"), Refusal(0, "amount", "finite", "NaN")),
)


def contract_of(digest: str) -> Contract:
    return CONTRACT


HEADERS = st.builds(
    Header,
    root_id=TEXT, model=TEXT, version=I64, mode=TEXT, role=TEXT, decision_of_record=st.booleans(),
    contract_digest=TEXT, artifact_digest=TEXT, route_digest=st.none() | TEXT, epoch=COUNT,
    flip_digest=st.none() | TEXT, clock=TEXT, decided_at_us=I64, recorded_at_us=I64, latency_us=COUNT,
    supersedes=st.none() | st.binary(max_size=16), pair_of=st.none() | st.binary(max_size=16), writer=TEXT,
    prediction_id=st.binary(min_size=16, max_size=16), seq=COUNT,
)  # fmt: skip


def features() -> st.SearchStrategy[tuple[tuple[str, Any], ...]]:
    each = [
        st.tuples(st.just("f32"), st.none() | F32)
        if item.kind == "number"
        else st.tuples(st.just("text"), st.none() | TEXT)
        for item in CONTRACT.fields
    ]
    return st.tuples(*each)


SECTIONS = st.builds(
    Section,
    request_time_us=I64,
    keys=st.tuples(st.tuples(st.just("i64"), st.none() | I64)),
    features=features(),
    ages_us=st.tuples(COUNT, COUNT),
    flags=st.lists(TEXT, max_size=3).map(tuple),
    outputs=st.tuples(st.none() | F32),
    decision=st.none() | TEXT,
    reasons=st.lists(TEXT, max_size=4).map(tuple),
)


@given(HEADERS, SECTIONS, st.binary(min_size=32, max_size=32))
def test_a_decision_comes_back_and_so_do_its_bytes(header: Header, section: Section, salt: bytes) -> None:
    logged = LoggedDecision(header, section, salt)
    payload = encode_decision(logged)
    assert decode(payload, contract_of) == logged
    assert decision_parts(payload) == (header.to_bytes(), section.to_bytes(), salt)


@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=4),
    st.none() | I64,
    st.none() | TEXT,
    st.binary(min_size=32, max_size=32),
)
def test_a_refusal_comes_back(why: list[tuple[str, str, str]], version: int | None, digest: str | None, row: bytes):
    refusal = replace(
        REFUSED,
        version=version,
        contract_digest=digest,
        row_index=row,
        refusals=tuple(Refusal(0, *one) for one in why),
    )
    assert decode(encode_refusal(refusal), contract_of) == refusal


@given(st.data())
def test_a_payload_that_is_cut_or_goes_on_is_refused(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([encode_decision(LoggedDecision(ONLINE, LOAN, SALT)), encode_refusal(REFUSED)]))
    cut = data.draw(st.integers(0, len(whole) - 1))
    for other in (whole[:cut], whole + b"\x00", b"\x03" + whole[1:]):
        with pytest.raises(IntegrityError):
            decode(other, contract_of)


def test_a_section_of_another_contract_is_refused() -> None:
    payload = encode_decision(LoggedDecision(ONLINE, LOAN, SALT))
    with pytest.raises(IntegrityError):
        decode(payload, lambda digest: replace(CONTRACT, fields=CONTRACT.fields[:-1]))


def test_a_header_or_section_of_another_format_is_refused() -> None:
    header, section = ONLINE.to_bytes(), LOAN.to_bytes()
    for parts in ((section, section, SALT), (header, header, SALT), (header, section, None)):
        with pytest.raises(IntegrityError):
            decode(b"\x01" + encode_row([("bytes", part) for part in parts]), contract_of)


def test_refusals_whose_lists_differ_in_length_are_refused() -> None:
    whole = encode_refusal(replace(REFUSED, refusals=()))
    with pytest.raises(IntegrityError, match="refusals"):
        decode(whole[:-5] + encode_row([("texts", ["x"])]), contract_of)
    with pytest.raises(IntegrityError, match="refusals"):
        decode(whole[:-5] + b"\x00", contract_of)
