"""``python -m ml_platform.governance.rebuild FOLDER``: trains again, in a fresh process, from a bundle alone.

Packages are compared first, then hyperparameters, seeds and threads are taken from the record, the contract is made
again from the training part, and the artifact is packed and digested as in training. ``result.json`` says what
differs; the parts of the new artifact lie beside it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml_platform.core.contract import Contract
from ml_platform.core.digests import document_digest
from ml_platform.core.errors import DeclarationError, NotFound, NotReproducible, PlatformError
from ml_platform.datasets.labels import SPLIT
from ml_platform.datasets.training_spec import TRAIN
from ml_platform.features import FeatureView, RequestView, definitions
from ml_platform.governance import bundle
from ml_platform.governance.bundle import Difference, differences_of, read_document
from ml_platform.governance.reading import digest_of
from ml_platform.training import (
    Artifact,
    Decline,
    LightGBM,
    RunContext,
    Trainer,
    build,
    capture,
    fit,
    resolve,
    training_data,
)
from ml_platform.training.onnx_adopted import NOT_REPRODUCIBLE

__all__ = ["main", "rebuild"]

_STRICT_RUNTIME: Final = ("python", "implementation")
_LOOSE_RUNTIME: Final = ("system", "machine", "libc")


def main(arguments: list[str] | None = None) -> int:
    """Runs one bundle; 0 when a result was written, whatever it says."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        print("usage: python -m ml_platform.governance.rebuild FOLDER", file=sys.stderr)  # noqa: T201 - a program's usage
        return 2
    folder = Path(given[0])
    bundle.write_document(folder, bundle.RESULT, rebuild(folder))
    return 0


def rebuild(folder: Path) -> dict[str, Any]:
    """The result of one bundle (``ml-platform/rebuild-result/1``); writes the parts of the new artifact.

    ``differs`` are inputs that are not as recorded, ``surroundings`` what may differ without a promise being broken:
    additional packages, processor, graphics cards, image, operating system.
    """
    order = read_document(folder, bundle.ORDER, bundle.ORDER_FORMAT)
    record = read_document(folder, bundle.RECORD)
    differs, surroundings = _environment(record)
    artifact: Artifact | None = None
    failed: str | None = None
    try:
        trainer, changed = _trainer(record["trainer"], order["declared_in"])
        differs += changed
        if trainer is not None:
            artifact, changed = _train(folder, record, trainer)
            differs += changed
    except PlatformError as error:
        failed = str(error)
    for name, raw in (artifact.parts if artifact else {}).items():
        (folder / bundle.ARTIFACT).mkdir(exist_ok=True)
        (folder / bundle.ARTIFACT / name).write_bytes(raw)
    return {
        "format": bundle.RESULT_FORMAT,
        "artifact": None if artifact is None else artifact.digest,
        "differs": [one.to_json() for one in differs],
        "surroundings": [one.to_json() for one in surroundings],
        "failed": failed,
    }


def _environment(record: Mapping[str, Any]) -> tuple[list[Difference], list[Difference]]:
    now = capture(threads=record["hardware"]["threads"]).to_json()
    packages, runtime, hardware = (_mapping(now[name]) for name in ("packages", "runtime", "hardware"))
    recorded = record["packages"]
    present = {name: packages.get(name, bundle.ABSENT) for name in recorded}
    added = {name: version for name, version in packages.items() if name not in recorded}
    strict = list(differences_of("packages", recorded, present))
    strict += differences_of("runtime", *(_some(one, _STRICT_RUNTIME) for one in (record["runtime"], runtime)))
    loose = list(differences_of("packages", {}, added))
    loose += differences_of("runtime", *(_some(one, _LOOSE_RUNTIME) for one in (record["runtime"], runtime)))
    loose += differences_of("hardware", record["hardware"], hardware)
    loose += differences_of("image", record["image"], now["image"])
    return strict, loose


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _some(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values.get(name, bundle.ABSENT) for name in names}


def _trainer(spec: Mapping[str, Any], declared_in: str | None) -> tuple[Trainer | None, list[Difference]]:
    """The trainer of a specification; functions come from the code that declares them, and must be the same ones."""
    if spec.get("trainer") == "lightgbm":
        return LightGBM.from_spec(spec), []
    if spec.get("trainer") == "onnx":
        raise NotReproducible(
            NOT_REPRODUCIBLE, field="trainer", next_step="Ask where it was trained; its file is kept."
        )
    if declared_in is None:
        raise NotFound(
            "This kind of trainer is code, and no code was named.",
            field="trainer",
            next_step='Name where it is declared, as "module:model".',
        )
    found = _declared(declared_in)
    changed = list(differences_of("trainer", spec, found.spec()))
    return (None if changed else found), changed


def _declared(declared_in: str) -> Trainer:
    module, _, name = declared_in.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise NotFound(
            f"The code cannot be loaded ({type(error).__name__}).",
            field=declared_in,
            next_step='Name it as "module:model", from the folder of the code location.',
        ) from error
    trainer: Trainer = getattr(found, "trainer", found)
    return trainer


def _train(folder: Path, record: Mapping[str, Any], trainer: Trainer) -> tuple[Artifact, list[Difference]]:
    spec, manifest = read_document(folder, bundle.SPEC), read_document(folder, bundle.MANIFEST)
    rows = pq.read_table(folder / bundle.DATA)
    part = rows.filter(pc.equal(rows.column(SPLIT), pa.scalar(TRAIN)))
    contract = _contract(folder, spec, part)
    changed = list(differences_of("contract", record["contract"], contract.digest))
    decision = None if spec["decision"] is None else Decline.from_spec(spec["decision"])
    run = RunContext(seed=int(record["seeds"]["trainer"]), threads=int(record["hardware"]["threads"]))
    data = training_data(contract, part, manifest["label"]["column"])
    return fit(trainer, data, decision, run).artifact, changed


def _contract(folder: Path, spec: Mapping[str, Any], part: pa.Table) -> Contract:
    views = [_view(folder, reference) for reference in spec["features"]]
    request = next(view for view in views if isinstance(view, RequestView))
    return build(
        resolve(views),
        part,
        entity_keys=[(name, request.source.columns[name]) for name in request.entity.keys],
        time=request.time,
    )


def _view(folder: Path, reference: str) -> RequestView | FeatureView:
    digest = digest_of(reference)
    document = read_document(folder, f"{bundle.DEFINITIONS}/{digest.removeprefix('sha256:')}.json")
    view = definitions.rebuild(document)
    if document_digest("definition", document) != digest or not isinstance(view, RequestView | FeatureView):
        raise DeclarationError(
            "The definition in the bundle is not the one that is named.",
            field=reference,
            next_step="Make the bundle again with `mlp reproduce`.",
        )
    return view


if __name__ == "__main__":
    raise SystemExit(main())
