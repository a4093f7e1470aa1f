"""Commands of streams: the topics, the schema of events, the worker, and a route announced."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Annotated

import typer

from ml_platform.cli.blocks import Answer, Fields, Line, Section
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import ModelArgument
from ml_platform.cli.sealing import until_signal
from ml_platform.cli.session import Session
from ml_platform.cli.text import count, value

if TYPE_CHECKING:
    from ml_platform.serving.stream.worker import StreamMetrics

__all__ = ["commands"]

commands = Commands()


@commands.add("topics", examples=["mlp topics credit_risk --partitions 6 --replication 3 --root roots/bank"])
def topics(
    session: Session,
    model: ModelArgument,
    partitions: Annotated[int, typer.Option("--partitions", min=1, help="Of the topics that are made now.")] = 1,
    replication: Annotated[int, typer.Option("--replication", min=1, help="Copies of each partition.")] = 1,
) -> Answer:
    """Make the topics of a model that are not there yet, and check those that are.

    They are named by the model: MODEL.events, .decisions, .predictions, .dead-letters and .control.
    """
    from ml_platform import lifecycle

    made = lifecycle.make_topics(session.settings_file(), model, partitions=partitions, replication=replication)
    fields = [("made", value(list(made.made))), ("partitions", count(made.partitions)), ("topic id", made.topic_uuid)]
    return Answer(made.to_json(), [Section(f"{model}: topics"), Fields(fields)])


@commands.add("events", examples=["mlp events credit_risk --root roots/bank"])
def events(session: Session, model: ModelArgument) -> Answer:
    """Show the Avro schema of a model's events, and the digest that their header names.

    It is that of the version in production: entity keys, the request's time, and the fields that come with a request.
    """
    import json

    from ml_platform import lifecycle

    schema, digest = lifecycle.event_schema_of(session.settings_file(), model)
    shown = json.dumps(schema, indent=1)
    return Answer(
        {"schema": schema, "header": "ml-schema", "digest": digest},
        [Section(f"header ml-schema: {digest}"), *(Line(one) for one in shown.splitlines())],
    )


@commands.add("announce", examples=["mlp announce credit_risk --root roots/bank"])
def announce(session: Session, model: ModelArgument) -> Answer:
    """Put the route in force on the model's control topic, for workers on other machines.

    A promotion does it at once and the sealer where that failed; the same route again changes nothing anywhere.
    """
    from ml_platform import lifecycle

    epoch = lifecycle.announce(session.settings_file(), model)
    return Answer({"model": model, "epoch": epoch}, [Section(f"{model}: route of epoch {epoch} announced")])


@commands.add("stream", examples=["mlp stream credit_risk --instance worker-0 --root roots/bank"])
def stream(
    session: Session,
    model: ModelArgument,
    instance: Annotated[
        str | None,
        typer.Option("--instance", metavar="NAME", help="This worker's name among the model's; else the host's name."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, max=20_000, help="Events a transaction at most.")] = 2_000,
) -> Answer:
    """Decide the events of a model's topic in the foreground, until Ctrl-C or a TERM signal.

    Start as many as there are partitions, each under a name of its own, and keep names: a worker that starts again ends
    over at once. Answers, records, dead letters and offsets of a batch are committed together or not at all.
    """
    from ml_platform import lifecycle

    name = instance or socket.gethostname()
    with until_signal() as stop:
        metrics = lifecycle.stream(
            session.settings_file(),
            model,
            name,
            stop=stop,
            said=session.screen.remark,
            ready=lambda: session.screen.remark(f"worker {name} of {model} is ready; Ctrl-C ends it"),
            largest=batch,
        )
    return Answer(metrics.to_json(), [Section(_line(metrics))])


def _line(metrics: StreamMetrics) -> str:
    return f"{count(metrics.events)} events: {count(metrics.decided)} decided, {count(metrics.refused)} refused"
