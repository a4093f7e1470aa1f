"""Commands that make things: land a source, materialise a view, train a candidate, score a month."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_platform.cli.blocks import Answer, Block, Fields, Line, Section, Table
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import (
    DEFAULT_MODELS,
    AsOfOption,
    ModelArgument,
    ModelsOption,
    parse_partition,
    time_option,
)
from ml_platform.cli.session import Session
from ml_platform.cli.text import count, moment, value

if TYPE_CHECKING:
    from ml_platform.features import FeatureView, Source
    from ml_platform.model import Model

__all__ = ["commands"]

commands = Commands()


@commands.add("land", examples=["mlp land applications applications.parquet --root roots/demo"])
def land(
    session: Session,
    source: Annotated[str, typer.Argument(help="Name of a declared source.")],
    file: Annotated[Path, typer.Argument(help="Parquet or CSV with a header, in the source's declared columns.")],
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Append a file's rows to a source, checked against its declaration, at most once per file."""
    from ml_platform.lifecycle import land_source

    declared = _sources(session.models(models))
    with session.screen.step(f"landing {source}") as note:
        landed = land_source(session.platform(), _named(declared, source, "SOURCE", "source"), file)
        note(f"{count(landed.added)} of {count(landed.rows)} rows are new")
    return Answer(landed.to_json(), [_fields(landed.to_json())])


