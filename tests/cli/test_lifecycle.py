"""A lender works with ``mlp`` alone: keys, sources, a candidate, approvals, decisions, and the answer to an auditor."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from ml_platform.cli.blocks import plain_lines
from ml_platform.cli.demo_view import demo_blocks
from tests.cli.support import ACCEPT, MODELS, Shop, call


def test_a_new_key_is_private_and_ssh_reads_it(shop: Shop, ssh_keygen: str) -> None:
    key = shop.key("alice")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    shown = subprocess.run([ssh_keygen, "-l", "-f", str(key)], capture_output=True, text=True, check=True).stdout
    (known,) = shop.must("keys", "show", "alice")["keys"]
    assert known["fingerprint"] in shown
    assert "alice" in shown


def test_a_key_file_is_never_overwritten(shop: Shop) -> None:
    before = shop.key("alice").read_bytes()
    ran = call("keys", "new", "--principal", "alice", "--out", shop.key("alice"))
    assert ran.code == 6
    assert shop.key("alice").read_bytes() == before


def test_a_second_root_is_refused_where_one_is(shop: Shop) -> None:
    ran = shop.mlp("init", "--member", f"alice={shop.key('alice')}.pub")
    assert (ran.code, ran.out) == (6, "")
    assert "not empty" in ran.problem


def test_landing_a_file_twice_adds_nothing(shop: Shop) -> None:
    landed = shop.must("land", "outcomes", shop.folder / "market" / "outcomes.parquet", *MODELS)
    assert landed["added"] == 0
    assert landed["rows"] > 36_000 // 2


def test_an_unknown_source_or_view_or_file_is_not_found(shop: Shop) -> None:
    assert shop.mlp("land", "nothing", "x.parquet", *MODELS).code == 4
    assert shop.mlp("land", "outcomes", "x.parquet", *MODELS).code == 4
    view = shop.mlp("materialize", "nothing", "--start", "2009-01-01", "--end", "2009-02-01", *MODELS)
    assert (view.code, "purpose_history" in view.problem) == (4, True)


def test_a_training_shows_its_steps_and_a_rerun_gives_the_same_version(trained: Shop) -> None:
    ran = trained.mlp("train", "small", "--as-of", "2010-01-01", *MODELS)
    assert ran.code == 0
    assert "small version 1" in ran.out
    for step in ("requesting", "training set", "training:", "evaluating", "registering: version 1"):
        assert step in ran.err
    assert len(trained.must("versions", "small")["versions"]) == 1


def test_a_candidate_that_fails_its_gate_gets_no_version_and_stays_on_record(trained: Shop) -> None:
    ran = trained.mlp("train", "hopeless", "--as-of", "2010-01-01", *MODELS, "--json")
    assert ran.code == 7
    assert ran.document["error"]["kind"] == "GateFailed"
    found = trained.must("versions", "hopeless")
    assert found["versions"] == []
    (candidate,) = found["candidates_not_registered"]
    assert candidate["verdicts"]["at_least.auc"] != "pass"
    assert "hopeless" in trained.mlp("models").out


def test_a_time_in_the_future_is_refused(shop: Shop) -> None:
    assert shop.mlp("train", "small", "--as-of", "2011-01-01", *MODELS).code == 3


def test_unknown_models_and_versions_are_not_found(trained: Shop) -> None:
    trace = ("trace", "--model", "nothing", "--entity", "loan_id=1")
    for line in (("versions", "nothing"), ("show", "small", 9), ("rollback", "nothing", "--reason", "x"), trace):
        ran = trained.mlp(*line)
        assert (ran.code, ran.out) == (4, ""), line
        assert ran.err == ran.problem + "\n"
    assert trained.mlp("train", "nothing", "--as-of", "2010-01-01", *MODELS).code == 4


def test_a_version_shows_run_record_and_gates(trained: Shop) -> None:
    out = trained.mlp("show", "small", 1).out
    for text in ("Run record", "lightgbm=", "AUC", "brier_skill", "onnx_parity", "absent: The process was not told"):
        assert text in out
    assert trained.must("show", "small", 1)["evaluation"]["metrics"]["auc"]["point"] > 0.4


def test_a_stage_cannot_be_skipped(live: Shop) -> None:
    ran = live.mlp("promote", "small", 1, "--to", "canary", "--reason", "again")
    assert (ran.code, ran.out) == (7, "")


def test_the_state_is_that_of_the_time_asked_for(live: Shop) -> None:
    (small,) = [one for one in live.must("state")["models"] if one["model"] == "small"]
    assert small["production"] == 1
    before = live.mlp("state", "--at", "2009-12-31", "--json")
    assert before.code == 4
    assert before.document["error"]["field"] == "at"
    assert "from 2010-07-01T00:00:00Z on" in before.document["error"]["what"]
    assert "--at 2010-07-01T00:00:00Z" in before.document["error"]["next_step"]
    unknown = live.mlp("state", "--known-at", "2015-01-01", "--json")
    assert (unknown.code, unknown.document["error"]["field"]) == (4, "known_at")
    text = live.mlp("state", "--at", "2010-07-01").out
    assert "In effect at 2010-07-01 00:00:00Z" in text
    assert "clock now    2010-07-01 00:00:00Z (replay)" in text
    assert live.must("state")["clock"] == {"kind": "replay", "now": "2010-07-01T00:00:00.000000Z"}


def test_the_signature_that_was_entered_is_the_one_that_ssh_keygen_makes(live: Shop, ssh_keygen: str) -> None:
    payload = live.folder / "again.json"
    payload.write_bytes((live.folder / "canary.json").read_bytes())
    line = [ssh_keygen, "-Y", "sign", "-f", str(live.key("bob")), "-n", "promote@ml-platform", str(payload)]
    subprocess.run(line, check=True, capture_output=True)
    assert Path(f"{payload}.sig").read_text() == (live.folder / "canary.json.sig").read_text()


def test_a_signature_of_other_bytes_or_for_another_version_is_refused(live: Shop) -> None:
    payload, signature = live.folder / "canary.json", live.folder / "canary.json.sig"
    assert live.mlp("approve", "small", 2, "--payload", payload, "--signature", signature).code == 7
    changed = live.folder / "changed.json"
    changed.write_bytes(payload.read_bytes().replace(b"looked at it", b"looked at IT"))
    ran = live.mlp("approve", "small", 1, "--payload", changed, "--signature", signature)
    assert (ran.code, ran.out) == (7, "")
    replayed = live.mlp("approve", "small", 1, "--payload", payload, "--signature", signature)
    assert (replayed.code, "nonce" in replayed.problem) == (7, True)


def test_a_gate_that_did_not_pass_needs_a_decision(live: Shop) -> None:
    ran = live.mlp("approve", "small", 1, "--to", "canary", "--key", live.key("bob"), "--reason", "x")
    assert ran.code == 7
    assert '--accept brier_skill="why"' in ran.problem


def test_a_key_of_nobody_cannot_approve(live: Shop) -> None:
    ran = live.mlp("approve", "small", 1, "--to", "canary", "--key", live.key("carol"), "--reason", "x", *ACCEPT)
    assert ran.code == 7


def test_there_is_nothing_to_roll_back_to_with_one_version(live: Shop) -> None:
    ran = live.mlp("rollback", "small", "--reason", "a drill")
    assert (ran.code, "No earlier version" in ran.problem) == (7, True)


def test_officers_add_and_retire_a_key(shop: Shop) -> None:
    ran = shop.mlp("keys", "add", "carol", "--key", shop.key("carol"), "--officer", f"carol={shop.key('carol')}")
    assert ran.code == 7, "nobody adds a key of his own"
    officer = ("--officer", f"alice={shop.key('alice')}")
    added = shop.must("keys", "add", "carol", "--key", shop.key("carol"), "--role", "approver", *officer)
    assert added["roles"] == ["approver"]
    assert shop.mlp("keys").out.count("carol") == 1
    shop.must("keys", "revoke", "carol", "--public", f"{shop.key('carol')}.pub", *officer)
    (known,) = shop.must("keys", "show", "carol")["keys"]
    assert known["cause"] == "retired"


def test_a_scored_month_counts_its_flags_and_a_rerun_is_the_same(live: Shop) -> None:
    first = live.must("score", "small", "--partition", "2010-06", *MODELS)
    assert first["accepted"] + first["refused"] == first["rows"] > 0
    assert first["flags"]["term"]
    ran = live.mlp("score", "small", "--partition", "2010-06", *MODELS)
    assert "Flagged" in ran.out
    assert str(first["segment_id"]) in ran.out
    assert "Nothing was done: this partition was complete before." in ran.out
    assert "nothing to do, it was complete before" in ran.err
    assert "decided at          2010-07-01 00:00:00Z" in ran.out
    assert first["complete_before"] is True
    early = live.mlp("score", "small", "--partition", "2010-07", *MODELS)
    assert early.code == 3, "July is not over"
    assert "stands at 2010-07-01." in early.problem
    assert "mlp clock --move 2010-08-01" in early.problem


@pytest.fixture(scope="module")
def declined(live: Shop) -> tuple[str, int]:
    """A declined decision: its id and its loan."""
    from ml_platform.platform import Platform

    rows = Platform.local(live.root).lake.read("small/predictions_personal").to_pylist()
    row = next(one for one in rows if one["decision"] == "declined")
    return row["prediction_id"], row["key_loan_id"]


def test_a_declined_loan_is_traced_in_sections(live: Shop, declined: tuple[str, int]) -> None:
    ran = live.mlp("trace", declined[0])
    assert ran.code == 0
    for text in (
        "declined (score",
        "Reason codes\n  1. ",
        "Features as used",
        "payment_to_income",
        "stage at the decision  production",
        "promote: canary → production",
        "left out as immature",
        "known time of outcomes",
        "sha256:",
        "Run record",
        "AUC",
        "brier_skill (inconclusive): four defaults",
        "Approval of canary → production by bob",
        "looked at it",
        "signature       checked, key SHA256:",
        "Proofs: proven",
        "checkpoint  checked",
    ):
        assert text in ran.out, text


def test_the_trace_by_entity_is_that_by_id(live: Shop, declined: tuple[str, int]) -> None:
    by_id = live.must("trace", declined[0])
    by_entity = live.must("trace", "--model", "small", "--entity", f"loan_id={declined[1]}", "--at", "2010-07-01")
    assert by_entity == by_id
    too_early = live.mlp("trace", "--model", "small", "--entity", f"loan_id={declined[1]}", "--at", "2010-06-30")
    assert too_early.code == 4


def test_verify_says_what_it_looked_at_and_holds_a_checkpoint(live: Shop) -> None:
    ran = live.mlp("verify", "--deep")
    assert ran.code == 0
    assert "Internally consistent only" in ran.out
    assert "records looked at" in ran.out
    foreign = live.mlp("verify", "--genesis", "sha256:" + "0" * 64)
    assert foreign.code == 5
    assert foreign.problem.startswith("mlp: tampered")


def test_a_version_is_rebuilt_from_its_record(live: Shop) -> None:
    ran = live.mlp("reproduce", "small", 1, "--json")
    assert ran.document["artifact_digest"].startswith("sha256:")
    assert ran.code == (0 if ran.document["reproduced"] else 8)
    assert ran.document["reproduced"], ran.document["statement"]


def test_the_root_can_be_named_by_its_settings_file(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PLATFORM_SETTINGS", str(shop.root / "settings.toml"))
    assert call("models", "--json").code == 0


def test_the_actor_is_the_option_then_the_variable_then_the_launcher(live: Shop) -> None:
    moves = live.must("versions", "small")["versions"][0]["history"]
    assert [move["actor"] for move in moves] == ["service", "alice", "alice"]


def test_a_view_is_materialised_for_months_that_are_over(live: Shop) -> None:
    line = ("materialize", "purpose_history", *MODELS, "--start", "2009-06-01", "--end")
    assert live.must(*line, "2009-08-01")["view"].startswith("purpose_history@sha256:")
    early = live.mlp(*line, "2010-08-01")
    assert early.code == 3
    assert "mlp clock --move 2010-08-01" in early.problem


def test_missing_approvals_say_what_to_type_and_why_two(shop: Shop) -> None:
    shop.must("train", "unapproved", "--as-of", "2010-01-01", *MODELS)
    shop.must("promote", "unapproved", 1, "--to", "staging", "--reason", "passed its gate")
    ran = shop.mlp("promote", "unapproved", 1, "--to", "canary", "--reason", "at once")
    assert ran.code == 7
    assert "0 of 2 approvals for canary are there. Two people are needed where nobody can say" in ran.problem
    assert '`mlp approve unapproved 1 --to canary --key KEYFILE --reason "WHY"`' in ran.problem


def test_the_demo_shows_versions_refusals_months_and_the_trace(live: Shop, declined: tuple[str, int]) -> None:
    interval = {"point": 0.7, "low": 0.6, "high": 0.8}
    counts = {"accepted": 10, "declined": 2, "flagged": 1, "refused": 0}
    version = {"version": 1, "as_of": "2010-01-01T00:00:00.000000Z", "training_rows": 3_265, "immature_rows": 5_674}
    document = {
        "model": "small",
        "root": "r",
        "versions": [
            {**version, "auc": interval, "auc_next_half_year": interval, "training_set_digest": "sha256:" + "a" * 64}
        ],
        "refused_candidates": [{"name": "by_state", "refused": "at its gates", "reason": "The ratio is too low."}],
        "predictions": {
            "online": 5,
            "batch": 10,
            **counts,
            "months": [{"month": "2010-05", "version": 1, **counts, "psi_term": 1.28}],
        },
        "drift": {"term": {"psi": 3.4, "window": "2011-05", "severity": "P2"}},
        "retrain": {
            "request": "retrain-1-ab",
            "useful_from": "2011-06-01T00:00:00.000000Z",
            "requested_by": "service",
            "decided_by": "officer_1",
            "run": "20110701T000000Z_0f3a",
            "version": 2,
        },
        "shadow": {"pairs": 1_234, "disagreement": interval},
        "rollback_ms": 2.81,
        "failed_requests": 0,
        "trace": live.must("trace", declined[0]),
        "trace_online": {"prediction": {"id": "0130e2fe-b000-7229-86de-170d23acc3dd"}},
        "audit": {"entries": 9, "root": "sha256:b", "verified": True},
        "seconds": 12.3,
    }
    text = "\n".join(plain_lines(demo_blocks(document)))
    for wanted in (
        "0.700 [0.600, 0.800]",
        "5,674",
        "The ratio is too low.",
        "1.280",
        "5 online, 10 batch",
        "term     3.400  2011-05  P2",
        "retrain-1-ab, useful from 2011-06-01",
        "1,234 pairs",
        "2.8 ms",
        "Proofs: proven",
        "mlp trace 0130e2fe-b000-7229-86de-170d23acc3dd --root r",
        "12.3 s",
        "verified  yes",
    ):
        assert wanted in text, wanted


def test_the_route_is_shown_with_and_without_the_registry(live: Shop) -> None:
    shown = live.must("route", "small")
    assert [(arm["arm"], arm["version"], arm["share_bp"]) for arm in shown["serves"]] == [("primary", 1, 10_000)]
    assert (shown["flip"], shown["ignored"], shown["registry"]["flip_entered"]) == (None, None, None)
    text = live.mlp("route", "small").out
    assert "primary  1        100 %" in text
    assert f"applied by        {shown['registry']['actor']}" in text
    database = live.root / "registry.sqlite"
    aside = database.rename(live.root / "aside.sqlite")
    try:
        away = live.mlp("route", "small")
        assert away.code == 0
        assert "The registry is away" in away.out
        assert not database.exists()
    finally:
        aside.rename(database)
    none = live.mlp("route", "nothing", "--json")
    assert (none.code, none.document["error"]["field"]) == (4, "route")
