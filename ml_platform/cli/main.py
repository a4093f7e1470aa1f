"""``mlp``: parses the command line, runs one command, exits with its code.

Importing this module loads neither Dagster nor any data library: ``mlp --help`` must answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ml_platform.cli import (
    adopting,
    building,
    evidence,
    features,
    keys,
    lineage,
    monitoring,
    reading,
    retraining,
    rollout,
    roots,
    sealing,
    serving,
    skew,
    stages,
)
from ml_platform.cli.frame import new_app
from ml_platform.cli.problems import UNEXPECTED, Problem, report

__all__ = ["app", "main", "run"]

EXIT_CODES = (
    "Exit codes: 0 done, 1 unexpected, 2 usage, declaration or settings, 3 data, 4 not found, 5 integrity, "
    "6 conflict, 7 refused by a rule, 8 not reproducible, 9 storage, 130 Ctrl-C."
)

app = new_app(f"Governed models: declare, train, approve, decide, and trace every decision.\n\n{EXIT_CODES}")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"mlp {version('dagster-ml-platform')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for module in (roots, building, adopting, stages, reading, evidence, sealing, serving, monitoring, skew, rollout):
    module.commands.attach(app)
app.add_typer(keys.group, name="keys")
app.add_typer(features.group, name="features")
app.add_typer(lineage.group, name="lineage")
app.add_typer(monitoring.group, name="alerts")
app.add_typer(retraining.group, name="retrain")
app.add_typer(rollout.group, name="rollout")


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(args=given, prog_name="mlp", standalone_mode=False)
    except typer.Abort:
        return report(Problem.of(KeyboardInterrupt()), as_json="--json" in given)
    except Exception as error:  # noqa: BLE001 - the border: whatever happens becomes one line
        if not callable(getattr(error, "format_message", None)):  # what the parser raises, in typer or in click
            return report(Problem.of(error), as_json="--json" in given, debug="--debug" in given, error=error)
        return report(_usage(error), as_json="--json" in given)
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> Problem:
    message = error.format_message().replace("\n", " ").strip()
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    message = message if message.endswith((".", "?", ")")) else f"{message}."
    field = None if parameter is None else str(parameter.opts[-1])
    return Problem.usage(message, getattr(context, "command_path", None) or "mlp", field)


def main() -> None:
    """The entry point of the command ``mlp``."""
    try:
        code = run()
    except KeyboardInterrupt:  # before any command had begun
        code = report(Problem.of(KeyboardInterrupt()), as_json="--json" in sys.argv)
    sys.exit(code if 0 <= code < 256 else UNEXPECTED)
