"""Commands that answer an auditor: trace a decision, verify the log, reproduce a version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_platform.cli.blocks import Answer, Block, Fields, Section, Table
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import ModelArgument, VersionArgument, parse_pairs, time_option
from ml_platform.cli.problems import Problem
from ml_platform.cli.session import Session
from ml_platform.cli.text import count, value

if TYPE_CHECKING:
    from ml_platform.governance import Trace
    from ml_platform.platform import Platform

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

    def traced() -> Trace:
        if prediction is not None:
            return governance.trace(platform, prediction)
        return governance.trace_entity(platform, model or "", keys, at)

    document = _or_from_topics(platform, traced).to_json()
    return Answer(document, trace_blocks(document))


def _or_from_topics(platform: Platform, traced: Callable[[], Trace]) -> Trace:
    """The trace; where nothing is found, once more with what streams have committed since the last sealing."""
    from ml_platform.core.errors import NotFound
    from ml_platform.lifecycle import pull_records

    try:
        return traced()
    except NotFound:
        if not platform.settings.kafka.servers or not pull_records(platform).records:
            raise
        return traced()


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
    deep: Annotated[bool, typer.Option("--deep", help="Also compute every score and gate interval again.")] = False,
) -> Answer:
    """Judge the whole log and everything it commits to again, and name what is not as it must be.

    Exit codes: 0 verified, 5 tampered, 10 incomplete (evidence is missing), 11 unwitnessed. Without --since the
    answer is "internally consistent only".
    """
    from ml_platform import governance
    from ml_platform.cli.stages import read_file

    note = None if since is None else read_file(since, "--since")
    with session.screen.step("verifying"):
        report = governance.verify(session.platform(), since=note, genesis=genesis, deep=deep)
    document = report.to_json()
    found = [(one["severity"], one["where"], one["found"], one["expected"]) for one in document["findings"]]
    blocks: list[Block] = [
        Section(report.statement),
        Fields(
            [
                ("entries", count(document["entries"])),
                ("root", value(document["root"])),
                ("platform", value(document["genesis"])),
                ("checkpoints", count(document["checkpoints"])),
                *((f"{name.replace('_', ' ')} looked at", count(rows)) for name, rows in document["counts"].items()),
            ]
        ),
        Table(("severity", "where", "found", "expected"), found, empty="nothing is wrong"),
    ]
    if not report.ok:
        session.screen.remark(f"mlp: {report.statement}")
    return Answer(document, blocks, report.exit_code)


@commands.add(
    "reproduce",
    examples=["mlp reproduce credit_risk 1 --root roots/demo", "mlp reproduce credit_risk 1 --keep bundle --json"],
)
def reproduce(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Keep the bundle and what was built there. It holds personal data."),
    ] = None,
    declared_in: Annotated[
        str | None,
        typer.Option("--declared-in", metavar="MODULE:MODEL", help="Where a trainer that is code is declared."),
    ] = None,
) -> Answer:
    """Rebuild a version from its record in a fresh process, compare it bit for bit, and name what differs.

    The stored artifact is not needed. Exit code 8: it was not reproduced.
    """
    from tempfile import TemporaryDirectory

    from ml_platform import governance

    with TemporaryDirectory(prefix="mlp-reproduce-") as folder, session.screen.step(f"rebuilding {model} {version}"):
        workdir = keep or Path(folder) / "bundle"
        found = governance.reproduce(session.platform(), model, version, workdir=workdir, declared_in=declared_in)
    document = found.to_json()
    blocks: list[Block] = [
        Section(found.statement),
        Fields([("registered artifact", found.artifact_digest), ("rebuilt artifact", value(found.rebuilt_digest))]),
        *_differences("Inputs that differ", document["differs"]),
        *_differences("Surroundings that differ, without breaking a promise", document["surroundings"]),
    ]
    if found.reproduced:
        return Answer(document, blocks)
    return Answer(document, blocks, _said(session, found.require))


def _differences(title: str, found: Sequence[Mapping[str, Any]]) -> list[Block]:
    rows = [(str(one["input"]), value(one["recorded"]), value(one["found"])) for one in found]
    return [Section(title), Table(("input", "recorded", "found"), rows)] if rows else []


def _said(session: Session, require: Callable[[], None]) -> int:
    """Says a negative answer's error on stderr too, and gives its exit code; the answer itself is still shown."""
    from ml_platform.core.errors import PlatformError

    try:
        require()
    except PlatformError as error:
        problem = Problem.of(error)
        session.screen.remark(problem.line())
        return problem.exit_code
    return 0
