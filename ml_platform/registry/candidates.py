"""Rules for candidates and registration. Pure: evidence comes as an argument."""

from __future__ import annotations

from ml_platform.core.errors import ApprovalInvalid, Conflict, NotFound, PolicyViolation, Tampered
from ml_platform.registry.events import Entry
from ml_platform.registry.evidence import Evaluated
from ml_platform.registry.judging import Judging
from ml_platform.registry.policy import check_declaration, risk_class
from ml_platform.registry.sshsig import verify
from ml_platform.registry.state import CandidateState, State
from ml_platform.registry.verdicts import open_verdicts

__all__ = ["EVALUATION_NAMESPACE", "check_evaluated", "check_registered", "check_requested"]

EVALUATION_NAMESPACE = "evaluation@ml-platform"


def check_requested(state: State, entry: Entry, _: Judging) -> None:
    """A candidate key is requested once; raises `Conflict` otherwise."""
    model = state.models.get(str(entry.model))
    if model is not None and entry.body["candidate"] in model.candidates:
        raise Conflict(
            "This candidate was requested before.", field="candidate", next_step="Use the one that there is."
        )


def check_evaluated(state: State, entry: Entry, judging: Judging) -> None:
    """An evaluation is the evaluator's, about this candidate, and its verdicts are those that its table gives.

    Raises:
        NotFound: the candidate was not requested.
        Conflict: it was evaluated before.
        Tampered: signature, subject or verdicts are not what they claim to be.
    """
    body = entry.body
    candidate = _candidate(state, entry)
    if candidate.evaluated is not None:
        raise Conflict(
            "This candidate was evaluated before.", field="candidate", next_step="Use the evaluation that there is."
        )
    evaluator = state.genesis.evaluator_key if state.genesis else ""
    try:
        verify(
            body["evaluation"].encode(),
            judging.evidence.text(body["signature"]),
            EVALUATION_NAMESPACE,
            evaluator,
        )
    except ApprovalInvalid:
        raise _forged("The evaluation is not signed by the evaluator.", "signature") from None
    evaluated = judging.evidence.evaluation(body["evaluation"])
    _require_about(entry, evaluated, run_record=body["run_record"])
    recomputed = [
        {"gate": one.gate, "verdict": one.verdict}
        for one in judging.evidence.verdicts(candidate.spec, body["evaluation"])
    ]
    if recomputed != list(body["gates"]):
        raise _forged("The claimed verdicts are not those that the evaluation table gives.", "gates")


def check_registered(state: State, entry: Entry, judging: Judging) -> None:
    """Only an evaluated candidate without a red gate, declared at least as strictly as the policy, gets a number.

    Raises:
        NotFound: the candidate was not requested or not evaluated.
        Conflict: it has a version already, or the number is not the next one.
        Tampered: digests differ from those of candidate and evaluation.
        GateFailed: a gate is red, or inconclusive where nobody may decide.
        PolicyViolation: the declaration is laxer than the policy.
    """
    body, candidate = entry.body, _candidate(state, entry)
    if candidate.evaluated is None:
        raise NotFound(
            "The candidate was not evaluated.", field="candidate", next_step="Evaluate it before registering."
        )
    versions = state.model(str(entry.model)).versions
    if candidate.version is not None or body["version"] != max(versions, default=0) + 1:
        raise Conflict(
            "The candidate has a version, or the number is not the next one.",
            field="version",
            next_step="Register each candidate once; the registry gives the number.",
        )
    claimed = (body["spec"], body["run_record"], body["evaluation"])
    if claimed != (candidate.spec, candidate.run_record, candidate.evaluation):
        raise _forged("The registration names other digests than its candidate.", "candidate")
    evaluated = judging.evidence.evaluation(body["evaluation"])
    names = ("run_record", "artifact", "training_set")
    _require_about(entry, evaluated, **{name: body[name] for name in names})
    if body["baseline"] != (evaluated.baseline[0] if evaluated.baseline else None):
        raise _forged("The registration names another baseline than the evaluation.", "baseline")
    spec = judging.evidence.spec(body["spec"])
    if risk_class(spec) != body["risk_class"]:
        raise PolicyViolation(
            "The entry names another risk class than the declaration.",
            field="risk_class",
            next_step="Register what was declared.",
        )
    check_declaration(state.policy.document, spec)
    open_verdicts(
        state.policy.document,
        body["risk_class"],
        judging.evidence.verdicts(body["spec"], body["evaluation"]),
        model=str(entry.model),
        candidate=candidate.key,
    )


def _candidate(state: State, entry: Entry) -> CandidateState:
    found = state.model(str(entry.model)).candidates.get(entry.body["candidate"])
    if found is None:
        raise NotFound(
            "The candidate was not requested.", field="candidate", next_step="Request it before it is evaluated."
        )
    return found


def _require_about(entry: Entry, evaluated: Evaluated, **expected: str) -> None:
    facts = {"model": str(entry.model), "candidate": entry.body["candidate"], **expected}
    for name, value in facts.items():
        if getattr(evaluated, name) != value:
            raise _forged("The evaluation is about something else.", name)


def _forged(what: str, field: str) -> Tampered:
    return Tampered(what, field=field, next_step="Evaluate the candidate again and register what comes out.")
