"""The main job: a replay of eighteen months of lending, through Dagster, in one root of kind ``replay``.

Two versions are trained as of two dates with what was known then; each month is decided by the version in production
at its end; two candidates are refused; one declined loan is traced. Run again in the same root, it goes on where it
was, or says what exists.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ml_platform import lifecycle
from ml_platform.core.digests import canonical_json, file_digest
from ml_platform.core.errors import Conflict, DeclarationError, NotFound
from ml_platform.core.files import write_atomically
from ml_platform.governance import verify
from ml_platform.lifecycle.scoring import month_window
from ml_platform.model import Model, load_models
from ml_platform.orchestration.demo_report import (
    batch_results,
    declined_trace,
    months_table,
    prediction_counts,
    version_report,
)
from ml_platform.orchestration.demo_root import DemoRoot
from ml_platform.simulation import LendingMarket
from ml_platform.simulation.refused import claimed_label, label_without_known_time, surcharge_by_state

__all__ = ["MODEL", "run"]

MODEL: Final = "credit_risk"
FIRST_MONTH: Final = "2007-06"
FIRST_AS_OF: Final = datetime(2010, 1, 1, tzinfo=UTC)
SECOND_AS_OF: Final = datetime(2011, 7, 1, tzinfo=UTC)
MONTHS: Final = tuple(f"{2010 + number // 12}-{number % 12 + 1:02d}" for number in range(18))
TRACED_MONTH: Final = "2011-03"
_NO_ATTRIBUTE: Final = "The records delivered here hold no protected attribute."
_CLAIM: Final = "The servicer is said to post each outcome on the day it happens."

Say = Callable[[str], None]


def run(*, root: Path, data: Path | None, folder: Path, say: Say) -> dict[str, Any]:
    """Runs the whole job and returns its report.

    Args:
        root: the root folder; made if it is absent.
        data: folder with ``applications.parquet`` and ``outcomes.parquet`` (and, where there is one,
            ``restricted_applicants.parquet``); None simulates a market.
        folder: the checkout, whose ``assets`` declare the model.
        say: called with one line a step.

    Raises:
        GateFailed: the data do not let the model pass its gates; nothing was promoted.
        PlatformError: see its next step.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # the deployment's own folders are not installed
    return _Replay.begin(root=root, data=data, folder=folder, say=say).play()


