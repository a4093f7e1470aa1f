"""Entry bytes are RFC 8785 and nothing else is accepted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import DeclarationError, Tampered
from ml_platform.registry.events import MAX_ENTRY_BYTES, Event, encode_entry, parse_entry
from ml_platform.registry.kinds import KINDS
from tests.registry.world import AT

DIGEST = "sha256:" + "ab" * 32
REQUESTED = {
    "candidate": "20260105T000000Z_0123456789ab",
    "as_of": "2026-01-05T00:00:00.000000Z",
    "spec": DIGEST,
    "inputs": DIGEST,
    "requested_by": "service",
}


def requested(**changes) -> Event:
    return Event("candidate_requested", {**REQUESTED, **changes}, "credit_risk")


def encoded(event: Event) -> bytes:
    return encode_entry(event, index=3, recorded_at=AT)[1]


def test_entry_bytes_are_the_canonical_form_of_what_they_say() -> None:
    raw = encoded(requested())
    assert raw == canonical_json(json.loads(raw))
    entry = parse_entry(raw, 3)
    assert entry.body == REQUESTED
    assert (entry.index, entry.kind, entry.model, entry.critical) == (3, "candidate_requested", "credit_risk", False)
    assert entry.effective_at == entry.recorded_at == "2026-01-05T09:00:00.000000Z"
    assert entry.effective == entry.recorded == AT


counts = st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(0, 2**53 - 1), max_size=5)


@given(counts)
def test_the_fast_path_gives_rfc_8785(values) -> None:
    segment = {
        "id": "s1", "size": 1, "root": DIGEST, "models": ["m"], "first_id": "a", "last_id": "a", "writer": "w",
        "first_seq": 0, "last_seq": 0, "counts": values, "min_decided_at": REQUESTED["as_of"],
        "max_decided_at": REQUESTED["as_of"],
    }  # fmt: skip
    raw = encoded(Event("segments_sealed", {"segments": [segment]}))
    assert raw == canonical_json(json.loads(raw))
    assert parse_entry(raw, 3).body["segments"][0]["counts"] == values


def variants() -> dict[str, bytes]:
    raw = encoded(requested())
    document = json.loads(raw)
    return {
        "a space": raw.replace(b'":"', b'": "', 1),
        "another order": json.dumps(document, separators=(",", ":")).encode()[::1].replace(b'{"body"', b'{ "body"'),
        "a newline at the end": raw + b"\n",
        "a repeated key": raw[:-1] + b',"kind":"candidate_requested"}',
        "an escape that is not needed": raw.replace(b"credit_risk", b"credit\\u005frisk"),
        "a decimal": raw.replace(b'"service"', b"1.5"),
        "not a number": raw.replace(b'"service"', b"NaN"),
        "a missing field": canonical_json({**document, "body": {**document["body"], "spec": None}}),
        "an extra field": canonical_json({**document, "body": {**document["body"], "note": "x"}}),
        "an extra key": canonical_json({**document, "note": "x"}),
        "another critical mark": canonical_json({**document, "critical": True}),
        "no model": canonical_json({name: value for name, value in document.items() if name != "model"}),
        "a wrong time": canonical_json({**document, "recorded_at": "2026-01-05"}),
        "another format": canonical_json({**document, "format": "ml-platform/entry/2"}),
        "kind is a list": canonical_json({**document, "kind": ["x"]}),
        "a list": b"[]",
        "no JSON": b"{",
        "no UTF-8": b"\xff\xfe",
        "nothing": b"",
        "deep": b"[" * 100_000,
    }


@pytest.mark.parametrize("name", sorted(variants()))
def test_other_bytes_are_refused(name: str) -> None:
    with pytest.raises(Tampered) as caught:
        parse_entry(variants()[name], 3)
    assert caught.value.field == "entry 3"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("requested_by", "carl@example.org"),
        ("requested_by", "Carl Smith"),
        ("candidate", "latest"),
        ("spec", "sha256:AB"),
        ("as_of", "2026-01-05T00:00:00Z"),
        ("inputs", None),
    ],
)
def test_entries_hold_no_names_addresses_or_free_text(field: str, value: object) -> None:
    with pytest.raises(DeclarationError) as caught:
        encoded(requested(**{field: value}))
    assert caught.value.field == field
    assert str(value) not in str(caught.value)


def test_an_entry_names_its_model_if_its_kind_does() -> None:
    with pytest.raises(DeclarationError, match="model"):
        encoded(Event("candidate_requested", REQUESTED))
    with pytest.raises(DeclarationError, match="model"):
        encoded(Event("writer_closed", {"writer": "w", "last_seq": 0}, "credit_risk"))


def test_an_unknown_kind_cannot_be_written_but_can_be_read() -> None:
    with pytest.raises(DeclarationError, match="kind"):
        encoded(Event("erased", {}, "credit_risk"))
    document = json.loads(encoded(requested())) | {"kind": "erased", "critical": True, "body": {"x": 1.5}}
    entry = parse_entry(canonical_json(document), 3)
    assert not entry.known
    assert entry.critical


def test_larger_evidence_goes_by_digest() -> None:
    numbers = {f"{place:0>180}": 2**52 for place in range(1, 60)}
    segment = {
        "id": "s1", "size": 1, "root": DIGEST, "models": ["m"], "first_id": "a", "last_id": "a", "writer": "w",
        "first_seq": 0, "last_seq": 0, "counts": numbers, "min_decided_at": REQUESTED["as_of"],
        "max_decided_at": REQUESTED["as_of"],
    }  # fmt: skip
    second = {**segment, "id": "s2"}
    assert len(encoded(Event("segments_sealed", {"segments": [segment]}))) <= MAX_ENTRY_BYTES
    with pytest.raises(DeclarationError, match="16384"):
        encoded(Event("segments_sealed", {"segments": [segment, second]}))


def test_an_entry_may_have_exactly_16_kib() -> None:
    numbers = {f"{place:0>180}": 2**52 for place in range(1, 60)}
    segment = {
        "id": "s", "size": 1, "root": DIGEST, "models": ["m"], "first_id": "a", "last_id": "a", "writer": "w",
        "first_seq": 0, "last_seq": 0, "counts": numbers, "min_decided_at": REQUESTED["as_of"],
        "max_decided_at": REQUESTED["as_of"],
    }  # fmt: skip
    room = MAX_ENTRY_BYTES - len(encoded(Event("segments_sealed", {"segments": [segment]})))
    models = ["m"]
    while room > 67:  # a further name takes its length, two quotes and a comma
        models.append(f"m{len(models):0>63}")
        room -= 67
    widest = {**segment, "models": models, "id": "s" * (1 + room)}
    assert len(encoded(Event("segments_sealed", {"segments": [widest]}))) == MAX_ENTRY_BYTES
    with pytest.raises(DeclarationError, match="16385"):
        encoded(Event("segments_sealed", {"segments": [{**widest, "id": "s" * (2 + room)}]}))


def test_every_kind_has_a_rule_and_a_body() -> None:
    from ml_platform.registry.rules import _RULES

    assert set(_RULES) == set(KINDS)
