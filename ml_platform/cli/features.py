"""``mlp features``: stored features as the online store has them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ml_platform.cli import catalogue
from ml_platform.cli.blocks import Answer, Fields, Table
from ml_platform.cli.frame import Commands, new_app
from ml_platform.cli.options import DEFAULT_MODELS, ModelsOption, parse_pairs, time_option
from ml_platform.cli.session import Session
from ml_platform.cli.text import NONE, count, moment, value

if TYPE_CHECKING:
    from ml_platform.features import FeatureView

__all__ = ["commands", "group"]

commands = Commands()


@commands.add(
    "materialize",
    examples=["mlp features materialize --root roots/demo", "mlp features materialize credit_risk --root roots/demo"],
)
def materialize(
    session: Session,
    model: Annotated[str | None, typer.Argument(help="Only the views of this model; else of all.")] = None,
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Publish stored features, as known now, to the online store.

    Routers read them there; run it at every refresh.
    """
    from ml_platform.lifecycle import publish_features

    declared = session.models(models)
    wanted = [session.model(model, models)] if model else list(declared.values())
    platform, made = session.platform(), []
    for one in wanted:
        with session.screen.step(f"publishing the features of {one.name}") as note:
            found = publish_features(platform, one)
            note(f"{count(sum(view.points for view in found))} change points")
        made += [view.to_json() for view in found]
    rows = [(one["view"], count(one["change_points"]), moment(one["published_until"])) for one in made]
    return Answer({"published": made}, [Table(("view", "change points", "complete until"), rows, empty="no views")])


@commands.add(
    "get",
    examples=[
        "mlp features get purpose_history --key purpose=car --root roots/demo",
        "mlp features get purpose_history --key purpose=car --at 2011-03-01 --root roots/demo",
    ],
)
def get(
    session: Session,
    view: Annotated[str, typer.Argument(help="Name of a stored feature view.")],
    key: Annotated[list[str], typer.Option("--key", metavar="NAME=VALUE", help="The entity's key; repeatable.")],
    at: Annotated[datetime | None, time_option("--at", "As of this time; else now on the platform's clock.")] = None,
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Show what a router finds for a key: values, their event time and age."""
    from ml_platform.core.errors import NotFound
    from ml_platform.lifecycle import get_online_features

    declared: dict[str, FeatureView] = {
        one.name: one for found in session.models(models).values() for one in found.stored_views
    }
    if view not in declared:
        raise NotFound(
            "No model here declares such a stored view.",
            field="VIEW",
            next_step=f"Declared are {', '.join(sorted(declared)) or NONE}.",
        )
    found = get_online_features(session.platform(), declared[view], parse_pairs(key, "--key"), at)
    shown = [*((name, value(one)) for name, one in found["values"].items())]
    about = [
        ("event time", moment(found["event_time"])),
        ("age seconds", value(found["age_seconds"])),
        ("published until", moment(found["published_until"])),
    ]
    return Answer(found, [Fields([*shown, *about])])


group = new_app("Feature views: find and compare them; stored features online: publish them, and look one up.")
commands.attach(group)
catalogue.commands.attach(group)
