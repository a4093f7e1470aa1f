from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest

from ml_platform import lifecycle
from ml_platform.core.errors import NotFound, SchemaMismatch, Tampered
from ml_platform.core.merkle import leaf_hash, verify_inclusion
from ml_platform.core.rows import encode_row
from ml_platform.governance import find_decisions, find_refusals, trace, trace_entity
from ml_platform.registry.notes import Verifier, open_checkpoint
from tests.governance import spoiling
from tests.governance.root import AS_OF, SAME_TIME, at, model, score_march_without_sealing
from tests.governance.spoiling import HEADERS, PERSONAL, setting, without


def test_a_declined_loan_is_traced_to_everything_that_led_to_it(shared, declined, loan):
    found = trace(shared, declined).to_json()
    assert found["prediction"]["id"] == declined
    assert found["prediction"]["entity"] == {"loan_id": loan}
    assert found["prediction"]["decision"] == "declined"
    assert found["prediction"]["served"] == "replayed, never served"
    assert found["prediction"]["score"] > found["prediction"]["threshold"] == 0.4
    assert 1 <= len(found["prediction"]["reasons"]) <= 4
    assert found["version"]["number"] == 1
    assert found["version"]["stage_at_decision"] == found["version"]["stage_now"] == "production"
    assert [move["to"] for move in found["version"]["stage_history"]] == ["staging", "canary", "production"]
    assert found["authorship"]["says"] == "unknown"
    assert found["image"]["absent"]
    assert found["packages"]["lightgbm"]
    assert found["hyperparameters"]["rounds"] == 12
    assert found["seeds"]["trainer"] >= 0
    assert found["metrics"]["auc"]["low"] < found["metrics"]["auc"]["point"] < found["metrics"]["auc"]["high"]
    assert {gate["gate"]: gate["verdict"] for gate in found["gates"]} == {"at_least.auc": "pass", "onnx_parity": "pass"}
    assert found["later"] == []


def test_the_training_set_is_named_with_what_was_left_out_and_why_a_source_has_no_known_time(shared, declined):
    found = trace(shared, declined).to_json()["training_set"]
    assert found["checked"] is True
    assert found["train_rows"] + found["test_rows"] == found["rows"]
    assert found["immature_rows"] == found["left_out"]["reasons"]["immature"] > 0
    assert found["as_of"] == "2010-01-01T00:00:00.000000Z"
    assert found["label"]["known_times"]["loan_requests"] == {"same_as_event": SAME_TIME}
    assert set(found["sources"]) == {"loan_requests", "loan_outcomes"}
    assert all({"table_version", "definition"} <= set(source) for source in found["sources"].values())


def test_features_are_shown_as_used_with_definition_age_and_flags(shared):
    rows = shared.lake.read("small_risk/predictions_personal").to_pylist()
    flagged = next(row for row in rows if row["category_purpose"] == "boat")
    found = trace(shared, flagged["prediction_id"]).to_json()
    features = {item["name"]: item for item in found["features"]}
    assert features["purpose"]["value"] == "boat"
    assert features["purpose"]["flags"] == ["unknown:flag"]
    assert features["amount"]["value"] == pytest.approx(flagged["number_amount"], rel=1e-7)
    assert features["amount_root"]["origin"] == "derived"
    assert features["defaulted_mean_360d"]["origin"] == "stored"
    assert features["defaulted_mean_360d"]["age_us"] is None  # no boat has matured
    plain = next(row for row in rows if row["category_purpose"] == "car")
    aged = trace(shared, plain["prediction_id"]).to_json()["features"][3]
    assert aged["age_us"] == plain["age_defaulted_mean_360d"] > 0
    assert aged["age_days"] == pytest.approx(aged["age_us"] / 86_400_000_000, abs=1e-3)
    for item in features.values():
        assert item["reference"].removesuffix(f":{item['name']}") in found["feature_definitions"]


def test_every_approval_is_shown_with_reason_and_a_signature_that_was_verified(shared, declined):
    approvals = trace(shared, declined).to_json()["approvals"]
    assert [one["principal"] for one in approvals] == ["officer_ann", "officer_bob"] * 2
    assert all(one["signature_checked"] and one["key"].startswith("SHA256:") for one in approvals)
    assert {one["reason"] for one in approvals} == {"The gates are green and the sample is large."}
    assert all(one["used_by"] is not None and one["revoked_by"] is None for one in approvals)


