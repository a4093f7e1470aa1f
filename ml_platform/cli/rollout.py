"""``mlp rollout`` and ``mlp shadow``: a version's way from a shadow to all units."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from ml_platform.cli.blocks import Answer, Block, Fields, Line, Section, Table
from ml_platform.cli.frame import Commands, new_app
from ml_platform.cli.options import ModelArgument, PrincipalOption, time_option
from ml_platform.cli.sealing import until_signal
from ml_platform.cli.session import Session
from ml_platform.cli.text import count, moment, value

__all__ = ["commands", "group"]

rollouts = Commands()
commands = Commands()
_SHOWN = ("pairs", "refused", "not_comparable", "timed_out", "failed", "own", "erased")


@rollouts.add("status", examples=["mlp rollout status credit_risk --root roots/demo"])
def status(session: Session, model: ModelArgument) -> Answer:
    """Show where the canary stands, what its arms did, and what each guardrail says now; writes nothing."""
    from ml_platform.lifecycle import rollout_status

    found = rollout_status(session.platform(), model)
    share = f"{found['share_bp'] / 100:g} % of the units"
    blocks: list[Block] = [Section(f"{model} version {found['version']} beside {value(found['primary'])}: {share}")]
    if found["judgement"] is not None:
        blocks += _judgement(found)
    rows = [(str(one["log_index"]), one["decision"], f"{one['share_bp'] / 100:g} %", one["actor"],
             moment(one["effective_at"])) for one in found["decisions"]]  # fmt: skip
    blocks += [Section("Decisions"), Table(("entry", "decision", "share", "by", "at"), rows, "none yet")]
    return Answer(found, blocks)


def _judgement(found: Mapping[str, Any]) -> list[Block]:
    names = ("units", "answered", "refused", "decided", "declined")
    arms = [(arm, *(count(numbers[name]) for name in names)) for arm, numbers in found["arms"].items()]
    said = found["judgement"]
    rails = [
        (one["guardrail"], _bound(one["low"]), _bound(one["high"]), f"{one['margin']:g} {one['unit']}", one["says"])
        for one in said["guardrails"]
    ]
    return [
        Table(("arm", *names), arms),
        Section("Guardrails: canary less primary"),
        Table(("guardrail", "at least", "at most", "margin of harm", "harm"), rails),
        Line(f"The evidence says: {said['decision']}."),
        *(Line(reason) for reason in said["reasons"]),
    ]


def _bound(found: float | None) -> str:
    return "?" if found is None else f"{found:.4g}"


@rollouts.add(
    "advance",
    examples=[
        "mlp rollout advance credit_risk --root roots/demo",
        'mlp rollout advance credit_risk --despite "Few requests, none of them odd" --principal bob',
    ],
)
def advance(
    session: Session,
    model: ModelArgument,
    despite: Annotated[
        str | None,
        typer.Option(
            "--despite", metavar="REASON", help="Advance though the evidence holds or asks; kept as evidence."
        ),
    ] = None,
    principal: PrincipalOption = None,
) -> Answer:
    """Judge the canary's step and carry the decision out: the next share, a rollback, or nothing yet.

    Harm that the evidence shows cannot be overruled. After the last step production is one `mlp promote` away, with
    its approvals as always. A rollback gives the units back at once and archives the version.
    """
    from ml_platform.lifecycle import advance_rollout

    platform = session.platform()
    made = advance_rollout(platform, model, actor=session.principal(principal, platform), despite=despite)
    text = f"{made.decision}: version {made.version} has {made.share_bp / 100:g} % of the units."
    ready = f"Every step is passed: `mlp promote {model} {made.version} --to production --reason …`."
    return Answer(
        made.to_json(), [Line(text), *(Line(reason) for reason in made.reasons), *([Line(ready)] if made.ready else [])]
    )


@commands.add(
    "shadow",
    examples=[
        "mlp shadow credit_risk --once --root roots/demo",
        "mlp shadow credit_risk --version 2 --since 2011-05-01 --once --json",
        "mlp shadow credit_risk --follow --rate 200",
        "mlp shadow credit_risk --version 2 --report",
    ],
)
def shadow(
    session: Session,
    model: ModelArgument,
    version: Annotated[
        int | None, typer.Option("--version", min=1, metavar="N", help="Which; else the newest in staging or canary.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Everything logged until now; the default.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C or a TERM signal.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Only tell how far the two agree; needs --version.")] = False,
    since: Annotated[
        datetime | None, time_option("--since", "The first run begins here; else when the version was registered.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.001, metavar="N", help="Decisions a second at most.")
    ] = None,
) -> Answer:
    """Score logged decisions by a version beside the one that decided, each once; nobody waits for it.

    It reads the log only: no router loads the version, and one that hangs is killed and counted.
    """
    from ml_platform import lifecycle

    if sum((once, follow, report)) > 1:
        raise typer.BadParameter("Give one of --once, --follow and --report.")
    platform = session.platform()
    if report:
        if version is None:
            raise typer.BadParameter("--report needs --version.")
        return _agreement(lifecycle.shadow_report(platform, model, version))
    if follow:
        with until_signal() as stop:
            session.screen.remark(f"shadowing decisions of {model}; Ctrl-C ends it")
            made = lifecycle.shadow_follow(
                platform, model, version, since=since, rate=rate, stop=stop,
                said=lambda found: session.screen.remark(_taken(found)),
            )  # fmt: skip
    else:
        with session.screen.step(f"shadowing decisions of {model}"):
            made = lifecycle.shadow_once(platform, model, version, since=since, rate=rate)
    found = {**made, "agreement": lifecycle.shadow_report(platform, model, int(made["version"]))}
    return Answer(found, [Line(_taken(made)), *_agreement(found["agreement"]).blocks])


def _taken(made: Mapping[str, Any]) -> str:
    parts = [f"{count(made[name])} {name.replace('_', ' ')}" for name in _SHOWN if made[name]]
    return f"version {made['version']}: {count(made['taken'])} taken now; in all {', '.join(parts) or 'none'}"


def _agreement(found: dict[str, Any]) -> Answer:
    blocks: list[Block] = [Section(f"{found['model']} version {found['version']} as a shadow")]
    shares = found["disagreement"]
    fields = [("pairs", count(found["pairs"])), ("other decisions", count(found["disagreements"]))]
    if shares is not None:
        fields.append(
            ("share of other decisions", f"{shares['point']:.4f} [{shares['low']:.4f}, {shares['high']:.4f}]")
        )
    fields += [(name.replace("_", " "), count(found[name])) for name in ("waiting", *_SHOWN[1:]) if found[name]]
    blocks.append(Fields(fields))
    if found["score_difference"] is not None:
        rows = [(name, f"{gap:+.4f}") for name, gap in found["score_difference"].items()]
        blocks += [Section("Score: shadow less primary"), Table(("", "difference"), rows)]
    return Answer(found, blocks)


group = new_app("A canary's way: judged by evidence, step by step.")
rollouts.attach(group)
