"""Commands about a whole root: the demo, a new root, Dagster's UI on one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ml_platform.cli.blocks import Answer, Fields, Line
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import parse_pairs, parse_root_kind, time_option
from ml_platform.cli.session import Session
from ml_platform.cli.text import clock_text

if TYPE_CHECKING:
    from ml_platform.registry.genesis import Member

__all__ = ["commands"]

commands = Commands()
DEMO_ROOT: Final = Path("roots/demo")
DEPLOYMENT: Final = ("assets", "definitions.py", "workspace.yaml")
DEFAULT_PORT: Final = 3000


@commands.add("demo", examples=["mlp demo", "mlp demo --data loans/ --root roots/real --json"])
def demo(
    session: Session,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Folder of real loans; else the simulated lending market."),
    ] = None,
) -> Answer:
    """Replay eighteen months of lending: two versions, monthly decisions, refused candidates, one trace.

    It needs a checkout of the project and makes its root in roots/demo unless --root says otherwise. Run again in
    the same root, it continues or says what exists.
    """
    folder = _checkout()
    from ml_platform.cli.demo_view import demo_blocks
    from ml_platform.orchestration.demo import run

    with redirect_stdout(sys.stderr), _interruptible():  # what Dagster prints is progress; stdout is for the answer
        document = run(root=session.root or DEMO_ROOT, data=data, folder=folder, say=session.screen.remark)
    return Answer(document, demo_blocks(document))


@commands.add(
    "init",
    examples=[
        "mlp init --root roots/bank --kind wall --member alice=alice.pub --member bob=bob.pub",
        "mlp init --root roots/trial --kind replay --member alice=alice.pub --starts-at 2010-01-01",
        "mlp init --root roots/s3 --member alice=alice.pub --lake s3://credit/lake --objects s3://credit/store",
    ],
)
def init(
    session: Session,
    member: Annotated[
        list[str],
        typer.Option(
            "--member", metavar="ID=FILE", help="An officer and approver with the file of the public key; repeatable."
        ),
    ],
    email: Annotated[
        list[str] | None,
        typer.Option(
            "--email",
            metavar="ID=ADDRESS",
            help="A member's e-mail, by which commit authors are recognised. Kept as a salted commitment.",
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", parser=parse_root_kind, metavar="KIND", help="wall or replay, for ever.")
    ] = "wall",
    threshold: Annotated[
        int, typer.Option("--threshold", min=1, metavar="N", help="How many officers sign for a key or a policy.")
    ] = 1,
    unavailable: Annotated[
        list[str] | None,
        typer.Option(
            "--unavailable", metavar="ATTRIBUTE=REASON", help="A protected attribute without data here; repeatable."
        ),
    ] = None,
    starts_at: Annotated[
        datetime | None, time_option("--starts-at", "Where the clock of a replay root stands at first.")
    ] = None,
    lake: Annotated[
        str | None, typer.Option("--lake", metavar="URL", help="Where the tables lie, if not in the root's folder.")
    ] = None,
    objects: Annotated[
        str | None,
        typer.Option("--objects", metavar="URL", help="Where artifacts and evidence lie, if not in the root's folder."),
    ] = None,
    storage: Annotated[
        list[str] | None,
        typer.Option("--storage", metavar="NAME=VALUE", help="A setting of [storage], no credential; repeatable."),
    ] = None,
) -> Answer:
    """Make a root and its genesis: who the officers are, under which policy, in which clock.

    The platform's identity is printed: keep it outside the root and give it to `mlp verify --genesis`.
    """
    from ml_platform.core.errors import SettingsError
    from ml_platform.core.settings import ENVIRONMENT_VARIABLE
    from ml_platform.platform import Platform

    if session.root is None:
        raise SettingsError("A new root needs a folder.", field="--root", next_step="Give --root DIR.")
    platform = Platform.create(
        session.root,
        kind=kind,  # type: ignore[arg-type]  # the parser has checked it
        members=[_member(principal, Path(file)) for principal, file in parse_pairs(member, "--member").items()],
        member_emails={principal: [address] for principal, address in parse_pairs(email, "--email").items()},
        unavailable=parse_pairs(unavailable, "--unavailable"),
        threshold=threshold,
        starts_at=starts_at,
        settings=_stores(lake, objects, parse_pairs(storage, "--storage")),
    )
    genesis = platform.registry.state().genesis
    document = {
        "root": str(platform.root),
        "kind": kind,
        "genesis": genesis.platform if genesis else None,
        "root_id": platform.root_id,
        "members": sorted(parse_pairs(member, "--member")),
    }
    fields = [(name.replace("_", " "), _text(value)) for name, value in document.items()]
    settings = quote(str(session.settings_file().resolve()))
    lines = [
        Line("Keep the genesis digest outside the root."),
        Line(f"Commands work on this root with --root, or after: export {ENVIRONMENT_VARIABLE}={settings}"),
    ]
    return Answer(document, [Fields(fields), *lines])


@commands.add("clock", examples=["mlp clock --root roots/demo", "mlp clock --move 2010-07-01 --root roots/trial"])
def clock(
    session: Session,
    move: Annotated[
        datetime | None, time_option("--move", "Where the clock of a replay root stands from now on; only forward.")
    ] = None,
) -> Answer:
    """Show where the platform's clock stands, and in a replay root move it forward.

    A wall root has the machine's clock, which nobody moves.
    """
    from ml_platform.lifecycle import read_clock

    platform = session.platform()
    if move is not None:
        platform.replay.move(move)
    found = read_clock(platform)
    return Answer(found, [Fields([("clock", clock_text(found))])])


@commands.add("dev", examples=["mlp dev --root roots/demo", "mlp dev --root roots/demo --port 3001"])
def dev(
    session: Session,
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port of the UI.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open Dagster's UI and daemon on a root until Ctrl-C, which stops all of it.

    Dagster's own state is in the root's folder `dagster`. With --json the object {url, root, pid} is printed once
    the UI answers.
    """
    from ml_platform.cli.dev_server import Server
    from ml_platform.core.settings import load_settings

    settings = load_settings(session.settings_file())
    server = Server(settings_file=session.settings_file().resolve(), folder=_checkout(), host=host, port=port)

    def ready() -> None:
        if session.screen.as_json:
            session.screen.document({"url": server.url, "root": str(settings.root), "pid": server.pid})
        else:
            session.screen.show(Answer({}, [Line(f"Dagster is at {server.url} (Ctrl-C stops it).")]))

    server.run(ready=ready, say=session.screen.remark)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C within a run of Dagster comes out as Dagster's own exception, which is none of ours and no failure."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "DagsterExecutionInterruptedError":
            raise KeyboardInterrupt from error
        raise


def _checkout() -> Path:
    """The current folder, if it is a code location.

    Raises:
        NotFound: it is not; the wheel alone has no deployment.
    """
    from ml_platform.core.errors import NotFound

    folder = Path.cwd()
    missing = [name for name in DEPLOYMENT if not (folder / name).exists()]
    if missing:
        raise NotFound(
            f"This needs a checkout of the project; the current folder has no {', '.join(missing)}.",
            next_step="Clone the project, change into its folder, and run the command there.",
        )
    return folder


def _member(principal: str, file: Path) -> Member:
    from ml_platform.cli.keys import public_line
    from ml_platform.registry.genesis import Member

    return Member(principal, public_line(file))


def _stores(lake: str | None, objects: str | None, storage: dict[str, str]) -> dict[str, Any]:
    """What the settings file says of stores; numbers and true/false become what they mean."""
    options = {name: _value(text) for name, text in storage.items()}
    given = {"lake": lake, "objects": objects, "storage": options}
    return {name: value for name, value in given.items() if value}


def _value(text: str) -> str | int | bool:
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if text.isascii() and text.isdecimal() else text


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