@dataclass
class _Replay:
    root: Path
    data: Path
    folder: Path
    model: Model
    main: DemoRoot
    simulated: bool
    say: Say
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(cls, *, root: Path, data: Path | None, folder: Path, say: Say) -> _Replay:
        model = load_models("assets")[MODEL]
        by_state = surcharge_by_state(model)
        restricted = data is None or all((data / f"{one.source.name}.parquet").exists() for one in model.protected)
        if data is not None and not (data / f"{model.request.source.name}.parquet").exists():
            raise NotFound(
                "The folder does not hold the model's data.",
                field="--data",
                next_step=f"It needs {', '.join(f'{source.name}.parquet' for source in model.sources)}.",
            )
        say(f"opening {root}")
        main = DemoRoot.open(
            root,
            folder=folder,
            models=[model, by_state] if data is None else [model],
            starts_at=FIRST_AS_OF,
            unavailable={} if restricted else {one.name: _NO_ATTRIBUTE for one in model.protected},
        )
        _refuse_other_data(root, data, model)
        return cls(
            root=root,
            data=_simulated(root / "market", say) if data is None else data.absolute(),
            folder=folder,
            model=model,
            main=main,
            simulated=data is None,
            say=say,
        )

    def play(self) -> dict[str, Any]:
        self._land()
        self._version(1, FIRST_AS_OF, MONTHS[0])
        self._decide()
        self._version(2, SECOND_AS_OF, None)
        self.say("rolling back to version 1, and forward again to version 2")
        self.main.rollback_and_forward(self.model, back=1, forward=2)
        refused = [self._refused_label(), self._refused_group_ratio()]
        self.say("tracing a declined loan of three months ago")
        trace = declined_trace(self.main, self.model, TRACED_MONTH)
        return self._report(refused, trace)

    def _land(self) -> None:
        rows = self.main.land(self.data)
        for name, count in rows.items():
            self.say(f"landed {name}: {count:,} rows with event time and known time")

    def _version(self, number: int, as_of: datetime, known_until: str | None) -> None:
        self.main.move_clock(as_of)
        self.say(f"as of {as_of:%Y-%m-%d}: features, training set, LightGBM, evaluation, gates")
        last = month_before(known_until) if known_until else MONTHS[-1]
        self.main.materialize_features(FIRST_MONTH, last)
        key = self.main.train(self.model, as_of)
        self.say(f"version {number} registered from candidate {key}")
        self.main.promote(self.model, number, reason=f"Demo: version {number} goes into service.")
        self.say(f"version {number} approved by two officers' keys: staging, canary, production")

    def _decide(self) -> None:
        for month in MONTHS:
            self.main.move_clock(month_window(month).end)
            self.main.materialize_features(month, month)
            self.main.run(f"{self.model.name}_score_batch", partition_key=month)
            self.say(_month_line(self.main, self.model, month))

    def _refused_label(self) -> dict[str, Any]:
        """A label that does not say when it is known: refused when declared; a written claim lands in the record."""
        self.say("a label without a known time is declared, and refused")
        reason = "It was not refused."
        try:
            label_without_known_time(self.model)
        except DeclarationError as error:
            reason = str(error)
        claimed = replace(
            self.model,
            name=f"{self.model.name}_claimed",
            features=[self.model.request],
            label=claimed_label(self.model, _CLAIM),
            decision=replace(self.model.decline, reasons=_reasons(self.model)),
            protected=(),
            gates=[gate for gate in self.model.gates if gate.by is None],
        )
        platform = self.main.platform
        known = self.main.candidate(claimed, FIRST_AS_OF)
        if known is None:
            key = lifecycle.request_candidate(platform, claimed, FIRST_AS_OF, code=self.folder).key
        else:
            key = known.key
        made = lifecycle.build_training_set(platform, claimed, key)
        return {
            "name": "label_without_known_time",
            "refused": "when declared",
            "reason": reason,
            "with_written_claim": {
                "training_set_digest": made.digest,
                "known_times": made.manifest["known_times"],
            },
        }

    def _refused_group_ratio(self) -> dict[str, Any]:
        """A surcharge by state: no protected attribute in it, and one behind it."""
        self.say("a candidate with a surcharge by state is trained on the simulated market, and refused by its gates")
        by_state = surcharge_by_state(self.model)
        where = self.main
        if not self.simulated:
            where = DemoRoot.open(self.root / "simulated", folder=self.folder, models=[by_state], starts_at=FIRST_AS_OF)
            where.land(_simulated(self.root / "simulated" / "market", self.say))
        reason, verdicts = where.refused(by_state, FIRST_AS_OF)
        return {
            "name": by_state.name,
            "refused": "at its gates",
            "reason": reason,
            "gates": verdicts,
            "market": "simulated",
        }

    def _report(self, refused: list[dict[str, Any]], trace: dict[str, Any]) -> dict[str, Any]:
        platform = self.main.platform
        self.say("verifying the audit log and everything that it commits to")
        found = verify(platform)
        results = batch_results(platform, self.model.name, MONTHS)
        return {
            "model": self.model.name,
            "root": str(self.root),
            "data": "simulated" if self.simulated else self.data.name,
            "versions": [
                version_report(self.main, self.model, 1, FIRST_AS_OF),
                version_report(self.main, self.model, 2, SECOND_AS_OF),
            ],
            "refused_candidates": refused,
            "predictions": {**prediction_counts(results), "months": months_table(platform, self.model, results)},
            "trace": trace,
            "audit": {
                "entries": found.log.size,
                "root": found.log.root,
                "verified": not found.findings,
                "status": found.status,
                "findings": [finding.to_json() for finding in found.findings],
            },
            "seconds": round(time.monotonic() - self.started, 3),
        }


def _refuse_other_data(root: Path, data: Path | None, model: Model) -> None:
    """A root replays one set of files: sources are append-only, so another set would be mixed into the first.

    Raises:
        Conflict: the root was begun with other data.
    """
    files = {} if data is None else {one.name: file_digest(data / f"{one.name}.parquet") for one in model.sources}
    said = canonical_json({"data": files or "simulated"})
    path = root / "demo.json"
    if not path.exists():
        write_atomically(path, said)
    elif path.read_bytes() != said:
        raise Conflict(
            "This root was begun with other data.", field="--data", next_step="Name another folder with --root."
        )


def _reasons(model: Model) -> dict[str, str]:
    names = {item.name for item in model.request.features}
    return {name: text for name, text in model.decline.reasons.items() if name in names}


def _simulated(folder: Path, say: Say) -> Path:
    if not (folder / "restricted_applicants.parquet").exists():
        say("simulating a lending market with known truth")
        folder.mkdir(parents=True, exist_ok=True)
        LendingMarket().write(folder)
    return folder.absolute()


def month_before(month: str) -> str:
    """The month before a month ``YYYY-MM``."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year - (number == 1):04d}-{(number - 2) % 12 + 1:02d}"


def _month_line(main: DemoRoot, model: Model, month: str) -> str:
    (result,) = batch_results(main.platform, model.name, [month])
    flags = sum(result.flags.get("term", {}).values())
    term = f", {flags:,} with a term that version {result.version} never saw" if flags else ""
    return (
        f"{month}: {result.accepted:,} decided by version {result.version}, {result.declined:,} declined, "
        f"{result.refused:,} refused{term}"
    )