def test_the_proof_can_be_checked_again_from_the_answer_alone(shared, declined):
    answer = trace(shared, declined)
    proof = json.loads(json.dumps(answer.to_json()))["proofs"]
    assert answer.proven
    assert proof["status"] == "proven"
    section = proof["leaf"]["sections"][0]
    fields = [("text", "ml-platform/leaf/1"), ("bytes", bytes.fromhex(proof["leaf"]["header"]))]
    fields += [("text", section["role"]), ("bytes", bytes.fromhex(section["commitment"]))]
    leaf = leaf_hash(encode_row(fields))
    segment = proof["segment"]
    path = [bytes.fromhex(one) for one in segment["path"]]
    root = bytes.fromhex(segment["root"].removeprefix("sha256:"))
    assert verify_inclusion(leaf, segment["index"], segment["size"], path, root)
    entry = json.loads(proof["log"]["entry"])
    assert segment["root"] in [one["root"] for one in entry["body"]["segments"]]
    vkey = shared.registry.state().genesis.log_vkey
    assert (
        open_checkpoint(proof["checkpoint"]["note"].encode(), [Verifier.parse(vkey)]).size
        == proof["checkpoint"]["size"]
    )


def test_a_decision_is_found_by_entity_and_time(shared, declined, loan):
    assert find_decisions(shared, "small_risk", {"loan_id": str(loan)}) == (declined,)
    assert trace_entity(shared, "small_risk", {"loan_id": loan}).prediction_id == declined
    assert trace_entity(shared, "small_risk", {"loan_id": loan}, at("2010-03-01")).prediction_id == declined
    with pytest.raises(NotFound, match="no decision yet; 1 were made later"):
        trace_entity(shared, "small_risk", {"loan_id": loan}, at("2010-03-01") - timedelta(microseconds=1000))


def test_a_wrong_key_is_refused_by_name(shared):
    with pytest.raises(SchemaMismatch, match="loan_id"):
        trace_entity(shared, "small_risk", {"id": 1})
    with pytest.raises(SchemaMismatch, match="int64"):
        trace_entity(shared, "small_risk", {"loan_id": "abc"})


def test_an_unknown_id_says_what_is_kept(shared):
    with pytest.raises(NotFound, match=r"Kept are \d+ decisions, decided from 2010-02-01T00:00:00Z to 2010-03-01"):
        trace(shared, "01271705-ac00-8d83-9b30-000000000000")
    with pytest.raises(NotFound, match="not a prediction id"):
        trace(shared, "nonsense")
    with pytest.raises(NotFound, match=r"No decision about this entity.*Check the keys\. Kept are .* Give --at with"):
        trace_entity(shared, "small_risk", {"loan_id": 999_999})
    with pytest.raises(NotFound, match="very request time was refused either") as told:
        trace_entity(shared, "small_risk", {"loan_id": 999_999}, at("2010-03-01"))
    assert "--at" not in str(told.value)


def test_a_refused_row_says_which_field_and_rule_refused_it(shared):
    requests = shared.lake.read("sources/loan_requests").to_pylist()
    bad = next(row for row in requests if row["amount"] < 0)
    refused = find_refusals(shared, "small_risk", {"loan_id": bad["loan_id"]}, bad["applied_at"])
    assert [(one["field"], one["rule"], one["version"]) for one in refused] == [("amount", "range", 1)]
    with pytest.raises(NotFound, match=r"refused by version 1 in 2010-01: amount range"):
        trace_entity(shared, "small_risk", {"loan_id": bad["loan_id"]}, bad["applied_at"])


def test_later_events_of_the_version_are_told(root, declined):
    root.replay.move(at("2010-06-01"))
    lifecycle.stage(root, "small_risk", _second(root), principal="launcher", reason="Look again.")
    for to in ("canary", "production"):
        for officer in ("officer_ann", "officer_bob"):
            key = root.secrets.folder / "people" / officer
            lifecycle.approve(root, "small_risk", 2, to, key=key, reason="Newer rows.")
        lifecycle.promote(root, "small_risk", 2, to, principal="launcher", reason="Newer rows.")
    found = trace(root, declined).to_json()
    assert found["version"]["stage_at_decision"] == "production"
    assert found["version"]["stage_now"] == "archived"
    assert [(one["to"], one["effective_at"][:10]) for one in found["later"]] == [("archived", "2010-06-01")]