@commands.add(
    "materialize",
    examples=["mlp materialize purpose_history --start 2008-01-01 --end 2010-01-01 --root roots/demo"],
)
def materialize(
    session: Session,
    view: Annotated[str, typer.Argument(help="Name of a stored feature view.")],
    start: Annotated[datetime, time_option("--start", "Values that became known from then on.")],
    end: Annotated[datetime, time_option("--end", "And before then.")],
    accept: Annotated[
        str | None,
        typer.Option("--accept", metavar="REASON", help="Write rows that fail a quality check all the same."),
    ] = None,
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Compute a stored feature view for a span of time; what is there already is not computed again.

    Rows of a period that fail a quality check of the view are not written: they are kept as evidence, the other
    periods are written, and the command exits with 3.
    """
    from ml_platform.lifecycle import materialize_view

    declared = {one.name: one for model in session.models(models).values() for one in model.stored_views}
    found: FeatureView = _named(declared, view, "VIEW", "stored view")
    with session.screen.step(f"materialising {view}") as note:
        made = materialize_view(session.platform(), found, start=start, end=end, accept=accept).require()
        note(f"{count(made.added)} new {found.about.partition}s")
    return Answer(made.to_json(), [_fields(made.to_json())])


@commands.add(
    "train",
    examples=[
        "mlp train credit_risk --as-of 2010-01-01 --root roots/demo",
        "mlp train credit_risk --as-of 2010-01-01 --json | jq .registered.version",
    ],
)
def train(
    session: Session,
    model: ModelArgument,
    as_of: AsOfOption,
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Build a candidate from what was known at a time, and register it if it passes its gates.

    Five steps: request, training set, training, evaluation, registration. Each is done once: the same command after
    an interruption continues. A candidate that fails a gate stays on record and the command exits with 7;
    `mlp show MODEL --candidate KEY` shows what it was measured at.
    """
    from ml_platform import lifecycle

    declared = session.model(model, models)
    platform, screen = session.platform(), session.screen
    with screen.step("requesting the candidate") as note:
        candidate = lifecycle.request_candidate(platform, declared, as_of)
        note(candidate.key)
    with screen.step("building the training set") as note:
        rows = lifecycle.build_training_set(platform, declared, candidate.key)
        note(f"{count(rows.train_rows)} rows to train on, {count(rows.immature_rows)} left out as immature")
    with screen.step("training") as note:
        trained = lifecycle.train_candidate(platform, declared, candidate.key)
        note(trained.artifact_digest)
    with screen.step("evaluating") as note:
        evaluation = lifecycle.evaluate_candidate(platform, declared, candidate.key)
        note(", ".join(f"{one.gate} {one.verdict}" for one in evaluation.verdicts))
    with screen.step("registering") as note:
        registered = lifecycle.register_candidate(platform, declared, candidate.key)
        note(f"version {registered.version}")
    document = {
        "candidate": candidate.to_json(),
        "training_set": rows.to_json(),
        "trained_model": trained.to_json(),
        "evaluation": evaluation.to_json(),
        "registered": registered.to_json(),
    }
    return Answer(document, _candidate_blocks(model, document))


@commands.add(
    "score",
    examples=["mlp score credit_risk --partition 2010-03 --root roots/demo"],
)
def score(
    session: Session,
    model: ModelArgument,
    partition: Annotated[
        str, typer.Option("--partition", parser=parse_partition, metavar="YYYY-MM", help="The month of the requests.")
    ],
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Decide a month of requests by the production version, each decision with its record; a rerun is a no-op."""
    from ml_platform.lifecycle import is_complete, score_partition

    declared = session.model(model, models)
    platform = session.platform()
    before = is_complete(platform, model, partition)
    with session.screen.step(f"scoring {partition}") as note:
        made = score_partition(platform, declared, partition)
        counts = f"{count(made.accepted)} decided, {count(made.refused)} refused, {count(made.flagged)} flagged"
        counts += f", {count(made.already_decided)} decided online before" if made.already_decided else ""
        note(f"nothing to do, it was complete before: {counts}" if before else counts)
    document = {**made.to_json(), "complete_before": before}
    done = [Line("Nothing was done: this partition was complete before. What follows is what it holds.")]
    blocks = [
        Section(f"{model} {partition}"),
        *(done if before else []),
        _fields(document),
        *_by_rule("Flagged", document["flags"]),
        *_by_rule("Refused", document["refusals"]),
    ]
    return Answer(document, blocks)


def _candidate_blocks(model: str, document: dict[str, Any]) -> list[Block]:
    verdicts = document["evaluation"].get("verdicts", [])
    return [
        Section(f"{model} version {document['registered']['version']}"),
        Fields(
            [
                ("candidate", str(document["candidate"]["candidate"])),
                ("training set", str(document["training_set"]["digest"])),
                ("artifact", str(document["trained_model"]["artifact_digest"])),
                ("evaluation", str(document["evaluation"]["digest"])),
            ]
        ),
        Section("Gates"),
        Table(("gate", "verdict"), [(str(one["gate"]), str(one["verdict"])) for one in verdicts]),
    ]


def _fields(document: dict[str, Any]) -> Fields:
    """Every plain value of a document, in its order; what is nested is shown by ``--json``."""
    plain = {name: found for name, found in document.items() if not isinstance(found, dict | list) and name != "format"}
    shown = [(name.replace("_", " "), _shown(name, found)) for name, found in plain.items() if found is not None]
    return Fields(shown)


def _shown(name: str, found: object) -> str:
    if isinstance(found, str) and name.endswith("_at"):
        return moment(found)
    return count(found) if isinstance(found, int) and not isinstance(found, bool) else value(found)


def _by_rule(title: str, counts: dict[str, dict[str, int]]) -> list[Block]:
    """Rows by field and rule; nothing where there are none."""
    rows = [(field, rule, count(number)) for field, rules in counts.items() for rule, number in rules.items()]
    return [Section(title), Table(("field", "rule", "rows"), rows)] if rows else []


def _sources(models: dict[str, Model]) -> dict[str, Source]:
    """Every plain source that a model reads, restricted ones too."""
    found = {source.name: source for model in models.values() for source in model.sources}
    return found | {one.source.name: one.source for model in models.values() for one in model.protected}


def _named(found: dict[str, Any], name: str, field: str, noun: str) -> Any:
    """Raises `NotFound` when nothing bears the name."""
    from ml_platform.core.errors import NotFound

    if name not in found:
        raise NotFound(
            f"No model reads a {noun} of that name.", field=field, next_step=f"There are {', '.join(sorted(found))}."
        )
    return found[name]
