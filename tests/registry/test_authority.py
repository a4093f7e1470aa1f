"""Who may add and revoke keys and change the policy."""

from __future__ import annotations

import json

import pytest

from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import ApprovalInvalid, ApprovalMissing, DeclarationError, NotFound, PolicyViolation
from ml_platform.registry import AuthorshipClaim, Member, create, policy_document, sign
from ml_platform.registry.events import Event
from tests.registry.world import ROOT_ID, World, email, key, line, member


def test_an_officer_adds_somebody_elses_key_and_it_can_approve(world: World) -> None:
    world.add_key("team:eve", "officer:bob")
    world.version(1)
    world.move(1, "stage", "staging")
    world.approve(1, "staging", "canary", by="team:eve")
    assert world.move(1, "promote", "canary").to == "canary"


def test_a_key_that_its_owner_added_himself_is_refused(world: World) -> None:
    with pytest.raises(ApprovalInvalid, match="owner"):
        world.add_key("officer:ann.second", "officer:ann", principal="officer:ann")
    subject = {**Member("sock:puppet", line("sock"), ("approver",), (email("officer:ann"),)).body()}
    order, signatures = world.ordered("add_key", subject, "officer:ann")
    with pytest.raises(ApprovalInvalid, match="another principal"):
        world.registry.add_key(order, possession=sign(key("sock"), order, "key@ml-platform"), signatures=signatures)


def test_only_an_officers_signature_adds_a_key(world: World) -> None:
    for signer in ("team:carl", "team:eve"):
        with pytest.raises(ApprovalInvalid):
            world.add_key("team:eve", signer)
    with pytest.raises(ApprovalInvalid, match="order"):
        world.registry.add_key(b"{}", possession="", signatures={})


def test_an_added_key_proves_that_its_owner_holds_it(world: World) -> None:
    order, signatures = world.ordered("add_key", member("team:eve").body(), "officer:ann")
    for possession in (
        sign(key("officer:ann"), order, "key@ml-platform"),
        sign(key("team:eve"), order, "add_key@ml-platform"),
    ):
        with pytest.raises(ApprovalInvalid):
            world.registry.add_key(order, possession=possession, signatures=signatures)


@pytest.mark.parametrize("used", ["officer:bob", "service", "evaluator"])
def test_a_key_has_one_owner_and_one_purpose(world: World, used: str) -> None:
    subject = {**member("team:eve").body(), "public_key": line(used)}
    order, signatures = world.ordered("add_key", subject, "officer:ann")
    with pytest.raises(ApprovalInvalid, match="in use"):
        world.registry.add_key(order, possession=sign(key(used), order, "key@ml-platform"), signatures=signatures)


def test_an_order_acts_once_and_only_for_what_it_says(world: World) -> None:
    order, signatures = world.ordered("add_key", member("team:eve").body(), "officer:ann")
    possession = sign(key("team:eve"), order, "key@ml-platform")
    world.registry.add_key(order, possession=possession, signatures=signatures)
    with pytest.raises(ApprovalInvalid):
        world.registry.add_key(order, possession=possession, signatures=signatures)
    policy, signatures = world.ordered("policy", {"policy": dict(world.policy)}, "officer:ann")
    world.registry.set_policy(policy, signatures=signatures)
    with pytest.raises(ApprovalInvalid, match="used before"):
        world.registry.set_policy(policy, signatures=signatures)
    with pytest.raises(ApprovalInvalid, match="another action"):
        world.registry.revoke_key(policy, signatures=signatures)


def test_an_order_for_another_subject_platform_or_log_is_refused(world: World) -> None:
    order, signatures = world.ordered("policy", {"policy": dict(world.policy)}, "officer:ann")
    document = json.loads(order)
    entered = {"policy": {**world.policy, "authorship": "signed"}, "signatures": []}
    entered["order"] = world.objects.put(order)
    entered["signatures"] = [
        {"principal": "officer:ann", "signature": world.objects.put(signatures["officer:ann"].encode())}
    ]
    with pytest.raises(ApprovalInvalid, match="another platform"):
        world.registry._log.append([Event("policy", entered)])
    for changes in (
        {"platform": "sha256:" + "0" * 64},
        {"seen": {"size": 1, "root": "sha256:" + "0" * 64}},
    ):
        other = canonical_json({**document, **changes})
        signed = {"officer:ann": sign(key("officer:ann"), other, "policy@ml-platform")}
        with pytest.raises(ApprovalInvalid):
            world.registry.set_policy(other, signatures=signed)


def test_an_expired_order_is_refused(world: World) -> None:
    order, signatures = world.ordered("policy", {"policy": dict(world.policy)}, "officer:ann", days=1)
    world.wall.forward(days=1, microseconds=1)
    with pytest.raises(ApprovalInvalid, match="expired"):
        world.registry.set_policy(order, signatures=signatures)


