"""Only what was really evaluated, by the evaluator, with its own table, gets a version."""

from __future__ import annotations

import pytest

from ml_platform.core.digests import canonical_json, sha256_hex
from ml_platform.core.errors import Conflict, GateFailed, IntegrityError, NotFound, Tampered
from ml_platform.registry.events import Event
from tests.registry.world import AT, World


def test_versions_are_dense_and_registering_again_gives_the_same_number(world: World) -> None:
    assert [world.version(1), world.version(2), world.version(3)] == [1, 2, 3]
    size = world.registry.state().size
    assert world.registry.register(world.registration(2)) == 2
    world.request(2)
    world.evaluate(2, world.evaluation(2))
    assert world.registry.state().size == size


def test_a_registration_that_died_before_its_checkpoint_publishes_it_when_it_is_run_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(world.registry._log, "checkpoint", die)
        with pytest.raises(KeyboardInterrupt):
            world.version(1)
    published = world.folder / "store" / "checkpoints"
    assert world.registry.state().size == 4
    assert not (published / "4").exists()
    assert world.registry.register(world.registration(1)) == 1
    assert (published / "4").exists()
    assert world.registry.state().size == 4


def test_registering_again_with_other_digests_is_a_conflict(world: World) -> None:
    world.version(1)
    for changes in ({"contract": sha256_hex(b"other")}, {"training_set": sha256_hex(b"other")}):
        with pytest.raises(Conflict):
            world.registry.register(world.registration(1, **changes))


def test_requesting_a_key_again_with_another_declaration_is_a_conflict(world: World) -> None:
    world.request(1)
    with pytest.raises(Conflict):
        world.request(1, spec=world.spec(extra=1))


def test_an_unknown_candidate_cannot_be_evaluated_nor_registered(world: World) -> None:
    with pytest.raises(NotFound):
        world.evaluate(1, world.evaluation(1))
    with pytest.raises(NotFound):
        world.registry.register(world.registration(1))
    world.request(1)
    with pytest.raises(NotFound, match="evaluated"):
        world.registry.register(world.registration(1))


def test_a_failed_candidate_keeps_its_evidence_and_gets_no_number(world: World) -> None:
    world.request(1)
    world.evaluate(1, world.evaluation(1, {"auc": "fail"}))
    with pytest.raises(GateFailed, match="fail") as caught:
        world.registry.register(world.registration(1))
    assert caught.value.field == "gates.auc"
    candidate = world.registry.state().model("credit_risk").candidates[world.candidate(1)]
    assert candidate.verdicts == (("auc", "fail"), ("calibrated", "pass"))
    assert candidate.version is None
    assert world.version(2) == 1


def test_every_gate_that_did_not_pass_is_named(world: World) -> None:
    with pytest.raises(GateFailed, match="auc fail, calibrated fail") as caught:
        world.version(1, verdicts={"auc": "fail", "calibrated": "fail"})
    assert caught.value.field == "gates.auc"
    assert f"`mlp show credit_risk --candidate {world.candidate(1)}`" in caught.value.next_step
    with pytest.raises(GateFailed, match=r"auc fail, calibrated inconclusive \(a person might decide\)"):
        world.version(2, verdicts={"auc": "fail", "calibrated": "inconclusive"})


def test_inconclusive_is_enough_only_where_the_gate_asks(world: World) -> None:
    assert world.version(1, verdicts={"calibrated": "inconclusive"}) == 1
    with pytest.raises(GateFailed, match="inconclusive"):
        world.version(2, verdicts={"auc": "inconclusive"})


def test_an_evaluation_that_somebody_else_signed_is_refused(world: World) -> None:
    world.request(1)
    with pytest.raises(Tampered, match="evaluator"):
        world.evaluate(1, world.evaluation(1), by="officer:ann")


def test_claimed_verdicts_are_recomputed_from_the_table(world: World) -> None:
    name = world.request(1)
    evaluation = world.evaluation(1, {"auc": "fail"})
    world.evaluate(1, evaluation)
    state = world.registry.state().model("credit_risk").candidates[name]
    body = {
        "candidate": world.request(2),
        "run_record": world.run_record(2),
        "evaluation": (two := world.evaluation(2, {"auc": "fail"})),
        "signature": state.signature,
        "gates": [{"gate": "auc", "verdict": "pass"}, {"gate": "calibrated", "verdict": "pass"}],
    }
    from ml_platform.registry import EVALUATION_NAMESPACE, sign
    from tests.registry.world import key

    body["signature"] = world.objects.put(sign(key("evaluator"), two.encode(), EVALUATION_NAMESPACE).encode())
    with pytest.raises(Tampered, match="verdicts"):
        world.registry._log.append([Event("candidate_evaluated", body, "credit_risk")])


def test_a_table_changed_in_the_store_is_refused(world: World) -> None:
    world.request(1)
    evaluation = world.evaluation(1, {"auc": "fail"})
    table = world.evidence().evaluation(evaluation).table
    path = world.folder / "store" / world.objects.path_of(table)
    path.write_bytes(canonical_json({"auc": "pass", "calibrated": "pass"}))
    with pytest.raises(IntegrityError, match="digest"):
        world.evaluate(1, evaluation)


@pytest.mark.parametrize("name", ["model", "candidate", "run_record"])
def test_an_evaluation_of_something_else_is_refused(world: World, name: str) -> None:
    world.request(1)
    with pytest.raises(Tampered) as caught:
        world.evaluate(
            1, world.evaluation(1, **{name: "other"}) if name != "model" else world.evaluation(1, model="churn")
        )
    assert caught.value.field == name


@pytest.mark.parametrize("name", ["artifact", "training_set"])
def test_a_registration_of_something_else_than_was_evaluated_is_refused(world: World, name: str) -> None:
    world.request(1)
    world.evaluate(1, world.evaluation(1))
    with pytest.raises(Tampered) as caught:
        world.registry.register(world.registration(1, **{name: sha256_hex(b"other")}))
    assert caught.value.field == name


def test_a_candidate_is_evaluated_once(world: World) -> None:
    world.request(1)
    world.evaluate(1, world.evaluation(1))
    with pytest.raises(Conflict, match="evaluated before"):
        world.evaluate(1, world.evaluation(1, {"auc": "fail"}))


def test_the_number_must_be_the_next_one(world: World) -> None:
    world.version(1)
    entry = next(entry for entry in world.registry.entries() if entry.kind == "registered")
    world.request(2)
    world.evaluate(2, world.evaluation(2))
    candidate = world.registry.state().model("credit_risk").candidates[world.candidate(2)]
    body = {
        **entry.body,
        "candidate": candidate.key,
        "evaluation": candidate.evaluation,
        "run_record": candidate.run_record,
        "artifact": world.artifact(2),
        "version": 3,
    }
    with pytest.raises(Conflict):
        world.registry._log.append([Event("registered", body, "credit_risk")])
    world.registry._log.append([Event("registered", {**body, "version": 2}, "credit_risk")])


def test_a_wall_root_records_when_it_happens(world: World) -> None:
    world.request(1)
    (entry,) = world.registry.entries(1, 2)
    assert entry.effective == entry.recorded == AT
