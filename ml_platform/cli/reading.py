"""Commands that read the registry: models, versions, one version, the state at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from ml_platform.cli.blocks import Answer, Block, Fields, Section, Table
from ml_platform.cli.documents import evaluation_blocks, history_table, run_record_blocks
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import ModelArgument, VersionArgument, time_option
from ml_platform.cli.session import Session
from ml_platform.cli.text import NONE, moment, short, value

__all__ = ["commands"]

commands = Commands()


@commands.add("models", examples=["mlp models --root roots/demo", "mlp models --json | jq '.models[].model'"])
def models(session: Session) -> Answer:
    """List the models that the registry knows, and which version holds which stage."""
    from ml_platform.lifecycle import list_models

    found = list_models(session.platform())
    return Answer({"models": found}, [_models_table(found)])


@commands.add("versions", examples=["mlp versions credit_risk --root roots/demo"])
def versions(session: Session, model: ModelArgument) -> Answer:
    """List a model's versions with their stages, and the candidates that became none."""
    from ml_platform.lifecycle import list_versions

    found = list_versions(session.platform(), model)
    rows = [
        (str(one["version"]), one["stage"], one["candidate"], short(one["artifact"]), _last_move(one["history"]))
        for one in found["versions"]
    ]
    blocks: list[Block] = [
        Section(f"{model}: versions"),
        Table(("version", "stage", "candidate", "artifact", "last move"), rows, empty="no version yet"),
    ]
    if refused := found["candidates_not_registered"]:
        open_gates = [(one["candidate"], _open(one["verdicts"])) for one in refused]
        blocks += [
            Section("Candidates without a version"),
            Table(("candidate", "gates that did not pass"), open_gates),
        ]
    return Answer(found, blocks)


@commands.add("show", examples=["mlp show credit_risk 1 --root roots/demo"])
def show(session: Session, model: ModelArgument, version: VersionArgument) -> Answer:
    """Show one version: stages, run record, metrics with intervals, gates."""
    from ml_platform.lifecycle import show_version

    found = show_version(session.platform(), model, version)
    blocks = [
        Section(f"{model} version {version}"),
        Fields([("stage", found["stage"]), ("candidate", found["candidate"]), ("artifact", found["artifact"])]),
        history_table(found["history"]),
        *run_record_blocks(found["run_record"]),
        *evaluation_blocks(found["evaluation"]),
    ]
    return Answer(found, blocks)


@commands.add(
    "state",
    examples=[
        "mlp state --at 2010-06-01 --root roots/demo",
        "mlp state --at 2010-06-01 --known-at 2010-07-01T12:00:00Z --json",
    ],
)
def state(
    session: Session,
    at: Annotated[datetime | None, time_option("--at", "What was in effect then; now by default.")] = None,
    known_at: Annotated[
        datetime | None, time_option("--known-at", "As far as the log had recorded it then; now by default.")
    ] = None,
) -> Answer:
    """Show which version held which stage at a time, as known then or as known now."""
    from ml_platform.lifecycle import state_at

    found = state_at(session.platform(), at, known_at)
    effective, known = (moment(one) if one else "this moment" for one in (at, known_at))
    blocks: list[Block] = [
        Section(f"In effect at {effective}, as known at {known}"),
        Fields([("log entries", value(found["entries"])), ("platform", found["platform"])]),
        _models_table(found["models"]),
    ]
    return Answer({**found, "at": at, "known_at": known_at}, blocks)


def _models_table(found: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        ("model", "versions", "candidates", "staging", "canary", "production"),
        [
            (
                str(one["model"]),
                str(one["versions"]),
                str(one["candidates"]),
                *(NONE if one[stage] is None else f"v{one[stage]}" for stage in ("staging", "canary", "production")),
            )
            for one in found
        ],
        empty="no model yet: `mlp train MODEL --as-of DATE` builds the first candidate",
    )


def _last_move(history: Sequence[Mapping[str, Any]]) -> str:
    if not history:
        return NONE
    last = history[-1]
    return f"{last['action']} to {last['to']} by {last['actor']}, {moment(last['at'])}"


def _open(verdicts: Mapping[str, str]) -> str:
    return ", ".join(f"{gate}: {verdict}" for gate, verdict in verdicts.items() if verdict != "pass") or "all passed"
