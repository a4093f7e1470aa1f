"""What the demo does online: requests to the real server, a shadow, a canary, and a rollback while requests come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ml_platform import lifecycle
from ml_platform.core.clock import parse_utc
from ml_platform.core.errors import NotFound, ServerUnavailable
from ml_platform.core.rows import micros
from ml_platform.lifecycle.asking import Asked, ask_rows, request_rows, undecided
from ml_platform.lifecycle.scoring import month_window
from ml_platform.model import Model
from ml_platform.orchestration.demo_root import DemoRoot
from ml_platform.registry.flip import open_flip
from ml_platform.serving.tables import predictions_table

__all__ = ["OnlineHalf"]

ONE_IN: Final = 3  # applications that are decided online
CANARY_REQUESTS: Final = 400
_LAUNCHER: Final = "service"
_ROUTE_SECONDS: Final = 30.0


@dataclass
class OnlineHalf:
    """What is decided online in a replay.

    Args:
        asked: what came of all requests of this run.
    """

    main: DemoRoot
    model: Model
    say: Callable[[str], None]
    asked: Asked = field(default_factory=Asked)

    def decide(self, month: str) -> None:
        """Asks about a third of a month's applications at its beginning; those that were decided before are not."""
        window = month_window(month)
        if self.main.platform.clock.now() > window.start:
            return  # in a root that is further on: the batch has decided the rest
        rows = self._open_rows(month)
        if rows.num_rows:
            self._publish()
            self._ask(rows)

    def _open_rows(self, month: str) -> pa.Table:
        window, platform = month_window(month), self.main.platform
        rows = request_rows(platform, self.model, window.start, window.end)
        chosen = rows.column(self.model.entity.keys[0]).to_numpy() % ONE_IN == 0
        return undecided(platform, self.model, rows.filter(pa.array(chosen)))

    def _publish(self) -> None:
        lifecycle.publish_features(self.main.platform, self.model)

    def _ask(self, rows: pa.Table) -> Asked:
        self._wait_for_router()
        found = ask_rows(self.main.platform, self.model, rows)
        self.asked.answered += found.answered
        self.asked.refused += found.refused
        self.asked.failed += found.failed
        self.asked.seconds += found.seconds
        return found

    def _wait_for_router(self) -> None:
        """After a start the server loads what routes name; until then a router does not answer."""
        until = time.monotonic() + _ROUTE_SECONDS
        while True:
            try:
                ask_rows(self.main.platform, self.model, request_rows_none(self.main, self.model))
            except (NotFound, ServerUnavailable):
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
            else:
                return

    def shadow(self, version: int) -> dict[str, Any]:
        """Scores every logged online request by a version that does not serve; what it would have decided otherwise."""
        platform = self.main.platform
        if not self._recorded(role="shadow", version=version):
            first = month_window("2010-01").start
            lifecycle.shadow_once(platform, self.model.name, version, since=first)
            self.main.run("seal")
        return self.shadow_report(version)

    def shadow_report(self, version: int) -> dict[str, Any]:
        """Pairs, share of decisions that differ, and how far the scores are apart."""
        return lifecycle.shadow_report(self.main.platform, self.model.name, version)

    def canary(self, month: str) -> None:
        """Some requests while the canary has its first share."""
        if self._recorded(role="canary", version=2):
            return
        self._publish()
        rows = self._open_rows(month)
        found = self._ask(rows.slice(0, min(CANARY_REQUESTS, rows.num_rows // 2)))
        self.say(f"canary: {found.answered:,} requests, by version {dict(sorted(found.versions.items()))}")

    def rollback_under_load(self, month: str) -> dict[str, Any]:
        """Rolls version 2 back while requests come, and forward again; times it from the log."""
        platform = self.main.platform
        if not any(move.action == "rollback" for move in self.main.version(self.model, 1).history):
            self._publish()
            self._drill(self._open_rows(month))
        elif platform.registry.state().model(self.model.name).production != 2:
            self._forward()  # a run that died between
        self.main.run("seal")
        return {"rollback_ms": rollback_ms(self.main, self.model), "failed_requests": self.asked.failed}

    def _drill(self, rows: pa.Table) -> None:
        load = threading.Thread(target=self._ask, args=(rows,))
        load.start()
        time.sleep(0.15)
        config = {"model": self.model.name, "version": 1, "principal": _LAUNCHER, "reason": "Rollback drill."}
        self.main.run("rollback", config={"rollback_op": {"config": config}})
        load.join()
        self._forward()

    def _forward(self) -> None:
        reason = "The drill is over: forward again."
        lifecycle.restore(self.main.platform, self.model.name, 2, principal=_LAUNCHER, reason=reason)
        self.main.reconcile()

    def _recorded(self, *, role: str, version: int) -> bool:
        lake, table = self.main.platform.lake, predictions_table(self.model.name)
        where = (pc.field("role") == role) & (pc.field("version") == version)
        return bool(lake.exists(table) and lake.dataset(table).count_rows(filter=where))

    def counts(self) -> dict[str, Any]:
        """Online decisions of record in the log, of all runs."""
        where = (pc.field("mode") == "online") & pc.field("decision_of_record")
        table = predictions_table(self.model.name)
        return {"online": self.main.platform.lake.dataset(table).count_rows(filter=where)}


def request_rows_none(main: DemoRoot, model: Model) -> pa.Table:
    """No rows, in the columns of a request."""
    at = main.platform.clock.now()
    return request_rows(main.platform, model, at, at)


def rollback_ms(main: DemoRoot, model: Model) -> float:
    """From the flip to the last answer of the version that was rolled back, by the log's own wall times.

    Raises:
        NotFound: nothing was rolled back.
    """
    platform = main.platform
    flips = [one for one in platform.registry.entries() if one.kind == "route_flipped" and one.model == model.name]
    if not flips:
        raise NotFound("Nothing was rolled back.", field="rollback", next_step="Run the demo again.")
    flipped_us = micros(parse_utc(open_flip(platform.objects.get(flips[0].body["flip"])).issued_at))
    where = (pc.field("mode") == "online") & (pc.field("version") == 2) & (pc.field("role") != "shadow")
    records = platform.lake.read(predictions_table(model.name), columns=["recorded_at", "flip_digest"], where=where)
    unflipped = records.filter(pc.field("flip_digest").is_null()).column("recorded_at").cast(pa.int64()).to_numpy()
    after = unflipped[unflipped >= flipped_us] - flipped_us
    return float(after.max()) / 1_000 if len(after) else 0.0
