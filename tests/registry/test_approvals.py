"""Which approvals count, and which do not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ml_platform.core.digests import canonical_json, sha256_hex
from ml_platform.core.errors import ApprovalInvalid, ApprovalMissing, DeclarationError, GateFailed, NotFound
from ml_platform.registry import AuthorshipClaim, Decision, sign
from tests.registry.world import ACCEPT_CALIBRATION, World, email, key, line, member

NAMESPACE = "promote@ml-platform"


@pytest.fixture
def staged(world: World) -> World:
    world.version(1)
    world.move(1, "stage", "staging")
    return world


def refused(world: World, payload: bytes, by: str = "officer:ann", namespace: str = NAMESPACE) -> ApprovalInvalid:
    """The refusal of an approval; the log must not grow."""
    size = world.registry.state().size
    with pytest.raises(ApprovalInvalid) as caught:
        world.registry.approve(payload, sign(key(by), payload, namespace))
    assert world.registry.state().size == size
    return caught.value


def altered(payload: bytes, **changes: object) -> bytes:
    return canonical_json({**json.loads(payload), **changes})


def test_promotion_without_approval_is_refused(staged: World) -> None:
    with pytest.raises(ApprovalMissing, match="0 of 1"):
        staged.move(1, "promote", "canary")


def test_a_signed_approval_lets_the_version_go_on(staged: World) -> None:
    staged.approve(1, "staging", "canary")
    assert staged.move(1, "promote", "canary").to == "canary"


def test_ssh_keygen_accepts_the_signature_that_we_accept(staged: World, ssh_keygen: str, tmp_path: Path) -> None:
    payload = staged.payload(1, "staging", "canary")
    armored = sign(key("officer:ann"), payload, NAMESPACE)
    (tmp_path / "signers").write_text(f'ann namespaces="{NAMESPACE}" {line("officer:ann")}\n')
    (tmp_path / "signature").write_text(armored)
    command = [ssh_keygen, "-Y", "verify", "-f", "signers", "-I", "ann", "-n", NAMESPACE, "-s", "signature"]
    done = subprocess.run(command, input=payload, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    staged.registry.approve(payload, armored)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("platform", sha256_hex(b"another platform")),
        ("artifact", sha256_hex(b"another artifact")),
        ("spec", sha256_hex(b"another declaration")),
        ("run_record", sha256_hex(b"another run")),
        ("evaluation", sha256_hex(b"another evaluation")),
        ("baseline", 7),
        ("policy", 1),
    ],
)
def test_an_approval_for_another_digest_is_refused(staged: World, field: str, value: object) -> None:
    payload = altered(staged.payload(1, "staging", "canary"), **{field: value})
    assert refused(staged, payload).field == field


@pytest.mark.parametrize(("size", "root"), [(2, sha256_hex(b"x")), (10_000, sha256_hex(b"x"))])
def test_what_the_approver_saw_must_be_a_prefix_of_this_log(staged: World, size: int, root: str) -> None:
    payload = altered(staged.payload(1, "staging", "canary"), seen={"size": size, "root": root})
    assert refused(staged, payload).field == "seen"


def test_an_approver_may_have_seen_an_older_log(staged: World) -> None:
    payload = staged.payload(1, "staging", "canary")
    staged.version(2)
    staged.registry.approve(payload, sign(key("officer:ann"), payload, NAMESPACE))


def test_bytes_that_are_not_canonical_are_refused(staged: World) -> None:
    payload = staged.payload(1, "staging", "canary")
    for raw in (payload + b"\n", json.dumps(json.loads(payload)).encode(), b"{", altered(payload, note="x")):
        refused(staged, raw)


def test_an_approval_without_a_reason_cannot_be_made(staged: World) -> None:
    move = {"action": "promote", "source": "staging", "to": "canary"}
    for reason in (" ", "x" * 2_001):
        with pytest.raises(DeclarationError, match="reason"):
            staged.registry.payload("credit_risk", 1, reason=reason, **move)
    assert staged.registry.payload("credit_risk", 1, reason="x" * 2_000, **move)


def test_a_signature_for_another_purpose_or_of_other_bytes_is_refused(staged: World) -> None:
    payload = staged.payload(1, "staging", "canary")
    refused(staged, payload, namespace="restore@ml-platform")
    with pytest.raises(ApprovalInvalid):
        staged.registry.approve(payload, sign(key("officer:ann"), payload + b" ", NAMESPACE))


def test_a_key_that_nobody_added_is_refused(staged: World) -> None:
    assert "No key of this platform" in refused(staged, staged.payload(1, "staging", "canary"), by="stranger").what


def test_an_approval_is_entered_once_and_used_once(staged: World) -> None:
    payload = staged.approve(1, "staging", "canary")
    armored = sign(key("officer:ann"), payload, NAMESPACE)
    size = staged.registry.state().size
    staged.registry.approve(payload, armored)  # a rerun of the same entry
    assert staged.registry.state().size == size
    staged.move(1, "promote", "canary")
    assert refused(staged, payload).field == "nonce"  # replayed after its use
    staged.move(1, "archive", "archived")
    staged.move(1, "stage", "staging")
    with pytest.raises(ApprovalInvalid, match="used by an earlier"):
        staged.move(1, "promote", "canary")


def test_a_nonce_is_good_for_one_approval_on_the_whole_platform(staged: World) -> None:
    first = json.loads(staged.approve(1, "staging", "canary"))
    staged.version(1, model="churn")
    second = staged.payload(1, "staging", "canary", "churn")
    assert refused(staged, altered(second, nonce=first["nonce"])).field == "nonce"


def test_an_expired_approval_is_refused_when_entered_and_when_used(staged: World) -> None:
    payload = staged.payload(1, "staging", "canary", days=1)
    staged.wall.forward(days=1)
    staged.registry.approve(payload, sign(key("officer:ann"), payload, NAMESPACE))  # the last instant counts
    staged.wall.forward(microseconds=1)
    with pytest.raises(ApprovalInvalid, match="expired"):
        staged.move(1, "promote", "canary")
    other = staged.payload(1, "staging", "canary", days=1)
    staged.wall.forward(days=2)
    assert refused(staged, other).field == "not_after"


def test_an_approval_counts_from_its_first_to_its_last_instant(staged: World) -> None:
    staged.approve(1, "staging", "canary", days=1)
    staged.approve(1, "canary", "production", days=1)
    staged.move(1, "promote", "canary")  # at not_before
    staged.wall.forward(days=1)
    assert staged.move(1, "promote", "production").to == "production"  # at not_after


def test_an_approval_of_the_future_or_for_too_long_is_refused(staged: World) -> None:
    payload = json.loads(staged.payload(1, "staging", "canary", days=30))
    assert (
        refused(staged, altered(canonical_json(payload), not_before="2026-01-05T09:00:00.000001Z")).field
        == "not_before"
    )
    assert refused(staged, staged.payload(1, "staging", "canary", days=30.001)).field == "not_after"
    backwards = altered(canonical_json(payload), not_after=payload["not_before"])
    assert refused(staged, backwards).field == "not_after"
    staged.registry.approve(canonical_json(payload), sign(key("officer:ann"), canonical_json(payload), NAMESPACE))


def test_a_withdrawn_approval_is_refused(staged: World) -> None:
    payload = staged.approve(1, "staging", "canary")
    subject = {"model": "credit_risk", "payload": sha256_hex(payload)}
    order, signatures = staged.ordered("revoke_approval", subject, "officer:ann")
    staged.registry.revoke_approval(order, signatures=signatures)
    with pytest.raises(ApprovalInvalid, match="withdrawn"):
        staged.move(1, "promote", "canary")


def test_only_its_giver_or_an_officer_withdraws_an_approval(staged: World) -> None:
    payload = staged.approve(1, "staging", "canary", by="officer:ann")
    subject = {"model": "credit_risk", "payload": sha256_hex(payload)}
    order, signatures = staged.ordered("revoke_approval", subject, "team:carl")
    with pytest.raises(ApprovalInvalid, match="role"):
        staged.registry.revoke_approval(order, signatures=signatures)
    order, signatures = staged.ordered("revoke_approval", subject, "officer:bob")
    staged.registry.revoke_approval(order, signatures=signatures)
    again, signatures = staged.ordered("revoke_approval", subject, "officer:bob")
    with pytest.raises(ApprovalInvalid, match="before"):
        staged.registry.revoke_approval(again, signatures=signatures)
    missing, signatures = staged.ordered(
        "revoke_approval", {"model": "credit_risk", "payload": sha256_hex(b"none")}, "officer:bob"
    )
    with pytest.raises(NotFound):
        staged.registry.revoke_approval(missing, signatures=signatures)


def test_a_revoked_key_approves_nothing_and_its_open_approvals_do_not_count(staged: World) -> None:
    staged.approve(1, "staging", "canary", by="officer:ann")
    subject = {"public_key": line("officer:ann"), "cause": "retired", "suspect_from": None}
    order, signatures = staged.ordered("revoke_key", subject, "officer:bob")
    staged.registry.revoke_key(order, signatures=signatures)
    with pytest.raises(ApprovalInvalid, match="revoked"):
        staged.move(1, "promote", "canary")
    assert refused(staged, staged.payload(1, "staging", "canary")).field == "principal"


def test_author_cannot_approve_own_model_by_email(world: World) -> None:
    world.version(1, authorship=AuthorshipClaim("known", (email("team:dora"), email("officer:ann"))))
    payload = world.payload(1, "staging", "canary")
    assert "author" in refused(world, payload).what


@pytest.mark.parametrize("role", ["launcher", "registrant", "principal"])
def test_author_cannot_approve_own_model_as(world: World, role: str) -> None:
    if role == "launcher":
        world.version(1, by="officer:ann")
    elif role == "registrant":
        world.version(1, registered_by="officer:ann")
    else:
        world.version(1, authorship=AuthorshipClaim("known", (), principals=("officer:ann",)))
    assert "author" in refused(world, world.payload(1, "staging", "canary")).what


def test_who_becomes_known_as_author_later_no_longer_counts(staged: World) -> None:
    """A second key binds another e-mail to the approver: that of an author."""
    staged.approve(1, "staging", "canary", by="officer:ann")
    subject = {**member("team:dora", "approver").body(), "principal": "officer:ann"}
    order, signatures = staged.ordered("add_key", subject, "officer:bob")
    staged.registry.add_key(order, possession=sign(key("team:dora"), order, "key@ml-platform"), signatures=signatures)
    with pytest.raises(ApprovalInvalid, match="author"):
        staged.move(1, "promote", "canary")


def test_where_the_author_is_unknown_two_people_must_approve(world: World) -> None:
    world.version(1, authorship=AuthorshipClaim("unknown"))
    world.move(1, "stage", "staging")
    world.approve(1, "staging", "canary")
    world.approve(1, "staging", "canary")  # the same person again is one person
    with pytest.raises(ApprovalMissing, match="1 of 2"):
        world.move(1, "promote", "canary")
    world.approve(1, "staging", "canary", by="officer:bob")
    assert world.move(1, "promote", "canary").to == "canary"


def test_an_approval_is_for_one_move(staged: World) -> None:
    staged.approve(1, "canary", "production")
    with pytest.raises(ApprovalMissing):
        staged.move(1, "promote", "canary")
    with pytest.raises(Exception, match="no promote from staging to production"):
        staged.payload(1, "staging", "production") and staged.approve(1, "staging", "production")
    rollback = altered(
        staged.payload(1, "staging", "canary"), action="rollback", **{"from": "archived"}, to="production"
    )
    assert refused(staged, rollback, namespace="rollback@ml-platform").field == "action"


def test_what_is_inconclusive_must_be_decided_in_the_signed_payload(world: World) -> None:
    world.version(1, verdicts={"calibrated": "inconclusive"})
    world.move(1, "stage", "staging")
    assert refused(world, world.payload(1, "staging", "canary")).field == "decisions"
    no = (Decision("calibrated", "inconclusive", "I am not convinced.", accept=False),)
    assert refused(world, world.payload(1, "staging", "canary", decisions=no)).field == "decisions"
    other = (*ACCEPT_CALIBRATION, Decision("auc", "inconclusive", "Nobody asked."))
    assert refused(world, world.payload(1, "staging", "canary", decisions=other)).field == "decisions"
    wrong = (Decision("calibrated", "not_evaluated", "It was."),)
    assert refused(world, world.payload(1, "staging", "canary", decisions=wrong)).field == "decisions"
    world.approve(1, "staging", "canary", decisions=ACCEPT_CALIBRATION)
    assert world.move(1, "promote", "canary").to == "canary"


def test_a_gate_without_data_passes_only_where_policy_evaluation_and_approver_say_so(world: World) -> None:
    gates = [{"kind": "group_ratio", "name": "approval_rate", "by": "applicant_group"}]
    said = {"verdicts": {"approval_rate": "not_evaluated"}, "spec": world.spec(gates)}
    world.version(1, **said, evaluation={"unavailable": {"applicant_group": "No such source in this market."}})
    world.move(1, "stage", "staging")
    accepted = (Decision("approval_rate", "not_evaluated", "No such source in this market."),)
    world.approve(1, "staging", "canary", decisions=accepted)
    assert world.move(1, "promote", "canary").to == "canary"
    with pytest.raises(GateFailed):  # no written reason
        world.version(2, **said)
    with pytest.raises(GateFailed):  # the policy does not let this kind be unavailable
        world.version(3, spec=world.spec([{"kind": "at_least", "name": "auc"}]), verdicts={"auc": "not_evaluated"})
