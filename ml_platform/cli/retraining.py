"""``mlp retrain``: requests to train a model again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import typer

from ml_platform.cli.blocks import Answer, Block, Fields, Line, Table
from ml_platform.cli.frame import Commands, new_app
from ml_platform.cli.options import DEFAULT_MODELS, ModelArgument, ModelsOption, PrincipalOption, ReasonOption
from ml_platform.cli.session import Session
from ml_platform.cli.text import count, moment, value

__all__ = ["group"]

commands = Commands()
RequestArgument: TypeAlias = Annotated[
    str, typer.Argument(help="Id of the request; `mlp retrain list MODEL` shows them.")
]


@commands.add(
    "request",
    examples=[
        'mlp retrain request credit_risk --reason "A new product starts in May" --root roots/demo',
        'mlp retrain request credit_risk --reason "Term has drifted" --alert psi-term-2010-06',
    ],
)
def ask(
    session: Session,
    model: ModelArgument,
    reason: ReasonOption,
    alert: Annotated[
        list[str] | None, typer.Option("--alert", metavar="ID", help="An alert that it shall answer; repeatable.")
    ] = None,
    principal: PrincipalOption = None,
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Ask for a training by hand; merged into the request that is open, held back by the declared budget."""
    from ml_platform.lifecycle import request_retrain

    declared, platform = session.model(model, models), session.platform()
    made = request_retrain(
        platform,
        declared,
        alerts=tuple(alert or ()),
        reason=reason,
        requested_by=session.principal(principal, platform),
    )
    document = made.to_json()
    until = f" until {moment(made.until)}" if made.until else ""
    text = {
        "requested": f"{made.request} is entered.",
        "merged": f"Merged into {made.request}, which is open.",
        "known": f"{made.request} knows this already.",
        "refused": f"Refused{until}: {made.why}.",
    }[made.outcome]
    return Answer(document, [Line(text), *_useful(document)], 7 if made.outcome == "refused" else 0)


def _useful(document: Mapping[str, Any]) -> list[Block]:
    found = document["assessment"]
    if found["population"] is None:
        return []
    counted = found["usefulness"]
    when = document["useful_from"] and moment(document["useful_from"])
    about = [
        ("rows of the drifted population", f"{count(counted['rows'])}, {count(counted['mature'])} of them mature"),
        ("mature rows needed", count(counted["needed"])),
        ("useful from", when or "not known: too few rows have come"),
        ("in the training part then", count(counted["trained_on_then"])),
    ]
    said = [Line(f"Until then: {found['meanwhile']['text']}")] if found["meanwhile"] else []
    return [Fields(about), *said]


@commands.add(
    "list", examples=["mlp retrain list credit_risk --root roots/demo", "mlp retrain list credit_risk --json"]
)
def list_(session: Session, model: ModelArgument, models: ModelsOption = DEFAULT_MODELS) -> Answer:
    """Show the requests of a model, the newest first: what asked, how far each is, and from when on it is useful."""
    from ml_platform.lifecycle import list_retrains

    declared = session.model(model, models)
    found = list_retrains(session.platform(), model, declared)
    rows = [
        (
            one["request"],
            one["status"],
            ", ".join(dict.fromkeys(signal["trigger"] for signal in one["signals"])),
            one["useful_from"] and moment(one["useful_from"]),
            one["candidate"] or "",
            value(one["version"]) if one["version"] else "",
        )
        for one in found
    ]
    table = Table(("request", "status", "asked by", "useful from", "candidate", "version"), rows, "no request yet")
    waiting = [one for one in found if one["status"] == "waiting for labels" and one["meanwhile"]]
    return Answer({"model": model, "retrains": found}, [table, *(Line(one["meanwhile"]["text"]) for one in waiting)])


def _decided(session: Session, model: str, asked: str, decision: Any, reason: str, principal: str | None) -> Answer:
    from ml_platform.lifecycle import decide_retrain

    platform = session.platform()
    who = session.principal(principal, platform)
    index = decide_retrain(platform, model, asked, decision, principal=who, reason=reason)
    document = {"model": model, "request": asked, "decision": decision, "log_index": index}
    return Answer(document, [Line(f"{asked} is {decision}; entry {index}.")])


@commands.add("approve", examples=['mlp retrain approve credit_risk retrain-1-ab12cd34ef56 --reason "Worth it"'])
def approve(
    session: Session,
    model: ModelArgument,
    request: RequestArgument,
    reason: ReasonOption,
    principal: PrincipalOption = None,
) -> Answer:
    """Agree to a training that was asked for; it starts when its time has come."""
    return _decided(session, model, request, "approved", reason, principal)


@commands.add("reject", examples=['mlp retrain reject credit_risk retrain-1-ab12cd34ef56 --reason "The product ends"'])
def reject(
    session: Session,
    model: ModelArgument,
    request: RequestArgument,
    reason: ReasonOption,
    principal: PrincipalOption = None,
) -> Answer:
    """Close a request without a training; its alerts do not ask again."""
    return _decided(session, model, request, "rejected", reason, principal)


@commands.add("run", examples=["mlp retrain run credit_risk --root roots/demo"])
def run(
    session: Session,
    model: ModelArgument,
    principal: PrincipalOption = None,
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Carry out the request that is ready: candidate, training, evaluation, registration; killed, it goes on.

    Nothing is done, and the exit code is 0, where no request is ready. A candidate that a gate refuses ends its
    request, and the command exits with 7.
    """
    from ml_platform.lifecycle import ready_retrains, run_retrain

    declared, platform = session.model(model, models), session.platform()
    who, ready = session.principal(principal, platform), ready_retrains(platform, declared)
    done = []
    for one in ready:
        with session.screen.step(f"carrying out {one}") as note:
            made = run_retrain(platform, declared, one, actor=who)
            note(made.outcome if made.version is None else f"version {made.version}")
        done.append(made)
    lines = [Line(f"{one.request}: {one.outcome}. {one.why}".strip()) for one in done] or [Line("No request is ready.")]
    refused = any(one.outcome == "refused" for one in done)
    failed = any(one.outcome == "failed" for one in done)
    document = {"model": model, "finished": [one.to_json() for one in done]}
    return Answer(document, lines, 7 if refused else 3 if failed else 0)


group = new_app("Requests to train a model again: ask, decide, carry out.")
commands.attach(group)
