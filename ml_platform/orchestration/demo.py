"""The main job: a replay of eighteen months of lending, through Dagster, in one root of kind ``replay``.

Version 1 is trained with what was known then, approved, and serves; every third application is decided online by the
real Triton server, the others in batch at their month's end; drift asks for a retrain, which waits for labels and
becomes version 2; that is shadowed, takes a canary's share, then production, is rolled back under load and forward
again. Two candidates are refused; declined loans are traced. Run again in the same root, it goes on where it was.
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
from ml_platform.orchestration.demo_loop import Loop
from ml_platform.orchestration.demo_online import OnlineHalf
from ml_platform.orchestration.demo_report import (
    batch_results,
    declined_trace,
    months_table,
    prediction_counts,
    version_report,
)
from ml_platform.orchestration.demo_root import DemoRoot
from ml_platform.orchestration.demo_server import serving
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

    def __post_init__(self) -> None:
        self.online = OnlineHalf(self.main, self.model, self.say)
        self.loop = Loop(self.main, self.model, MONTHS)

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
        self.say("starting the inference server")
        with serving(self.root, self.folder) as where:
            self.say(f"Triton listens on {where['grpc']} (gRPC) and {where['http']} (HTTP)")
            self._first_version()
            self._decide()
            self._second_version()
            self.say("version 2 is rolled back to version 1 under load, and forward again")
            drill = self.online.rollback_under_load(self._following_month())
        self.main.run("seal")
        for line in self.loop.watch(MONTHS[-1]):
            self.say(line)
        refused = [self._refused_label(), self._refused_group_ratio()]
        self.say("tracing two declined loans of three months ago, one decided in batch, one online")
        traces = {mode: declined_trace(self.main, self.model, TRACED_MONTH, mode) for mode in ("batch", "online")}
        return self._report(refused, traces, drill)

    def _land(self) -> None:
        rows = self.main.land(self.data)
        for name, count in rows.items():
            self.say(f"landed {name}: {count:,} rows with event time and known time")

    def _first_version(self) -> None:
        self.main.move_clock(FIRST_AS_OF)
        self.say(f"as of {FIRST_AS_OF:%Y-%m-%d}: features, training set, LightGBM, evaluation, gates")
        self.main.materialize_features(FIRST_MONTH, month_before(MONTHS[0]))
        key = self.main.train(self.model, FIRST_AS_OF)
        self.say(f"version 1 registered from candidate {key}")
        self.main.promote(self.model, 1, "production", reason="Demo: version 1 goes into service.")
        self.say("version 1 approved by two officers' keys, proven in Triton, routed: staging, canary, production")

    def _decide(self) -> None:
        """Each month: a third online at its beginning, the rest in batch at its end; then it is watched."""
        for month in MONTHS:
            window = month_window(month)
            self.main.move_clock(window.start)
            self.online.decide(month)
            self.main.move_clock(window.end)
            self.main.materialize_features(month, month)
            self.main.run("seal")
            self.main.run(f"{self.model.name}_score_batch", partition_key=month)
            self.say(_month_line(self.main, self.model, month))
            for line in self.loop.watch(month):
                self.say(line)

    def _second_version(self) -> None:
        """Version 2 is the answer to the retrain request: trained, shadowed, canary, production."""
        self.main.move_clock(SECOND_AS_OF)
        self.say(f"as of {SECOND_AS_OF:%Y-%m-%d}: the labels are mature, and the request is carried out")
        key = self.loop.carry_out()
        self.say(f"version 2 registered from candidate {key}")
        self.main.promote(self.model, 2, "staging", reason="Demo: version 2 passed its gates.")
        shadow = self.online.shadow(2)
        self.say(f"version 2 shadowed on {shadow['pairs']:,} logged decisions: {_share(shadow)} decided otherwise")
        self.main.promote(self.model, 2, "canary", reason="Demo: the shadow agrees.")
        self.online.canary(self._following_month())
        self.main.promote(self.model, 2, "production", reason="Demo: version 2 goes into service.")
        self.main.run("seal")
        self.say("version 2 took its share as canary, then production")

    @staticmethod
    def _following_month() -> str:
        return f"{SECOND_AS_OF:%Y-%m}"

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

    def _report(
        self, refused: list[dict[str, Any]], traces: dict[str, dict[str, Any]], drill: dict[str, Any]
    ) -> dict[str, Any]:
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
            "predictions": {
                **prediction_counts(results),
                **self.online.counts(),
                "months": months_table(platform, self.model, results),
            },
            **self.loop.report(),
            "shadow": self.online.shadow_report(2),
            **drill,
            "trace": traces["batch"],
            "trace_online": traces["online"],
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
        f"{month}: {result.already_decided:,} decided online, {result.accepted:,} in batch by version {result.version} "
        f"({result.declined:,} declined, {result.refused:,} refused{term})"
    )


def _share(shadow: dict[str, Any]) -> str:
    found = shadow["disagreement"]
    return f"{found['point']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"
