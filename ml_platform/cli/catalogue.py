"""``mlp features search, diff, status, lock, retire``: what views there are, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ml_platform.cli.blocks import Answer, Fields, Line, Section, Table
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import DEFAULT_MODELS, ModelsOption
from ml_platform.cli.session import Session
from ml_platform.cli.text import NONE, count, moment, value

__all__ = ["commands"]

commands = Commands()


@commands.add(
    "search",
    examples=["mlp features search default --root roots/demo", "mlp features search 'purpose team:credit' --json"],
)
def search(
    session: Session,
    text: Annotated[str, typer.Argument(help="Words that must all occur; case is ignored.")],
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Find views by names, descriptions, owners, sources, and by who uses them.

    Who uses what is read from the contracts of registered versions.
    """
    from ml_platform.lifecycle import search_features

    declared = list(session.models(models).values())
    found = [entry.to_json() for entry in search_features(session.platform(), declared, text)]
    blocks: list[Any] = [Line(f"{count(len(found))} definitions.")]
    for entry in found:
        blocks += [Section(entry["reference"]), Fields(_about(entry))]
    return Answer({"found": found}, blocks)


def _about(entry: dict[str, Any]) -> list[tuple[str, str]]:
    uses = [f"{use['model']} {use['version']} ({use['stage']})" for use in entry["used_by"]]
    gone = entry["deprecated"]
    return [
        ("about", f"{entry['kind'].replace('_', ' ')} of {entry['entity']}. {entry['description']}".strip()),
        ("features", ", ".join(entry["features"])),
        ("owners", ", ".join(entry["owners"]) or NONE),
        ("sources", ", ".join(entry["sources"])),
        ("declared by", ", ".join(entry["declared_by"]) or NONE),
        ("used by", ", ".join(uses) or NONE),
        *([("deprecated", f"since {gone['since']}: {gone['reason']}")] if gone else []),
    ]


@commands.add(
    "diff",
    examples=["mlp features diff purpose_history@sha256:1c2d3e4f purpose_history --root roots/demo"],
)
def diff(
    session: Session,
    before: Annotated[str, typer.Argument(help="A view: its name as declared, or name@sha256:… as published.")],
    after: Annotated[str, typer.Argument(help="Another, likewise; eight digits are enough.")],
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Show what differs between two definitions, place by place."""
    from ml_platform.lifecycle import diff_features

    one, two, found = diff_features(session.platform(), list(session.models(models).values()), before, after)
    said = [Line(item.words()) for item in found] or [Line("They are one definition: same values, same table.")]
    document = {"before": one.reference, "after": two.reference, "differences": [item.to_json() for item in found]}
    return Answer(document, [Fields([("before", one.reference), ("after", two.reference)]), *said])


@commands.add(
    "status",
    examples=["mlp features status --root roots/demo", "mlp features status credit_risk --root roots/demo --json"],
)
def status(
    session: Session,
    model: Annotated[str | None, typer.Argument(help="Only the views of this model; else of all.")] = None,
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Show how far stored features are complete, in the table and online, and what is missing or was rejected."""
    from ml_platform.lifecycle import view_freshness

    wanted = [session.model(model, models)] if model else list(session.models(models).values())
    views = {view.reference: view for one in wanted for view in one.stored_views}
    platform = session.platform()
    found = [view_freshness(platform, view).to_json() for _, view in sorted(views.items())]
    headers = ("view", "stored until", "lag seconds", "missing", "rejected", "published until", "fresh")
    rows = [
        (
            one["view"].partition("@")[0],
            moment(one["complete_until"]),
            value(one["lag_seconds"]),
            ", ".join(one["missing"]) or NONE,
            ", ".join(one["rejected"]) or NONE,
            moment(one["published_until"]),
            "yes" if one["fresh"] else "no",
        )
        for one in found
    ]
    return Answer({"views": found}, [Table(headers, rows, empty="no views")])


@commands.add(
    "lock",
    examples=["mlp features lock purpose_history@sha256:1c2d3e4f --file features.lock --root roots/demo"],
)
def lock(
    session: Session,
    reference: Annotated[list[str], typer.Argument(help="Published views, name@sha256:….")],
    file: Annotated[Path, typer.Option("--file", help="The lock file of your code location.")] = Path("features.lock"),
) -> Answer:
    """Put published definitions into the lock file of another code location, beside those that it has.

    There, `feature_view("name@sha256:…")` declares the view without the code of the team that owns it.
    """
    from ml_platform.lifecycle import lock_definitions

    kept = lock_definitions(session.platform(), reference, file)
    return Answer({"file": file.name, "definitions": kept}, [Line(f"locked: {one}") for one in kept])


@commands.add(
    "retire",
    examples=[
        "mlp features retire --root roots/demo",
        "mlp features retire purpose_history@sha256:1c2d3e4f --root roots/demo",
    ],
)
def retire(
    session: Session,
    reference: Annotated[str | None, typer.Argument(help="Take this definition out of the online store.")] = None,
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """List definitions of stored views and who needs them; with a reference, take it out of the online store.

    What a version in service, one that a rollback may bring back, or a declaration needs is never taken out. Tables
    in the lake stay in any case: records are reproduced from them, and retention decides about them.
    """
    from ml_platform.lifecycle import find_definition, forget_online, retirement

    declared, platform = list(session.models(models).values()), session.platform()
    if reference is not None:
        gone = forget_online(platform, declared, find_definition(platform, declared, reference).reference)
        return Answer({"retired": gone.to_json()}, [Line(f"{gone.reference} is no longer in the online store.")])
    found = [one.to_json() for one in retirement(platform, declared)]
    rows = [
        (
            one["reference"],
            count(one["stored_periods"]),
            count(one["online_points"]),
            ", ".join([*(f"{use['model']} {use['version']}" for use in one["needed_by"]), *one["declared_by"]]) or NONE,
            "yes" if one["may_go"] else "no",
        )
        for one in found
    ]
    headers = ("definition", "periods", "online points", "needed by", "may go")
    return Answer({"definitions": found}, [Table(headers, rows, empty="nothing is stored")])
