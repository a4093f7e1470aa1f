"""``mlp lineage``: where columns come from, for the catalogue of the house."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ml_platform.cli.blocks import Answer, Line
from ml_platform.cli.frame import Commands, new_app
from ml_platform.cli.options import DEFAULT_MODELS, ModelsOption
from ml_platform.cli.session import Session
from ml_platform.cli.text import count

__all__ = ["commands", "group"]

commands = Commands()


@commands.add(
    "export",
    examples=[
        "mlp lineage export --root roots/demo",
        "mlp lineage export credit_risk --out lineage.ndjson --root roots/demo",
    ],
)
def export(
    session: Session,
    model: Annotated[str | None, typer.Argument(help="Only this model and its views; else all.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A file of the events, one a line.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", help="In the catalogue; else the root's id.")] = None,
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Write OpenLineage events: what each view and training set is computed from, column by column.

    They are what POST /api/v1/lineage of a catalogue takes. Needs the extra `lineage`.
    """
    from ml_platform.core.files import write_atomically
    from ml_platform.lifecycle import export_lineage

    wanted = [session.model(model, models)] if model else list(session.models(models).values())
    events = export_lineage(session.platform(), wanted, namespace)
    lines = [json.dumps(event, sort_keys=True, ensure_ascii=False) for event in events]
    if out is None:
        return Answer({"events": events}, [Line(line) for line in lines])
    write_atomically(out, "".join(f"{line}\n" for line in lines).encode())
    return Answer({"file": out.name, "events": len(events)}, [Line(f"{count(len(events))} events in {out.name}.")])


group = new_app("Lineage for other catalogues.")
commands.attach(group)
