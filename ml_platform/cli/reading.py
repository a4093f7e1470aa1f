"""Commands that read what is recorded: models, versions, one version or candidate, the state, decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from ml_platform.cli.blocks import Answer, Block, Fields, Line, Section, Table
from ml_platform.cli.documents import candidate_blocks, evaluation_blocks, history_table, run_record_blocks
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import ModelArgument, parse_partition, time_option
from ml_platform.cli.session import Session
from ml_platform.cli.text import NONE, clock_text, count, moment, number, short, value

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
            Line(f"`mlp show {model} --candidate KEY` shows one."),
        ]
    return Answer(found, blocks)


@commands.add(
    "show",
    examples=[
        "mlp show credit_risk 1 --root roots/demo",
        "mlp show credit_risk --candidate 20100101T000000Z_0f3a5c7e9b12 --root roots/demo",
    ],
)
def show(
    session: Session,
    model: ModelArgument,
    version: Annotated[int | None, typer.Argument(min=1, help="Version number; else --candidate.")] = None,
    candidate: Annotated[
        str | None,
        typer.Option("--candidate", metavar="KEY", help="A candidate instead, also one that failed its gates."),
    ] = None,
) -> Answer:
    """Show one version or candidate: stages, run record, metrics with intervals, gates."""
    if (version is None) == (candidate is None):
        raise typer.BadParameter("Give a version number, or --candidate KEY; `mlp versions` lists both.")
    if candidate is not None:
        from ml_platform.lifecycle import show_candidate

        found = show_candidate(session.platform(), model, candidate)
        return Answer(found, candidate_blocks(found))
    return _show_version(session, model, version or 0)


def _show_version(session: Session, model: str, version: int) -> Answer:
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
    from ml_platform.lifecycle import read_clock, state_at

    platform = session.platform()
    found, clock = state_at(platform, at, known_at), read_clock(platform)
    effective, known = (moment(one) if one else "this moment" for one in (at, known_at))
    blocks: list[Block] = [
        Section(f"In effect at {effective}, as known at {known}"),
        Fields(
            [
                ("log entries", value(found["entries"])),
                ("platform", found["platform"]),
                ("clock now", clock_text(clock)),
            ]
        ),
        _models_table(found["models"]),
    ]
    return Answer({**found, "at": at, "known_at": known_at, "clock": clock}, blocks)


@commands.add(
    "decisions",
    examples=[
        "mlp decisions credit_risk --partition 2010-05 --decision declined --root roots/demo",
        "mlp decisions credit_risk --limit 1 --json | jq -r '.decisions[].prediction_id'",
    ],
)
def decisions(
    session: Session,
    model: ModelArgument,
    partition: Annotated[
        str | None,
        typer.Option("--partition", parser=parse_partition, metavar="YYYY-MM", help="Only requests of this month."),
    ] = None,
    decision: Annotated[
        str | None, typer.Option("--decision", metavar="DECISION", help="Only these: declined or approved.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="How many at most.")] = 20,
    keys: Annotated[bool, typer.Option("--keys", help="Tell whom each is about. That is personal data.")] = False,
    shadows: Annotated[bool, typer.Option("--shadows", help="Also what shadows would have decided.")] = False,
) -> Answer:
    """List a model's recorded decisions, the newest first, so that one can be traced.

    Online decisions are there as soon as they were answered, sealed or not. Without --keys nothing says whom a
    decision is about; `mlp trace PREDICTION` does.
    """
    from ml_platform.lifecycle import list_decisions

    found = list_decisions(
        session.platform(), model, partition=partition, decision=decision, limit=limit, keys=keys, shadows=shadows
    )
    shown = found["decisions"]
    headers = ("prediction", "decided at", "by", "score", "decision", "flags", *(["about"] if keys else []))
    blocks: list[Block] = [
        Section(f"{model}: {count(len(shown))} of {count(found['found'])} decisions"),
        Table(headers, [_decision(one) for one in shown], empty="none; `mlp score` decides a month of requests"),
    ]
    return Answer(found, blocks)


def _decision(one: Mapping[str, Any]) -> tuple[str, ...]:
    superseded = "" if one["decision_of_record"] else " (not of record)"
    about = [value(one["entity"])] if "entity" in one else []
    by = one["role"] if one["role"] == "shadow" else one["mode"]
    return (
        one["prediction_id"],
        moment(one["decided_at"]),
        f"v{one['version']} {by}{'' if one['sealed'] else ', not sealed yet'}",
        number(one["score"], 4),
        f"{value(one['decision'])}{superseded}",
        value(one["flags"]),
        *about,
    )


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
