"""Commands that watch: drift and performance of a window, alerts, and who was told."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from ml_platform.cli.blocks import Answer, Block, Fields, Line, Section, Table
from ml_platform.cli.frame import Commands, DebugOption, JsonOption, RootOption, new_app, run_framed
from ml_platform.cli.options import DEFAULT_MODELS, ModelArgument, ModelsOption, PrincipalOption, ReasonOption
from ml_platform.cli.screen import Screen
from ml_platform.cli.session import Session
from ml_platform.cli.text import NONE, count, estimate, moment, number, value

__all__ = ["commands", "group"]

commands = Commands()
alert_commands = Commands()

_Window: TypeAlias = Annotated[
    str, typer.Option("--window", metavar="WINDOW", help="A month YYYY-MM or a day YYYY-MM-DD of request times, UTC.")
]
_Alert: TypeAlias = Annotated[str, typer.Argument(metavar="ALERT", help="Id of the alert; `mlp alerts` lists them.")]


@commands.add("drift", examples=["mlp drift credit_risk --window 2010-05 --root roots/demo"])
def drift(session: Session, model: ModelArgument, window: _Window, models: ModelsOption = DEFAULT_MODELS) -> Answer:
    """Measure how far a window's decisions are from what each version was trained on.

    Every feature has its PSI beside what unshifted samples of these sizes would show; only above both has it moved.
    """
    from ml_platform.lifecycle import drift_report

    declared = session.model(model, models)
    with session.screen.step(f"profiling {model} {window}"):
        document = drift_report(session.platform(), declared, window).to_json()
    blocks: list[Block] = []
    for one in document["versions"]:
        blocks += [
            Section(f"{model} version {one['version']}, window {window}: {count(one['rows'])} decisions"),
            Table(
                ("feature", "PSI", "noise", "moved", "nulls", "new rows"),
                [_feature(item) for item in one["fields"].values()],
            ),
            *_score(one["score"]),
            _judgements(one["judgements"]),
        ]
    return Answer(document, blocks)


def _feature(item: dict[str, Any]) -> tuple[str, ...]:
    shift, nulls = item["shift"], item["nulls"]
    name = f"{item['name']} *" if item["critical"] else item["name"]
    rates = f"{nulls['reference']:.1%} → {nulls['window']:.1%}"
    return name, number(shift["psi"]), number(shift["noise"]), "yes" if shift["moved"] else "no", rates, _new(item)


def _new(item: dict[str, Any]) -> str:
    return count(item["new_rows"]) if item["new_rows"] else NONE


def _score(score: dict[str, Any]) -> list[Block]:
    shares = ", ".join(f"{name} {share:.1%}" for name, share in score["decisions"].items())
    shift = score["shift"]
    told = NONE if shift is None else f"PSI {number(shift['psi'])}, noise {number(shift['noise'])}"
    return [Fields([("score", told), ("decisions", shares or NONE)]), Line("* critical: its drift is an alert.")]


def _judgements(judgements: list[dict[str, Any]]) -> Table:
    rows = [(one["severity"], one["rule"], one["subject"] or NONE) for one in judgements if one["holds"]]
    return Table(("severity", "rule", "subject"), sorted(rows), empty="nothing to raise")


@commands.add("performance", examples=["mlp performance credit_risk --window 2010-05 --root roots/demo"])
def performance(
    session: Session, model: ModelArgument, window: _Window, models: ModelsOption = DEFAULT_MODELS
) -> Answer:
    """Measure each version on its decisions of a window, on labels that have matured by now."""
    from ml_platform.lifecycle import performance_report

    declared = session.model(model, models)
    document = performance_report(session.platform(), declared, window).to_json()
    blocks: list[Block] = []
    for one in document["versions"]:
        blocks += [Section(f"{model} version {one['version']}, window {window}"), Fields(_figures(one))]
        blocks.append(_judgements(one["judgements"]))
    if not blocks:
        blocks = [Line("Nothing was decided in this window.")]
    return Answer(document, blocks)


def _figures(one: dict[str, Any]) -> list[tuple[str, str]]:
    found = [("mature labels", count(one["rows"])), ("waiting", count(one["waiting"]))]
    if one["measured"] is not None:
        metrics = one["measured"]["metrics"]
        found += [
            (name.replace("_", " "), _metric(metrics[name])) for name in ("auc", "brier_skill", "ece", "approval_rate")
        ]
    if one["accuracy"] is not None:
        found.append(("AUC against registration", estimate(one["accuracy"]["change"])))
    found += [(f"latency {name}", f"{micros / 1000:.2f} ms") for name, micros in one["latency_us"].items()]
    return found


def _metric(found: Any) -> str:
    return value(found) if isinstance(found, dict) and "absent" in found else estimate(found)


@commands.add("watch", examples=["mlp watch credit_risk --window 2010-05 --root roots/demo"])
def watch(session: Session, model: ModelArgument, window: _Window, models: ModelsOption = DEFAULT_MODELS) -> Answer:
    """Judge a window: raise what holds, close what is over, and tell the routes of the settings.

    Running it again changes nothing.
    """
    from ml_platform.lifecycle import deliver_notices
    from ml_platform.lifecycle import watch as judge

    declared, platform = session.model(model, models), session.platform()
    with session.screen.step(f"judging {model} {window}") as note:
        document = judge(platform, declared, window).to_json()
        note(f"{count(len(document['raised']))} raised, {count(len(document['closed']))} closed")
    document["delivered"] = [one.to_json() for one in deliver_notices(platform)]
    for one in document["delivered"]:
        if one["failed"]:
            session.screen.remark(f"route {one['route']}: {one['failed']}; it is tried again at the next delivery")
    return Answer(document, [Section(f"{model}: open alerts"), _alerts(document["open"])])


def _alerts(alerts: list[dict[str, Any]]) -> Table:
    rows = [
        (
            one["severity"],
            one["alert"],
            one["rule"],
            one["subject"] or NONE,
            one["model"],
            value(one["version"]),
            one["window"],
            _status(one),
        )
        for one in alerts
    ]
    return Table(
        ("severity", "alert", "rule", "subject", "model", "version", "window", "status"), rows, empty="no alerts"
    )


def _status(one: dict[str, Any]) -> str:
    if not one["open"]:
        return f"closed {moment(one['closed_at'])}: {str(one['cause']).replace('_', ' ')}"
    if one["acknowledged_by"]:
        return f"open, {one['acknowledged_by']} looks after it"
    return f"open since {moment(one['raised_at'])}"


_Model: TypeAlias = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Only this model's.")]
_Open: TypeAlias = Annotated[bool, typer.Option("--open", help="Only those that are open.")]


@alert_commands.add(
    "list",
    examples=["mlp alerts list --root roots/demo", "mlp alerts list --model credit_risk --open --root roots/demo"],
)
def show_all(session: Session, model: _Model = None, open_only: _Open = False) -> Answer:
    """List alerts, the gravest open ones first; `mlp alerts` alone does the same."""
    from ml_platform.lifecycle import list_alerts

    document = list_alerts(session.platform(), model, open_only=open_only)
    return Answer(document, [_alerts(document["alerts"])])


@alert_commands.add("show", examples=["mlp alerts show al-0f3a5c7e9b120f3a5c7e --root roots/demo"])
def show(session: Session, alert: _Alert) -> Answer:
    """Show one alert with the numbers behind it."""
    from ml_platform.lifecycle import show_alert

    document = show_alert(session.platform(), alert)
    about = [
        (name.replace("_", " "), moment(found) if name.endswith("_at") else value(found))
        for name, found in document.items()
        if name != "judgement"
    ]
    numbers = [
        (name.replace("_", " "), value(found)) for name, found in document["judgement"].get("numbers", {}).items()
    ]
    return Answer(document, [Fields(about), Section("Numbers"), Fields(numbers)])


@alert_commands.add(
    "ack",
    examples=['mlp alerts ack al-0f3a5c7e9b120f3a5c7e --reason "The new term is known." --root roots/demo'],
)
def ack(session: Session, alert: _Alert, reason: ReasonOption, principal: PrincipalOption = None) -> Answer:
    """Say that you look after an open alert; the reason is kept as evidence."""
    from ml_platform.lifecycle import acknowledge_alert, deliver_notices

    platform = session.platform()
    document = acknowledge_alert(platform, alert, principal=session.principal(principal, platform), reason=reason)
    deliver_notices(platform)
    return Answer(document, [Line(f"{alert}: {document['acknowledged_by']} looks after it.")])


@alert_commands.add("close", examples=["mlp alerts close al-0f3a5c7e9b120f3a5c7e --root roots/demo"])
def close(session: Session, alert: _Alert, principal: PrincipalOption = None) -> Answer:
    """Close an alert by hand: one that no window will say anything about again."""
    from ml_platform.lifecycle import close_alert, deliver_notices

    platform = session.platform()
    document = close_alert(platform, alert, principal=session.principal(principal, platform))
    deliver_notices(platform)
    return Answer(document, [Line(f"{alert} is closed.")])


@alert_commands.add("deliver", examples=["mlp alerts deliver --root roots/demo"])
def deliver(session: Session) -> Answer:
    """Send what the routes of the settings have not been told yet; a failing route stops no other."""
    from ml_platform.lifecycle import deliver_notices

    found = [one.to_json() for one in deliver_notices(session.platform())]
    rows = [(one["route"], count(one["sent"]), one["failed"] or "up to date") for one in found]
    table = Table(("route", "sent now", "state"), rows, empty="the settings name no route")
    return Answer({"routes": found}, [table], exit_code=9 if any(one["failed"] for one in found) else 0)


group = new_app("Alerts: list, show, acknowledge, close, deliver; alone it lists them.")
alert_commands.attach(group)


@group.callback(invoke_without_command=True)
def _default(
    context: typer.Context,
    model: _Model = None,
    open_only: _Open = False,
    root: RootOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    if context.invoked_subcommand is None:
        run_framed(show_all, Session(root, Screen(as_json), debug), {"model": model, "open_only": open_only})
    elif root is not None or model is not None or open_only or as_json or debug:
        raise typer.BadParameter("Write the options after the subcommand: mlp alerts list --root DIR.")
