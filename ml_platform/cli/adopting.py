"""``mlp adopt``: a model that a company already has goes the governed way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ml_platform.cli.blocks import Answer, Fields, Line, Section
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import DEFAULT_MODELS, ModelsOption
from ml_platform.cli.session import Session
from ml_platform.cli.text import count, value

__all__ = ["commands"]

commands = Commands()
_EXAMPLE: Final = (
    "mlp adopt churn.onnx --contract-from rows.parquet --key customer_id --time asked_at --label churned "
    "--known-time known_at --root roots/bank"
)


@commands.add(
    "adopt",
    examples=[
        _EXAMPLE,
    ],
)
def adopt(
    session: Session,
    file: Annotated[Path, typer.Argument(help="The model: ONNX that takes numbers and gives a probability.")],
    contract_from: Annotated[
        Path, typer.Option("--contract-from", metavar="FILE", help="Past requests, Parquet or CSV: inputs and outcome.")
    ],
    key: Annotated[list[str], typer.Option("--key", metavar="COLUMN", help="Whom a row is about; repeatable.")],
    time: Annotated[str, typer.Option("--time", metavar="COLUMN", help="When it was asked.")],
    label: Annotated[str, typer.Option("--label", metavar="COLUMN", help="What is predicted: 0 or 1.")],
    known_time: Annotated[str, typer.Option("--known-time", metavar="COLUMN", help="When that was known.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The model's; else the file's.")] = None,
    horizon: Annotated[str, typer.Option("--horizon", metavar="DURATION", help="Within which it counts.")] = "30d",
    owner: Annotated[
        str, typer.Option("--owner", metavar="OWNER", help="team:x or an e-mail address.")
    ] = "team:adopted",
    models: ModelsOption = DEFAULT_MODELS,
) -> Answer:
    """Register a model that was trained elsewhere: declare, land, evaluate, and give it a version.

    Writes an ordinary declaration and the model's file into the package of models; keep and edit both. All other
    columns of the table are the model's inputs, in the order of the file's input. The record says that the version is
    not reproducible here. The same command after an interruption continues.
    """
    from ml_platform import lifecycle
    from ml_platform.lifecycle.adopting import Adoption, adopt_files, land_adopted

    found = Adoption(name or file.stem.replace("-", "_"), tuple(key), time, label, known_time, horizon, owner)
    platform, screen = session.platform(), session.screen
    with screen.step("declaring the model") as note:
        written = adopt_files(found, file, contract_from, Path(models.replace(".", "/")))
        note(str(written))
    declared = session.model(found.name, models)
    with screen.step("landing requests and outcomes") as note:
        landed = land_adopted(platform, contract_from, declared.sources)
        note(f"{count(landed[0].rows)} rows")
    with screen.step("evaluating the file on the newest mature rows") as note:
        made = lifecycle.build_candidate(platform, declared, platform.clock.now())
        note(", ".join(f"{one.gate} {one.verdict}" for one in made.evaluation.verdicts))
    document: dict[str, Any] = {
        "declaration": str(written),
        "model": found.name,
        "version": made.registered.version,
        "candidate": made.candidate.key,
        "artifact": made.registered.artifact,
        "evaluation": made.evaluation.to_json(),
        "landed": [one.to_json() for one in landed],
        "reproducible": False,
    }
    shown = [(name, value(document[name])) for name in ("declaration", "version", "candidate", "artifact")]
    step = f"mlp promote {found.name} {made.registered.version} --to staging --reason …"
    return Answer(document, [Section(f"{found.name} is adopted"), Fields(shown), Line(f"Next: `{step}`, then sign.")])
