"""``mlp skew``: whether decisions used the stored features that they should have."""

from __future__ import annotations

from typing import Annotated

import typer

from ml_platform.cli.blocks import Answer, Block, Line, Section, Table
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import DEFAULT_MODELS, ModelArgument, ModelsOption
from ml_platform.cli.session import Session
from ml_platform.cli.text import count

__all__ = ["commands"]

commands = Commands()


@commands.add("skew", examples=["mlp skew credit_risk --window 2010-05 --root roots/demo"])
def skew(
    session: Session,
    model: ModelArgument,
    window: Annotated[
        str,
        typer.Option("--window", metavar="WINDOW", help="A month YYYY-MM or a day YYYY-MM-DD, UTC."),
    ],
    rows: Annotated[int, typer.Option("--rows", min=1, help="Decisions sampled of each version.")] = 500,
    least: Annotated[float, typer.Option("--least", min=0, max=1, help="The smallest share of equal values.")] = 0.99,
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Recompute stored features of logged decisions as of their request times, and say which differ and why.

    Reasons: late data (the online store had an older state), ttl, code (no state ever gave this value). The command
    exits with 7 if a feature has fewer equal values than the threshold.
    """
    from ml_platform.lifecycle import feature_skew

    declared = session.model(model, models)
    with session.screen.step(f"recomputing features of {model} {window}"):
        report = feature_skew(session.platform(), declared, window, rows=rows, least=least)
    blocks: list[Block] = []
    for one in report.versions:
        table = [
            (
                item.feature,
                count(item.compared),
                f"{item.share:.1%}",
                *(count(item.reasons.get(reason, 0)) for reason in ("late_data", "ttl", "code")),
            )
            for item in one.features
        ]
        title = (
            f"{model} version {one.version}, window {window}: {count(one.sampled)} of {count(one.decisions)} decisions"
        )
        headers = ("feature", "compared", "equal", "late data", "ttl", "code")
        blocks += [Section(title), Table(headers, table, empty="no stored features")]
    blocks += [Line(text) for text in report.words()] or [Line(f"All features are above {least:.1%}.")]
    return Answer(report.to_json(), blocks, exit_code=7 if report.failed else 0)