def test_the_threshold_counts_different_officers(tmp_path) -> None:
    world = World(tmp_path / "root", threshold=2)
    policy = {"policy": dict(world.policy)}
    order, signatures = world.ordered("policy", policy, "officer:ann")
    with pytest.raises(ApprovalMissing, match="1 of 2"):
        world.registry.set_policy(order, signatures=signatures)
    order, signatures = world.ordered("policy", policy, "officer:ann", "officer:bob")
    world.registry.set_policy(order, signatures=signatures)
    subject = {"public_key": line("team:carl"), "cause": "retired", "suspect_from": None}
    order, signatures = world.ordered("revoke_key", subject, "officer:ann")
    with pytest.raises(ApprovalMissing, match="1 of 2"):
        world.registry.revoke_key(order, signatures=signatures)


def test_nobody_revokes_his_own_key_and_none_twice(world: World) -> None:
    subject = {"public_key": line("officer:ann"), "cause": "retired", "suspect_from": None}
    order, signatures = world.ordered("revoke_key", subject, "officer:ann")
    with pytest.raises(ApprovalInvalid, match="owner"):
        world.registry.revoke_key(order, signatures=signatures)
    order, signatures = world.ordered("revoke_key", subject, "officer:bob")
    world.registry.revoke_key(order, signatures=signatures)
    assert not world.registry.state().keys[line("officer:ann")].active
    order, signatures = world.ordered("revoke_key", subject, "officer:bob")
    with pytest.raises(NotFound):
        world.registry.revoke_key(order, signatures=signatures)
    order, signatures = world.ordered("policy", {"policy": dict(world.policy)}, "officer:ann")
    with pytest.raises(ApprovalInvalid, match="active key"):
        world.registry.set_policy(order, signatures=signatures)


@pytest.mark.parametrize(("cause", "since"), [("retired", "2026-01-01T00:00:00.000000Z"), ("compromised", None)])
def test_suspicion_has_a_date_and_retirement_has_none(world: World, cause: str, since: str | None) -> None:
    subject = {"public_key": line("officer:ann"), "cause": cause, "suspect_from": since}
    order, signatures = world.ordered("revoke_key", subject, "officer:bob")
    with pytest.raises(DeclarationError, match="suspect"):
        world.registry.revoke_key(order, signatures=signatures)


def test_a_new_policy_makes_older_approvals_void_and_demands_more(world: World) -> None:
    world.version(1)
    world.move(1, "stage", "staging")
    world.approve(1, "staging", "canary")
    stricter = policy_document({"high": {"approvers": {"canary": 2, "production": 2}, "may_ask": ["calibrated"]}})
    order, signatures = world.ordered("policy", {"policy": stricter}, "officer:bob")
    index = world.registry.set_policy(order, signatures=signatures)
    assert world.registry.state().policy.index == index
    with pytest.raises(ApprovalInvalid, match="policy"):
        world.move(1, "promote", "canary")
    world.approve(1, "staging", "canary")
    with pytest.raises(ApprovalMissing, match="1 of 2"):
        world.move(1, "promote", "canary")
    world.approve(1, "staging", "canary", by="officer:bob")
    world.move(1, "promote", "canary")


def test_under_signed_authorship_a_claimed_author_is_unknown(tmp_path) -> None:
    world = World(tmp_path / "root", policy=policy_document({"high": {"may_ask": ["calibrated"]}}, authorship="signed"))
    world.version(1)
    world.version(2, authorship=AuthorshipClaim("known", (), basis="signed"))
    for version, needed in ((1, 2), (2, 1)):
        world.move(version, "stage", "staging")
        with pytest.raises(ApprovalMissing, match=f"0 of {needed}"):
            world.move(version, "promote", "canary")


def test_a_log_has_one_genesis(world: World) -> None:
    with pytest.raises(PolicyViolation, match="genesis already"):
        world.registry._log.append([Event("genesis", world.genesis())])


GENESIS = {
    "root_id": ROOT_ID,
    "root_kind": "wall",
    "seed_class": "private",
    "seed": None,
    "service_key": line("service"),
    "evaluator_key": line("evaluator"),
    "members": (member("officer:ann"), member("officer:bob")),
    "policy": policy_document({"high": {}}),
}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"threshold": 3}, "officers"),
        ({"evaluator_key": line("service")}, "keys"),
        ({"service_key": line("log")}, "keys"),
        ({"recovery_key": line("officer:ann")}, "keys"),
        ({"service_key": "ssh-ed25519 " + "A" * 68}, "keys"),
        ({"quorum": 1}, "witnesses"),
        ({"root_id": "ff" * 16}, "log_vkey"),
        ({"root_kind": "replay"}, "seed_commitment"),
        ({"seed": bytes(32)}, "seed_commitment"),
        ({"members": (member("officer:ann"), Member("b", line("b"), emails=(email("officer:ann"),)))}, "keys"),
        ({"members": (Member("Ann Smith", line("b")),)}, "officers"),
        ({"policy": {}}, "authorship"),
    ],
)
def test_a_genesis_that_contradicts_itself_is_refused(changes: dict, field: str) -> None:
    from ml_platform.registry.notes import Signer

    vkey = Signer(f"ml-platform/{ROOT_ID}", key("log")).verifier.vkey
    with pytest.raises(DeclarationError) as caught:
        create(**{**GENESIS, "log_vkey": vkey, **changes})
    assert caught.value.field == field
