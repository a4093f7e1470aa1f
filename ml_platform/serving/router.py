"""The router core: from the tensors of a batch of requests to recorded decisions, and only then to answers.

Once a batch: the platform's clock, the route, the contract of each arm's version, stored features, one scoring call a
version, and one durable append to the write-ahead log. What cannot be recorded is not answered. The process that
calls it (Triton's Python backend, a test) knows nothing of all this, and this knows nothing of that process.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

from ml_platform.core.clock import WallClock, format_utc
from ml_platform.core.errors import PlatformError, StorageFailed
from ml_platform.core.settings import Settings
from ml_platform.features.stores import open_online_store
from ml_platform.registry.pinned import pinned
from ml_platform.registry.routefile import Routed, RouteFile
from ml_platform.serving.features_lookup import FeatureLookup, StoredFeatures
from ml_platform.serving.online_contract import RefusedRow
from ml_platform.serving.online_encoding import ID_RANDOM, Moment, new_ids
from ml_platform.serving.online_record import LoggedRefusal, encode_refusal
from ml_platform.serving.online_request import Request
from ml_platform.serving.router_answers import Answer, Rejection, refused, unavailable
from ml_platform.serving.router_batch import Group, answers_of, groups_of, leave_out
from ml_platform.serving.router_clock import clock_of, wall_us
from ml_platform.serving.router_metrics import RouterMetrics
from ml_platform.serving.router_root import RouterParts, object_store, shared_seed
from ml_platform.serving.scorer import Scorer
from ml_platform.serving.scoring import quarantine_index
from ml_platform.serving.served import Executor, ServedArm, ServedRoute, Versions
from ml_platform.serving.wal import WalWriter, WriterInfo, wal_folder

__all__ = ["Router"]

_RETRY_SECONDS: Final = 1.0
_TICK_SECONDS: Final = 0.1
_SALT: Final = 32


class Router:
    """Decides requests about one model. Safe for several threads; one at a time decides.

    Attributes:
        metrics: what was counted; read at any time.
    """

    def __init__(self, parts: RouterParts) -> None:
        self._parts = parts
        self._versions = Versions(
            parts.load,
            root_id=parts.root_id,
            model=parts.model,
            clock=parts.clock.kind,
            writer=parts.writer,
            longest_text=parts.longest_text,
        )
        self._mutex = threading.Lock()
        self._served: ServedRoute | None = None
        self._failed: tuple[Routed, float] | None = None
        self._seed = b""
        self._seq = 0
        self._closed = threading.Event()
        self.metrics = RouterMetrics()

    @classmethod
    def open(
        cls,
        settings: Settings,
        model: str,
        *,
        features: FeatureLookup | None = None,
        executor: Executor | None = None,
        longest_text: int = 1024,
    ) -> Self:
        """A router of a root, with a boot id and a log of its own; loads what the route names, if there is one yet.

        Stored features come from the root's online store, unless ``features`` says otherwise.

        Raises:
            NotFound: the root never had a route, so nothing is pinned.
            StorageFailed: the log cannot be made.
        """
        root = settings.root
        root_id = pinned(root / "serving", model).root_id
        objects = object_store(settings)
        writer = f"router-{secrets.token_hex(16)}"
        info = WriterInfo(writer, "router", model, root_id, format_utc(WallClock().now()), os.getpid())
        routes = RouteFile.of(root, model)
        router = cls(
            RouterParts(
                root_id=root_id,
                model=model,
                routes=routes,
                clock=clock_of(settings),
                load=lambda digest: Scorer.load(objects, digest),
                shared_seed=lambda contract: shared_seed(settings, objects, contract),
                log=WalWriter(wal_folder(root, model, writer), info),
                writer=writer,
                features=features or StoredFeatures(objects, open_online_store(settings.online)),
                executor=executor,
                longest_text=longest_text,
            )
        )
        router.start()
        return router

    def start(self) -> None:
        """Loads what the route names, and keeps the log: completes files that are old or asked for, and makes room."""
        try:
            self._follow()
        except PlatformError as error:
            self.metrics.route_refused = str(error.field or "route")
        threading.Thread(target=self._tick, name="wal-keeping", daemon=True).start()

    def _tick(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            self._parts.log.rotate_if_due()
            self._parts.log.make_room()

    def close(self) -> None:
        """Answers nothing any more, and gives the log to the sealer."""
        self._closed.set()
        self._parts.log.close()

    def handle(self, requests: Sequence[Request]) -> list[Answer | Rejection]:
        """Decides a batch; each request is answered in its place, and every answer is in the log before.

        Args:
            requests: name → array with one value a row, see ``serving.online_request``.
        """
        arrived_ns = time.perf_counter_ns()
        with self._mutex:
            self.metrics.requests += len(requests)
            self.metrics.batches += 1
            self.metrics.largest_batch = max(self.metrics.largest_batch, len(requests))
            try:
                served = self._follow()
                decided_at_us = self._parts.clock.now_us()
            except PlatformError as error:
                return self._none(requests, error, error.field or "route")
            rejected: dict[int, Rejection] = {}
            groups = groups_of(served, requests)
            refusals = self._admit(groups, decided_at_us, rejected)
            self._decide(groups, rejected)
            try:
                return self._record(groups, requests, refusals, rejected, (decided_at_us, arrived_ns))
            except StorageFailed as error:
                return self._none(requests, error, "log")

    def _none(self, requests: Sequence[Request], error: PlatformError, rule: str) -> list[Answer | Rejection]:
        self.metrics.unavailable[rule] += len(requests)
        return [unavailable(error, rule)] * len(requests)

    def _follow(self) -> ServedRoute:
        """The route that is followed now, with its versions loaded; the last good one where a new one cannot be."""
        routed = self._parts.routes.current()
        if self._served is not None and self._served.routed is routed:
            return self._served
        if self._served is not None and self._failed is not None:
            failed, again_at = self._failed
            if failed is routed and time.monotonic() < again_at:
                return self._served
        try:
            served = self._versions.serve(routed)
            self._seed = self._seed or self._parts.shared_seed(served.primary.contract.contract)
        except PlatformError:
            if self._served is None:
                raise
            self._failed = (routed, time.monotonic() + _RETRY_SECONDS)
            self.metrics.route_refused = "not_loaded"
            return self._served
        self._served, self._failed = served, None
        self.metrics.epoch = routed.epoch
        self.metrics.flipped = routed.flip is not None
        self.metrics.route_refused = None if routed.refused is None else routed.refused.reason
        return served

    def _admit(
        self, groups: Iterable[Group], decided_at_us: int, rejected: dict[int, Rejection]
    ) -> list[tuple[ServedArm, RefusedRow]]:
        """Applies each arm's contract; the refused rows, to be recorded."""
        refusals: list[tuple[ServedArm, RefusedRow]] = []
        for group in groups:
            try:
                admitted = group.arm.contract.admit(group.requests, decided_at_us, self._parts.features)
            except PlatformError as error:
                self._unavailable(group.parts, error, "features", rejected)
                continue
            group.admitted = admitted
            for place, rows in admitted.refused.items():
                number = group.parts[place][0]
                first = rows[0].refusals[0]
                if number not in rejected:  # another arm may have refused other rows of it
                    rejected[number] = refused(first)
                    self.metrics.refused[first.field, first.rule] += 1
                refusals += [(group.arm, row) for row in rows]
        return refusals

    def _decide(self, groups: Sequence[Group], rejected: dict[int, Rejection]) -> None:
        for group in groups:
            admitted = group.admitted
            if admitted is None or not admitted.bodies:
                continue
            try:
                group.decided = group.arm.decide(self._parts.executor, admitted.matrix)
            except PlatformError as error:
                self._unavailable([group.parts[place] for place, _ in admitted.requests], error, "version", rejected)
        if len(groups) > 1 and rejected:
            for group in groups:
                leave_out(group, rejected)

    def _unavailable(
        self,
        parts: Iterable[tuple[int, Any]],
        error: PlatformError,
        rule: str,
        rejected: dict[int, Rejection],
    ) -> None:
        for number, _ in parts:
            if number not in rejected:
                self.metrics.unavailable[rule] += 1
                rejected[number] = unavailable(error, rule)

    def _record(
        self,
        groups: Sequence[Group],
        requests: Sequence[Request],
        refusals: Sequence[tuple[ServedArm, RefusedRow]],
        rejected: dict[int, Rejection],
        times: tuple[int, int],
    ) -> list[Answer | Rejection]:
        """Makes the batch durable, then gives its answers out.

        Raises:
            StorageFailed: nothing of the batch is in the log.
        """
        decided_at_us, arrived_ns = times
        seq = self._seq
        moment = Moment(decided_at_us, wall_us(), (time.perf_counter_ns() - arrived_ns) // 1000)
        frames = [self._refusal(arm, row, moment) for arm, row in refusals]
        ids: list[list[bytes]] = []
        for group in groups:
            if group.decided is None or group.admitted is None:
                ids.append([])
                continue
            rows = len(group.admitted.bodies)
            random = os.urandom(rows * (ID_RANDOM + _SALT))
            made = new_ids(decided_at_us, random[: rows * ID_RANDOM])
            salts = random[rows * ID_RANDOM :]
            frames += group.arm.encoder.payloads(moment, group.admitted.bodies, group.decided, made, salts, seq)
            seq += rows
            ids.append(made)
        if frames:
            self._parts.log.append(frames)
        self._count(groups, moment, seq - self._seq)
        self._seq = seq
        return answers_of(groups, ids, rejected, len(requests))

    def _refusal(self, arm: ServedArm, row: RefusedRow, moment: Moment) -> bytes:
        return encode_refusal(
            LoggedRefusal(
                writer=self._parts.writer,
                model=self._parts.model,
                version=arm.version,
                contract_digest=arm.contract.contract.digest,
                decided_at_us=moment.decided_at_us,
                recorded_at_us=moment.recorded_at_us,
                row_index=quarantine_index(self._seed, self._parts.model, row.row_key),
                refusals=row.refusals,
            )
        )

    def _count(self, groups: Iterable[Group], moment: Moment, rows: int) -> None:
        metrics = self.metrics
        metrics.rows += rows
        metrics.latency_us_sum += moment.latency_us * rows
        metrics.log_bytes = self._parts.log.bytes_written
        metrics.last_sync = self._parts.log.last_sync
        for group in groups:
            if group.decided is None or group.admitted is None:
                continue
            texts = group.decided.decision_texts
            for code in group.decided.decisions.tolist():
                metrics.decided[group.arm.version, group.arm.name, texts[code] or ""] += 1
            for flags in group.admitted.flags.values():
                metrics.flagged.update(flags)
