"""The registry with the real statistics: verdicts come from the stored table, whatever the document claims."""

from __future__ import annotations

import numpy as np
import pytest

from ml_platform.core.digests import canonical_json, sha256_hex
from ml_platform.core.errors import GateFailed, NotFound, PlatformError, Tampered
from ml_platform.registry import Decision, policy_document
from ml_platform.training import EvaluationSubject, EvaluationTable, GateContext, evaluate
from ml_platform.training.gates import at_least, calibrated, group_ratio
from tests.registry.world import World

ROWS = 2_000


def table(*, skilled: bool = True, groups: bool = False) -> EvaluationTable:
    random = np.random.default_rng(7)
    chance = random.beta(2, 6, ROWS)
    label = (random.random(ROWS) < chance).astype(np.int64)
    score = (chance if skilled else random.permutation(chance)).astype(np.float32)
    leaves = [sha256_hex(str(row).encode())[7:].encode()[:32] for row in range(ROWS)]
    names = {"applicant_group": random.choice(["a", "b"], ROWS).tolist()} if groups else None
    return EvaluationTable.build(leaves, score=score, native_score=score.astype(float), label=label, groups=names)


GATES = [at_least("auc", 0.55), calibrated(0.2, on_inconclusive="ask")]
POLICY = policy_document(
    {
        "high": {
            "gates": [at_least("auc", 0.55).spec()],
            "may_ask": ["calibrated"],
            "may_be_unavailable": ["group_ratio"],
        }
    }
)


@pytest.fixture
def real(tmp_path) -> World:
    return World(tmp_path / "root", policy=POLICY, real=True)


def enter(world: World, rows: EvaluationTable, gates=GATES, context: GateContext | None = None, **claims) -> str:
    """Requests candidate 1, stores its evaluation (with false claims, if any) and enters it."""
    spec = world.spec([gate.spec() for gate in gates], decision={"above": 0.3})
    subject = EvaluationSubject(
        "credit_risk", world.candidate(1), "2026-01-05T00:00:00.000000Z", sha256_hex(b"rows"),
        world.run_record(1), world.artifact(1),
    )  # fmt: skip
    known = context or GateContext(training_base_rate=0.25, seed=1, decision_above=0.3)
    done = evaluate(subject, rows, gates, known)
    world.objects.put(done.table_bytes)
    evaluation = world.objects.put(canonical_json({**done.document, **claims}))
    world.request(1, spec=spec)
    world.evaluate(1, evaluation)
    return evaluation


def test_a_skilled_candidate_goes_all_the_way_and_the_log_verifies(real: World) -> None:
    enter(real, table())
    assert real.registry.register(real.registration(1)) == 1
    candidate = real.registry.state().model("credit_risk").candidates[real.candidate(1)]
    assert dict(candidate.verdicts) == {"at_least.auc": "pass", "calibrated": "pass", "onnx_parity": "pass"}
    real.to_production(1)
    assert real.registry.verify().ok


def test_a_candidate_that_learned_nothing_stops_even_if_its_document_claims_a_pass(real: World) -> None:
    honest = [{"gate": "at_least.auc", "verdict": "pass"}]
    enter(real, table(skilled=False), verdicts=honest)
    with pytest.raises(GateFailed) as caught:
        real.registry.register(real.registration(1))
    assert caught.value.field == "gates.at_least.auc"
    candidate = real.registry.state().model("credit_risk").candidates[real.candidate(1)]
    assert dict(candidate.verdicts)["at_least.auc"] == "fail"


def test_a_document_that_names_another_table_is_refused(real: World) -> None:
    better = table()
    for digest in (sha256_hex(b"nothing"), real.objects.put(better.to_parquet())):
        with pytest.raises(PlatformError) as caught:
            enter(real, table(skilled=False), table=digest)
        assert isinstance(caught.value, Tampered | NotFound)
    assert real.registry.state().model("credit_risk").versions == {}


def test_a_fairness_gate_without_data_needs_its_written_reason(real: World) -> None:
    gates = [*GATES, group_ratio("approval_rate", by="applicant_group")]
    enter(real, table(), gates)
    with pytest.raises(GateFailed, match="not_evaluated"):
        real.registry.register(real.registration(1))


def test_a_fairness_gate_without_data_with_its_written_reason_is_decided_by_the_approver(real: World) -> None:
    gates = [*GATES, group_ratio("approval_rate", by="applicant_group")]
    context = GateContext(0.25, 1, 0.3, unavailable={"applicant_group": "LendingClub publishes none."})
    enter(real, table(), gates, context)
    assert real.registry.register(real.registration(1)) == 1
    real.move(1, "stage", "staging")
    name = gates[-1].name
    real.approve(1, "staging", "canary", decisions=[Decision(name, "not_evaluated", "Accepted for this market.")])
    assert real.move(1, "promote", "canary").to == "canary"
    assert real.registry.verify().ok
