"""The bytes of a record. The golden vectors are those of docs/formats.md."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_platform.core.ids import id_bytes
from ml_platform.core.rows import encode_row, micros
from ml_platform.core.subjects import salt
from ml_platform.serving.record import Header, Section, commitment, entity_index, record_leaf
from ml_platform.serving.scoring import quarantine_index

SEED = bytes(range(32))
ID = id_bytes("0128f0ce-bc00-8005-a62b-ad18ed738170")
HEADER = Header(
    root_id="0123456789abcdef",
    model="credit_risk",
    version=1,
    mode="batch",
    role="primary",
    decision_of_record=True,
    contract_digest="sha256:" + "00" * 32,
    artifact_digest="sha256:" + "11" * 32,
    route_digest=None,
    epoch=None,
    flip_digest=None,
    clock="replay",
    decided_at_us=micros(datetime(2010, 6, 1, tzinfo=UTC)),
    recorded_at_us=micros(datetime(2026, 11, 23, 9, 0, 0, 123456, tzinfo=UTC)),
    latency_us=None,
    supersedes=None,
    pair_of=None,
    writer="batch-00112233445566778899aabbccddeeff",
    prediction_id=ID,
    seq=7,
)
SECTION = Section(
    request_time_us=micros(datetime(2010, 5, 3, 5, 43, 20, 655394, tzinfo=UTC)),
    keys=(("i64", 209),),
    features=(("f32", 0.5), ("f32", None), ("text", "60"), ("text", None)),
    ages_us=(209_000_000, None),
    flags=("term:unknown:flag", "grade:null:default"),
    outputs=(0.625,),
    decision="declined",
    reasons=("High use of existing credit",),
)
SALT = salt(SEED, "prediction", ID)

GOLDEN = {
    "header/1": (
        "01140000006d6c2d706c6174666f726d2f6865616465722f31011000000030313233343536373839616263646566010b"
        "0000006372656469745f7269736b0101000000000000000105000000626174636801070000007072696d617279010101"
        "470000007368613235363a30303030303030303030303030303030303030303030303030303030303030303030303030"
        "30303030303030303030303030303030303030303030303030303001470000007368613235363a313131313131313131"
        "313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131"
        "3131313131313100000001060000007265706c61790100608ea7ec87040001402697d1ed600600000000012600000062"
        "617463682d303031313232333334343535363637373838393961616262636364646565666601100000000128f0cebc00"
        "8005a62bad18ed738170010700000000000000"
    ),
    "personal-section/1": (
        "011e0000006d6c2d706c6174666f726d2f706572736f6e616c2d73656374696f6e2f3101228e0d12aa85040001d10000"
        "0000000000010000003f000102000000363000014016750c0000000000010200000001110000007465726d3a756e6b6e"
        "6f776e3a666c6167011200000067726164653a6e756c6c3a64656661756c74010000203f01080000006465636c696e65"
        "640101000000011b0000004869676820757365206f66206578697374696e6720637265646974"
    ),
    "salt/1 prediction": "4172ec54bd4cf1466ebe5d44303e14d9da95adf5cc051a808fd28b240e15ac8b",
    "personal/1": "e565215e0cd8d3123902ce7ed891843dfac9c7465f847074dd43e188519a786f",
    "leaf/1": "5540f5ac47f907ef1007fcf80e213d826d220c7deda7584953efb88b0ca767b9",
    "index/1 personal": "5e767e5c40d54b21395ff777c63e31f3e8fccc7132a4e5d0968a769b1ab849a3",
    "index/1 not personal": "01f15c9f056dd77e51b3bd10d4ac746466290afae4dedfec42d0878cd5c4c138",
    "quarantine/1": "d4a5358bfd8537517a7d4ed2475cb57df0b8905f604d27b34d9dcc9ad06164ef",
}


def computed() -> dict[str, str]:
    committed = commitment(SALT, SECTION.to_bytes())
    key = encode_row([("i64", 209)])
    return {
        "header/1": HEADER.to_bytes().hex(),
        "personal-section/1": SECTION.to_bytes().hex(),
        "salt/1 prediction": SALT.hex(),
        "personal/1": committed.hex(),
        "leaf/1": record_leaf(HEADER.to_bytes(), [("subject", committed)]).hex(),
        "index/1 personal": entity_index(SEED, model="credit_risk", month="2010-06", entity_key=None).hex(),
        "index/1 not personal": entity_index(SEED, model="credit_risk", month="2010-06", entity_key=key).hex(),
        "quarantine/1": quarantine_index(
            SEED, "credit_risk", encode_row([("i64", 209), ("us", SECTION.request_time_us)])
        ).hex(),
    }


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_bytes_are_the_golden_ones(name: str) -> None:
    assert computed()[name] == GOLDEN[name]


def test_the_page_of_formats_has_the_same_vectors(repository: Path) -> None:
    page = (repository / "docs" / "formats.md").read_text()
    if "```vector header/1" not in page:
        pytest.skip("docs/formats.md has no section on records yet")
    for name, value in GOLDEN.items():
        assert f"```vector {name}\n{value}\n```" in page


def test_commitment_and_leaf_are_plain_hmac_and_sha_256() -> None:
    personal = SECTION.to_bytes()
    message = encode_row([("text", "ml-platform/personal/1"), ("bytes", personal)])
    committed = hmac.new(SALT, message, hashlib.sha256).digest()
    assert commitment(SALT, personal) == committed
    fields = [("text", "ml-platform/leaf/1"), ("bytes", HEADER.to_bytes()), ("text", "subject"), ("bytes", committed)]
    expected = hashlib.sha256(b"\x00" + encode_row(fields)).digest()  # type: ignore[arg-type]
    assert record_leaf(HEADER.to_bytes(), [("subject", committed)]) == expected


@pytest.mark.parametrize("name", list(Header.__dataclass_fields__))
def test_every_field_of_the_header_changes_its_bytes(name: str) -> None:
    held = getattr(HEADER, name)
    other = {bool: False, int: 99, str: "other", bytes: b"x" * 16, type(None): None}[type(held)]
    if held is None:
        other = (
            b"y" * 16 if name in {"supersedes", "pair_of"} else "r" if name in {"route_digest", "flip_digest"} else 5
        )
    assert replace(HEADER, **{name: other}).to_bytes() != HEADER.to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"request_time_us": 1},
        {"keys": (("i64", 210),)},
        {"features": SECTION.features[::-1]},
        {"ages_us": (None, 209_000_000)},
        {"flags": ()},
        {"outputs": (0.626,)},
        {"decision": None},
        {"reasons": ()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_of_the_personal_section_changes_the_commitment(change: dict[str, object]) -> None:
    changed = replace(SECTION, **change)  # type: ignore[arg-type]
    assert commitment(SALT, changed.to_bytes()) != commitment(SALT, SECTION.to_bytes())


def test_a_second_section_or_another_role_is_another_leaf() -> None:
    one = [("subject", bytes(32))]
    leaves = {
        record_leaf(b"h", one),
        record_leaf(b"h", [("item", bytes(32))]),
        record_leaf(b"h", [*one, ("item", bytes(32))]),
        record_leaf(b"i", one),
    }
    assert len(leaves) == 4
