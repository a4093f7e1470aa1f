"""Commands of online serving: the server in the foreground, and one question to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_platform.cli.blocks import Answer, Fields, Line, Section
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import DEFAULT_MODELS, ModelArgument, ModelsOption, parse_pairs
from ml_platform.cli.processes import termination_as_interrupt
from ml_platform.cli.session import Session
from ml_platform.cli.text import value

if TYPE_CHECKING:
    from ml_platform.serving.triton.boot import Boot

__all__ = ["commands"]

commands = Commands()


class EdgeChoice(StrEnum):
    """What stands before the REST port."""

    auto = "auto"
    nginx = "nginx"
    none = "none"


def _port(name: str, what: str) -> Any:
    return typer.Option(name, min=0, max=65_535, help=f"Port for {what}; else the settings, else a free one.")


@commands.add(
    "serve",
    examples=["mlp serve --root roots/demo", "mlp serve --root roots/demo --http-port 8000 --edge nginx"],
)
def serve(
    session: Session,
    models: ModelsOption = DEFAULT_MODELS,
    host: Annotated[str | None, typer.Option("--host", help="Address; else the settings, else 127.0.0.1.")] = None,
    http_port: Annotated[int | None, _port("--http-port", "KServe V2 over HTTP")] = None,
    grpc_port: Annotated[int | None, _port("--grpc-port", "KServe V2 over gRPC")] = None,
    metrics_port: Annotated[int | None, _port("--metrics-port", "Prometheus metrics")] = None,
    edge: Annotated[
        EdgeChoice, typer.Option("--edge", help="What reads REST requests first: nginx, none, or auto: nginx if here.")
    ] = EdgeChoice.auto,
) -> None:
    """Run Triton with the routed versions of the models in the foreground, until Ctrl-C.

    A version that a route names later is loaded then. A server that crashes is started again, on the same ports, with
    exactly the routed versions. With `--json` each start prints one object with the ports.
    """
    from ml_platform import lifecycle
    from ml_platform.core.settings import load_settings

    settings_file = session.settings_file()
    settings = load_settings(settings_file)
    declared = session.models(models)

    def ready(boot: Boot) -> None:
        where = host or settings.serving.host
        document = {
            "http": f"http://{where}:{boot.rest_port}",
            "grpc": f"{where}:{boot.grpc_port}",
            "metrics": f"http://{where}:{boot.metrics_port}/metrics",
            "edge": "nginx" if boot.edge_port else "none",
            "pid": boot.pid,
        }
        if session.screen.as_json:
            session.screen.document(document)
        for name, found in document.items():
            session.screen.remark(f"{name:<8} {found}")
        session.screen.remark("Ready; Ctrl-C stops it.")

    session.screen.remark("Starting the inference server …")
    with termination_as_interrupt():
        try:
            lifecycle.serve(
                settings_file,
                declared,
                ready=ready,
                say=session.screen.remark,
                host=host,
                http_port=http_port,
                grpc_port=grpc_port,
                metrics_port=metrics_port,
                edge=edge.value,
            )
        except KeyboardInterrupt:
            session.screen.remark("The inference server has stopped.")


@commands.add(
    "predict",
    examples=[
        "mlp predict credit_risk --file row.json --root roots/demo",
        "mlp predict purchases --set amount=20 --set country=FR --null age --json",
    ],
)
def predict(
    session: Session,
    model: ModelArgument,
    file: Annotated[Path | None, typer.Option("--file", help="JSON object: field to value, null for none.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="A field; repeatable.")] = None,
    null: Annotated[list[str] | None, typer.Option("--null", metavar="FIELD", help="A field that is null.")] = None,
) -> Answer:
    """Ask the running server for one decision; it is recorded, and `mlp trace` finds it by its id.

    Times are written like 2010-03-31T12:00:00Z. `--set` and `--null` win over the file.
    """
    from ml_platform import lifecycle

    values: dict[str, Any] = _read(file) if file is not None else {}
    values |= parse_pairs(set_, "--set")
    values |= dict.fromkeys(null or [])
    if not values:
        raise typer.BadParameter("Give the request by --file or --set.")
    document = lifecycle.predict(session.settings_file().parent, model, values)
    return Answer(document, _blocks(model, document))


def _read(file: Path) -> dict[str, Any]:
    from ml_platform.core.errors import SchemaMismatch

    try:
        found = json.loads(file.read_text())
    except ValueError:
        found = None
    plain = (str, int, float, bool, type(None))
    if not isinstance(found, dict) or not all(isinstance(item, plain) for item in found.values()):
        raise SchemaMismatch(
            "The file is no JSON object of plain values.", field="--file", next_step='Write {"field": value, …}.'
        )
    return found


def _blocks(model: str, document: Mapping[str, Any]) -> list[Any]:
    shown = {name: found for name, found in document.items() if name != "reason_codes"}
    blocks: list[Any] = [
        Section(f"{model}: {document.get('decision') or 'scored'}"),
        Fields([(name.replace("_", " "), value(found)) for name, found in shown.items()]),
    ]
    if document["reason_codes"]:
        blocks += [Section("Reasons"), *(Line(reason) for reason in document["reason_codes"])]
    return blocks
