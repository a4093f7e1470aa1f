"""The frame around every command: common options, examples in the help, one line for a failure.

A command is a function ``(session, …) -> Answer`` whose docstring begins with its promise. The frame adds ``--root``,
``--json`` and ``--debug``, shows the answer, and turns errors into exit codes; so no command can forget any of it.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from ml_platform.cli.blocks import Answer
from ml_platform.cli.problems import Problem, report
from ml_platform.cli.screen import Screen
from ml_platform.cli.session import Session

__all__ = ["Body", "Commands", "DebugOption", "JsonOption", "RootOption", "new_app", "run_framed"]

Body: TypeAlias = Callable[..., Answer | None]
_Function = TypeVar("_Function", bound=Body)
RootOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="The root folder; else ML_PLATFORM_SETTINGS names its settings file."),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")
]
DebugOption: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]


def new_app(text: str) -> typer.Typer:
    """An empty command group: plain help, no completion installer, no traceback decoration."""
    return typer.Typer(
        help=text,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


class Commands:
    """The commands of one module, in the order in which they are written."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str, str, Callable[..., None]]] = []

    def add(self, name: str, *, examples: Sequence[str]) -> Callable[[_Function], _Function]:
        """Makes a function a command.

        Args:
            name: as it is typed.
            examples: command lines that work, at least one; they end the help.
        """

        def register(function: _Function) -> _Function:
            text = inspect.cleandoc(function.__doc__ or "")
            promise = " ".join(text.split("\n\n")[0].split())
            self._found.append((name, promise, _with_examples(text, examples), _framed(function)))
            return function

        return register

    def attach(self, app: typer.Typer) -> None:
        """Adds all of them to a group."""
        for name, promise, text, run in self._found:
            app.command(name, short_help=promise, help=text)(run)


def _framed(function: Body) -> Callable[..., None]:
    """The function without its session, with the common options; typer reads them from the signature."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    common = (("root", None, RootOption), ("as_json", False, JsonOption), ("debug", False, DebugOption))
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, default, annotation in common
    ]

    def run(*, root: Path | None, as_json: bool, debug: bool, **arguments: Any) -> None:
        run_framed(function, Session(root, Screen(as_json), debug), arguments)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def run_framed(function: Body, session: Session, arguments: dict[str, Any]) -> None:
    """Runs a command's body; whatever happens ends in an exit code.

    Raises:
        typer.Exit: with the code, unless it is 0.
    """
    try:
        answer = function(session, **arguments)
        if answer is not None:
            session.screen.show(answer)
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except BrokenPipeError:
        # Whoever read us has gone (`mlp … | head`): that is no failure of ours, and Python must not say so at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the border: whatever happens becomes one line
        code = report(Problem.of(error), as_json=session.screen.as_json, debug=session.debug, error=error)
        raise typer.Exit(code) from None
    if answer is not None and answer.exit_code:
        raise typer.Exit(answer.exit_code)


def _with_examples(text: str, examples: Sequence[str]) -> str:
    lines = "\n".join(f"  {example}" for example in examples)
    heading = "Example:" if len(examples) == 1 else "Examples:"
    return f"{text}\n\n\b\n{heading}\n{lines}"
