"""Routes and flips as documents: what is signed, what is followed, and which arm answers a unit."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.digests import canonical_json, document_digest
from ml_platform.core.errors import DeclarationError, Tampered
from ml_platform.core.rows import encode_row
from ml_platform.registry.assignment import Assignment
from ml_platform.registry.flip import effective_arms, open_flip, why_not_flip
from ml_platform.registry.route import ALL_BP, Arm, Pin, Seen, SignedRoute, WhyNot, accept, open_route, sign_route
from tests.registry.routing import PIN, after, allowed, arms, flip, route, signed
from tests.registry.world import key, line


def seen(made: SignedRoute) -> Seen:
    return Seen(made.route.epoch, made.digest)


def why(held: Seen | None, raw: bytes, pin: Pin = PIN) -> str:
    found = accept(held, raw, pin)
    assert isinstance(found, WhyNot)
    assert found.what.endswith(".")
    return found.reason


def test_a_signed_route_is_read_back_as_it_was() -> None:
    made = signed(arms=arms(2, 3), allowed_rollbacks=allowed(1))
    assert open_route(made.raw, line("service")) == made
    assert made.digest == document_digest("route", json.loads(made.raw)["route"])
    assert made.route.named == ((2, arms(2)[0].artifact), (3, arms(3)[0].artifact), (1, arms(1)[0].artifact))


def test_an_auditor_checks_the_signature_with_ssh_keygen(tmp_path: Path) -> None:
    file = json.loads(signed().raw)
    (tmp_path / "allowed").write_text(f"service {line('service')}\n")
    (tmp_path / "route.sig").write_text(file["signature"])
    command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "service"]
    command += ["-n", "route@ml-platform", "-s", str(tmp_path / "route.sig")]
    good = canonical_json(file["route"])
    for raw, code in ((good, 0), (good.replace(b'"epoch":1', b'"epoch":2'), 255)):
        assert subprocess.run(command, input=raw, capture_output=True, check=False).returncode == code


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"epoch": 0}, "epoch"),
        ({"epoch": 2}, "previous"),
        ({"previous": "sha256:" + "0" * 64}, "previous"),
        ({"model": "Credit Risk"}, "model"),
        ({"salt": "xyz"}, "salt"),
        ({"arms": ()}, "arms"),
        ({"arms": (Arm("canary", 1, arms()[0].artifact, ALL_BP),)}, "arms"),
        ({"arms": (replace(arms()[0], share_bp=9_999),)}, "arms"),
        ({"arms": (replace(arms()[0], share_bp=5_000), replace(arms(2)[0], share_bp=5_000))}, "arms"),
        ({"arms": (*arms(1, 2, 1)[:1], replace(arms(2)[0], arm="canary", share_bp=0))}, "arms"),
        ({"issued_at": "2026"}, "issued_at"),
        ({"supersedes_flip": "no"}, "supersedes_flip"),
    ],
)
def test_a_route_that_contradicts_itself_is_not_made(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        route(**changes)
    assert caught.value.field == field


def test_a_route_names_the_key_that_signs_it() -> None:
    with pytest.raises(DeclarationError, match="key_id"):
        sign_route(route(), key("officer:ann"))


def test_the_first_the_same_and_the_next_route_are_followed() -> None:
    first = signed()
    assert accept(None, first.raw, PIN) == first
    assert accept(seen(first), first.raw, PIN) == first
    second = after(first)
    assert accept(seen(first), second.raw, PIN) == second
    assert accept(seen(first), after(second).raw, PIN) == after(second)  # one was missed


def test_older_and_other_routes_are_not_followed() -> None:
    first = signed()
    second = after(first)
    assert why(seen(second), first.raw) == "lower_epoch"
    assert why(seen(second), after(first, salt="11" * 16).raw) == "same_epoch_other_digest"
    assert why(seen(first), after(signed(salt="11" * 16)).raw) == "other_previous"
    assert why(None, signed(model="churn").raw) == "other_model"
    assert why(None, signed(root_id="ff" * 16).raw) == "other_model"


def test_a_route_by_another_key_is_forged_whatever_key_it_names() -> None:
    assert why(None, signed("officer:ann").raw) == "forged"
    file = json.loads(signed("officer:ann").raw)
    file["route"]["key_id"] = route().key_id
    assert why(None, canonical_json(file)) == "forged"
    other = json.loads(signed(salt="11" * 16).raw)
    mixed = {"route": json.loads(signed().raw)["route"], "signature": other["signature"]}
    assert why(None, canonical_json(mixed)) == "forged"


def test_a_signature_for_another_purpose_does_not_count() -> None:
    from ml_platform.registry.sshsig import sign

    document = route().document()
    forged = {"route": document, "signature": sign(key("service"), canonical_json(document), "promote@ml-platform")}
    assert why(None, canonical_json(forged)) == "forged"


@given(cut=st.integers(0, 10_000), junk=st.binary(max_size=40))
def test_a_torn_file_is_never_followed(cut: int, junk: bytes) -> None:
    whole = signed().raw
    torn = whole[: cut % len(whole)] + junk
    assert why(None, torn) in {"torn", "forged"}


@pytest.mark.parametrize(
    "change",
    [
        lambda file: {**file, "more": 1},
        lambda file: {"route": file["route"]},
        lambda file: [file],
        lambda file: {**file, "route": {**file["route"], "more": 1}},
        lambda file: {**file, "route": {**file["route"], "arms": [{}]}},
        lambda file: {**file, "route": {**file["route"], "format": "ml-platform/route/2"}},
    ],
)
def test_a_file_of_another_shape_is_torn(change: Any) -> None:
    raw = canonical_json(change(json.loads(signed().raw)))
    assert why(None, raw) == "torn"
    with pytest.raises(Tampered, match="route"):
        open_route(raw, line("service"))


def test_a_file_that_is_not_canonical_is_torn() -> None:
    assert why(None, json.dumps(json.loads(signed().raw)).encode()) == "torn"


# -- arms ----------------------------------------------------------------------------------------------------------


def unit(number: int) -> bytes:
    return encode_row([("i64", number)])


@given(
    salt=st.binary(min_size=8, max_size=32),
    key=st.binary(max_size=64),
    shares=st.lists(st.integers(1, 900), max_size=5),
)
def test_the_arm_of_a_unit_is_the_first_whose_cumulative_share_exceeds_its_place(
    salt: bytes, key: bytes, shares: list[int]
) -> None:
    listed = [Arm(f"a{place}", 1, "", share) for place, share in enumerate([ALL_BP - sum(shares), *shares])]
    hashed = b"".join(b"\x01" + len(part).to_bytes(4, "little") + part for part in (b"ml-platform/arm/1", salt, key))
    place = int(hashlib.sha256(hashed).hexdigest()[:16], 16) % 10_000
    total, expected = 0, None
    for arm in listed:
        total += arm.share_bp
        if expected is None and place < total:
            expected = arm
    assigned = Assignment(salt.hex(), listed)
    assert assigned.place(key) == place
    assert assigned.arm(key) is expected


@given(salt=st.binary(min_size=8, max_size=16), first=st.integers(1, 9_998), more=st.integers(1, 9_999))
def test_units_in_canary_stay_there_when_its_share_grows(salt: bytes, first: int, more: int) -> None:
    larger = min(first + more, 9_999)
    small, large = (Assignment(salt.hex(), arms(1, 2, share)) for share in (first, larger))
    for number in range(200):
        if small.arm(unit(number)).arm == "canary":
            assert large.arm(unit(number)).arm == "canary"


@pytest.mark.parametrize("share", [100, 500, 2_500, 5_000])
def test_an_arm_gets_its_share_of_the_units(share: int) -> None:
    assigned = Assignment("5a" * 16, arms(1, 2, share))
    count = sum(assigned.arm(unit(number)).arm == "canary" for number in range(20_000))
    sigma = (20_000 * share / ALL_BP * (1 - share / ALL_BP)) ** 0.5
    assert abs(count - 20_000 * share / ALL_BP) < 4 * sigma


def test_another_salt_chooses_other_units() -> None:
    one, two = (
        {number for number in range(5_000) if Assignment(salt, arms(1, 2, 1_000)).arm(unit(number)).arm == "canary"}
        for salt in ("00" * 16, "11" * 16)
    )
    assert len(one & two) < 0.2 * min(len(one), len(two))


# -- flips ---------------------------------------------------------------------------------------------------------


def test_a_flip_sends_all_requests_to_its_target() -> None:
    onto = signed(arms=arms(2, 3), allowed_rollbacks=allowed(1))
    for target in (1, 2):
        made = flip(onto, target)
        assert open_flip(made.raw) == made
        assert made.digest == document_digest("flip", json.loads(made.raw))
        chosen, holding = effective_arms(onto.route, onto.digest, made)
        assert [(arm.arm, arm.version, arm.share_bp) for arm in chosen] == [("primary", target, ALL_BP)]
        assert holding is made
    assert effective_arms(onto.route, onto.digest, None) == (onto.route.arms, None)


@pytest.mark.parametrize(
    ("target", "changes"),
    [(3, {}), (4, {}), (1, {"artifact": arms(2)[0].artifact}), (1, {"model": "churn"}), (1, {"root_id": "ff" * 16})],
)
def test_a_flip_that_the_route_does_not_allow_changes_nothing(target: int, changes: dict[str, Any]) -> None:
    onto = signed(arms=arms(2, 3), allowed_rollbacks=allowed(1))
    made = flip(onto, target, **changes)
    assert why_not_flip(made, onto.route, onto.digest) is not None
    assert effective_arms(onto.route, onto.digest, made) == (onto.route.arms, None)


def test_only_a_route_that_names_the_flip_ends_it() -> None:
    onto = signed(arms=arms(2), allowed_rollbacks=allowed(1))
    made = flip(onto, 1)
    ends = after(onto, arms=arms(1), allowed_rollbacks=allowed(2), supersedes_flip=made.digest)
    assert why_not_flip(made, ends.route, ends.digest) is None
    assert effective_arms(ends.route, ends.digest, made) == (ends.route.arms, None)
    overlooks = after(onto, arms=arms(2), allowed_rollbacks=allowed(1))
    assert effective_arms(overlooks.route, overlooks.digest, made)[1] is made
    forbids = after(onto, arms=arms(2))
    assert effective_arms(forbids.route, forbids.digest, made) == (forbids.route.arms, None)


@given(cut=st.integers(0, 10_000), junk=st.binary(max_size=20))
def test_a_torn_flip_is_no_flip(cut: int, junk: bytes) -> None:
    whole = flip(signed(), 1).raw
    with pytest.raises(Tampered, match="flip"):
        open_flip(whole[: cut % len(whole)] + junk)
