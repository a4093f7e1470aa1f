"""``mlp seal``: the supervised process that moves logged decisions into the lake and the audit log."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_platform.cli.blocks import Answer, Block, Fields, Section, Table
from ml_platform.cli.frame import Commands
from ml_platform.cli.problems import Problem
from ml_platform.cli.session import Session
from ml_platform.cli.text import count, value

if TYPE_CHECKING:
    from ml_platform.lifecycle.sealing import SealReport

__all__ = ["commands", "until_signal"]

commands = Commands()


def parse_seconds(text: str) -> float:
    """An exact duration such as ``5s``, in seconds."""
    from ml_platform.core.durations import Duration
    from ml_platform.core.errors import DeclarationError

    try:
        found = Duration.parse(text)
    except DeclarationError:
        found = None
    if found is None or found.months or not 0 < found.microseconds <= 60_000_000:
        raise typer.BadParameter("Write a pause of at most a minute, such as 5s.")
    return found.microseconds / 1_000_000


@commands.add("seal", examples=["mlp seal --follow --every 5s --root roots/bank", "mlp seal --once --json"])
def seal(
    session: Session,
    once: Annotated[bool, typer.Option("--once", help="One pass over what is closed; the default.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C or a TERM signal.")] = False,
    every: Annotated[
        Any, typer.Option("--every", parser=parse_seconds, metavar="PAUSE", help="The pause between two passes.")
    ] = "5s",
) -> Answer | None:
    """Move what routers and streams recorded into the lake and the audit log, exactly once; adopt logs of dead routers.

    One sealer works in a root at a time; it can be killed at any moment and goes on from what is there. A signal ends
    it after the pass that has begun.
    """
    from ml_platform.lifecycle import seal_once

    if once and follow:
        raise typer.BadParameter("Give --once or --follow.")
    if follow:
        _follow(session, parse_seconds(every) if isinstance(every, str) else float(every))
        return None
    with session.screen.step("sealing"):
        report = seal_once(session.platform())
    return Answer(report.to_json(), _blocks(report), _said(session, report))


def _follow(session: Session, every_seconds: float) -> None:
    """Runs until a signal; each pass that found something is one line."""
    from ml_platform.core.errors import PlatformError
    from ml_platform.lifecycle import seal_follow

    platform = session.platform()
    last: list[str] = []

    def failed(error: PlatformError) -> None:
        line = Problem.of(error).line()
        if last != [line]:  # a full disk stays full for a while
            session.screen.remark(line)
            last[:] = [line]

    def said(report: SealReport) -> None:
        last.clear()
        session.screen.remark(_line(report))
        _said(session, report)

    with until_signal() as stop:
        session.screen.remark(f"sealing {platform.root.name} every {every_seconds:g} s; Ctrl-C ends it")
        seal_follow(platform, every_seconds=every_seconds, stop=stop, said=said, failed=failed)
    session.screen.remark("stopped; nothing is half-done")


@contextmanager
def until_signal() -> Iterator[Event]:
    """An event that Ctrl-C or a TERM signal sets; a second Ctrl-C interrupts at once."""
    stop = Event()
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:  # noqa: ARG001 - the signature of a handler
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for one in before:
        signal.signal(one, handle)
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _line(report: SealReport) -> str:
    parts = [f"{count(report.records)} decisions in {count(len(report.segments))} segments"]
    parts += [f"{count(report.refused)} refused"] if report.refused else []
    parts += [f"{count(report.late)} late"] if report.late else []
    parts += [f"{count(len(report.closed))} writers closed"] if report.closed else []
    return f"sealed {', '.join(parts)} ({report.seconds:.2f} s)"


def _blocks(report: SealReport) -> list[Block]:
    return [
        Section(_line(report)),
        Fields(
            [
                ("segments", value(report.segments)),
                ("dead writers adopted", value(report.adopted)),
                ("closed", value(report.closed)),
                ("recorded late", count(report.late)),
            ]
        ),
        Table(("file", "torn bytes cut"), [(name, count(size)) for name, size in report.torn.items()], "nothing torn"),
    ]


def _said(session: Session, report: SealReport) -> int:
    """Tells what was torn and which writers have a problem; the exit code of the first of those."""
    for name, size in report.torn.items():
        session.screen.remark(
            f"mlp: {name}: {count(size)} bytes of an unfinished write were cut; they answered nobody."
        )
    problems = [Problem.of(error) for error in report.problems.values()]
    for problem in problems:
        session.screen.remark(problem.line())
    return problems[0].exit_code if problems else 0
