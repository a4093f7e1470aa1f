"""Commands that answer an auditor: trace a decision, verify the log, reproduce a version."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ml_platform.cli.blocks import Answer, Block, Fields, Line, Section, Table
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import ModelArgument, VersionArgument, parse_pairs, time_option
from ml_platform.cli.session import Session
from ml_platform.cli.text import count, value

__all__ = ["commands"]

commands = Commands()


@commands.add(
    "trace",
    examples=[
        "mlp trace 0129c8f2-5c00-8a3b-9d1e-2f6f5a7c9b10 --root roots/demo",
        "mlp trace --model credit_risk --entity loan_id=112233 --at 2011-03-31",
        "mlp trace --model credit_risk --entity loan_id=112233 --json > answer.json",
    ],
)
def trace(
    session: Session,
    prediction: Annotated[str | None, typer.Argument(help="The prediction id; else --model and --entity.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Whose decision it is.")] = None,
    entity: Annotated[
        list[str] | None,
        typer.Option("--entity", metavar="KEY=VALUE", help="The entity's key; repeatable for keys of several parts."),
    ] = None,
    at: Annotated[datetime | None, time_option("--at", "The decision that held then; now by default.")] = None,
) -> Answer:
    """Answer for one decision: which version decided, why, on which data, approved by whom, with proofs, checked."""
    from ml_platform import governance
    from ml_platform.cli.trace_view import trace_blocks

    keys = parse_pairs(entity, "--entity")
    if (prediction is None) == (not keys) or (bool(keys) and model is None):
        raise typer.BadParameter("Give a prediction id, or --model with --entity KEY=VALUE.")
    platform = session.platform()
    if prediction is not None:
        found = governance.trace(platform, prediction)
    else:
        found = governance.trace_entity(platform, model or "", keys, at)
    document = found.to_json()
    return Answer(document, trace_blocks(document))


@commands.add(
    "verify",
    examples=[
        "mlp verify --root roots/demo",
        "mlp verify --since checkpoint.note --genesis sha256:4f0c… --root roots/bank",
    ],
)
def verify(
    session: Session,
    since: Annotated[
        Path | None,
        typer.Option("--since", metavar="FILE", help="A checkpoint that you kept: the log must extend it."),
    ] = None,
    genesis: Annotated[
        str | None,
        typer.Option("--genesis", metavar="DIGEST", help="The platform's identity, as you know it from elsewhere."),
    ] = None,
) -> Answer:
    """Judge the whole log and what it commits to again, and name the first thing that is not as it must be.

    Exit codes: 0 verified, 5 tampered, 10 incomplete (evidence is missing), 11 unwitnessed. Without --since the
    answer is "internally consistent only".
    """
    from ml_platform.cli.stages import read_file

    note = None if since is None else read_file(since, "--since")
    with session.screen.step("verifying"):
        report = session.platform().registry.verify(since=note, genesis=genesis)
    document = report.to_json()
    problems = [(one["grade"], value(one["entry"]), one["what"], one["expected"]) for one in document["problems"]]
    blocks: list[Block] = [
        Section(report.statement),
        Fields(
            [
                ("entries", count(document["entries"])),
                ("root", value(document["root"])),
                ("platform", value(document["genesis"])),
                ("checkpoints", count(document["checkpoints"])),
            ]
        ),
        Table(("grade", "entry", "what", "expected"), problems, empty="no problem found"),
    ]
    return Answer(document, blocks, report.exit_code)


@commands.add("reproduce", examples=["mlp reproduce credit_risk 1 --root roots/demo"])
def reproduce(session: Session, model: ModelArgument, version: VersionArgument) -> Answer:
    """Rebuild a version from its record in a fresh process and compare it bit for bit; name what differs."""
    from ml_platform import governance

    with session.screen.step(f"rebuilding {model} version {version}"):
        result = governance.reproduce(session.platform(), model, version)
    document = result.to_json()
    return Answer(document, [Line(value(document))])