def test_a_promotion_at_the_same_instant_that_was_recorded_later_comes_after_the_decision(root, declined):
    """The clock of a replay root stands still: only the wall tells that the month was decided first."""
    lifecycle.stage(root, "small_risk", _second(root, "2010-02-15"), principal="launcher", reason="Look again.")
    for to in ("canary", "production"):
        for officer in ("officer_ann", "officer_bob"):
            key = root.secrets.folder / "people" / officer
            lifecycle.approve(root, "small_risk", 2, to, key=key, reason="Newer rows.")
        lifecycle.promote(root, "small_risk", 2, to, principal="launcher", reason="Newer rows.")
    found = trace(root, declined).to_json()
    assert found["prediction"]["decided_at"] == "2010-03-01T00:00:00.000000Z"
    version = found["version"]
    assert version["stage_at_decision"] == "production"
    assert version["stage_at_decision_as_known_now"] == version["stage_now"] == "archived"
    assert [(one["to"], one["at_decision"]) for one in version["stage_history"]][-2:] == [
        ("production", True),
        ("archived", False),
    ]
    assert [(one["to"], one["effective_at"][:10]) for one in found["later"]] == [("archived", "2010-03-01")]


def _second(root, as_of: str = "2010-05-01") -> int:
    code = root.root.parent / "code"
    code.mkdir()
    (code / "model.py").write_text("# the model, newer\n")
    return lifecycle.build_candidate(root, model(), at(as_of), requested_by="launcher", code=code).registered.version


@pytest.mark.parametrize("spoil", [spoiling.rewrite_all, spoiling.through_delta])
@pytest.mark.parametrize(
    ("table", "values"),
    [
        (PERSONAL, {"output_score": 0.01}),
        (PERSONAL, {"decision": "approved"}),
        (PERSONAL, {"reasons": []}),
        (PERSONAL, {"number_amount": 1.0}),
        (HEADERS, {"version": 2}),
        (HEADERS, {"decision_of_record": False}),
        (HEADERS, {"leaf_index": 0}),
        (HEADERS, {"seq": 3}),
    ],
)
def test_a_changed_record_is_not_traced(root, declined, table, values, spoil):
    spoil(root, table, setting(declined, **values))
    with pytest.raises(Tampered):
        trace(root, declined)


def test_a_deleted_record_is_not_found(root, declined):
    spoiling.through_delta(root, HEADERS, without(declined))
    with pytest.raises(NotFound):
        trace(root, declined)


@pytest.mark.parametrize("name", ["leaves.bin", "segment.json"])
def test_changed_leaf_hashes_or_segment_are_named(root, declined, name):
    segment = next((root.root / "store" / "segments").glob("*/" + name))
    for segment in (root.root / "store" / "segments").glob("*/" + name):
        raw = segment.read_bytes()
        change = raw.replace(b'"accepted":', b'"accepted":1') if name == "segment.json" else bytes(32) + raw[32:]
        segment.write_bytes(change)
    with pytest.raises(Tampered):
        trace(root, declined)


@pytest.mark.parametrize("name", ["run_record", "evaluation", "spec", "contract"])
def test_changed_evidence_is_named(root, declined, name):
    digests = root.registry.state().version("small_risk", 1).digests
    paths = {
        "run_record": root.objects.path_of(digests.run_record),
        "evaluation": root.objects.path_of(digests.evaluation),
        "spec": f"definitions/{digests.spec.removeprefix('sha256:')}.json",
        "contract": f"artifacts/{digests.artifact.removeprefix('sha256:')}.json",
    }
    path = paths[name]
    raw = root.objects.read(path)
    spoiling.overwrite(root, path, raw.replace(b"1", b"2", 1))
    with pytest.raises(Tampered):
        trace(root, declined)


def test_a_forged_approval_is_named(root, declined):
    approval = next(iter(root.registry.state().model("small_risk").approvals.values()))
    raw = root.objects.get(approval.payload)
    spoiling.overwrite(root, root.objects.path_of(approval.payload), raw.replace(b"large", b"small"))
    with pytest.raises(Tampered, match="digest"):
        trace(root, declined)


def test_a_record_that_is_not_sealed_yet_says_so(root):
    newest = score_march_without_sealing(root)
    answer = trace(root, newest)
    assert not answer.proven
    assert answer.to_json()["proofs"]["status"] == "recorded, not yet proven"
    lifecycle.score_partition(root, model(), "2010-03")
    assert trace(root, newest).proven


def test_a_missing_training_set_leaves_the_rest_of_the_answer(root, declined):
    shutil.rmtree(root.root / "store" / "snapshots")
    found = trace(root, declined).to_json()["training_set"]
    assert found["digest"] == root.registry.state().version("small_risk", 1).digests.training_set
    assert "absent" in found["manifest"]


def test_the_answer_is_as_of_the_decision_and_as_known_then(shared, declined):
    version = trace(shared, declined).to_json()["version"]
    assert version["stage_at_decision_as_known_now"] == "production"
    assert all(move["effective_at"][:10] == AS_OF.date().isoformat() for move in version["stage_history"])
