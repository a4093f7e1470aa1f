"""One root of the demo, and Dagster's jobs on it: each step once, whenever it is run again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import dagster as dg

from ml_platform import lifecycle
from ml_platform.core.clock import format_utc
from ml_platform.core.errors import GateFailed, PlatformError, StorageFailed
from ml_platform.core.files import write_atomically
from ml_platform.model import Model
from ml_platform.orchestration.keys import candidates_name
from ml_platform.orchestration.location import definitions
from ml_platform.orchestration.resource import PlatformResource
from ml_platform.orchestration.sensor import reconcile_now
from ml_platform.orchestration.sources import model_sources
from ml_platform.platform import Platform
from ml_platform.registry import VersionState
from ml_platform.registry.state import CandidateState

__all__ = ["OFFICERS", "PUBLISHED_SEED", "DemoRoot"]

OFFICERS: Final[Mapping[str, Sequence[str]]] = {
    "officer_1": ["officer.one@lender.example"],
    "officer_2": ["officer.two@lender.example"],
}
PUBLISHED_SEED: Final = b"ml_platform demo: published seed"  # equal on every machine: pseudonymous only, and says so
_ACCEPTED: Final = {
    "inconclusive": "Too few defaults are mature for the interval; the point is on the right side. Reviewed by hand.",
    "not_evaluated": "There is no data on this attribute here; the settings say why. Accepted for this replay only.",
}
_LAUNCHER: Final = "service"
_INSTANCE: Final = (
    b"telemetry:\n  enabled: false\nnux:\n  enabled: false\n"
    b"run_retries:\n  enabled: true\nrun_monitoring:\n  enabled: true\n"
)
# The runs' logs are in the instance (`mlp dev` shows them); the terminal gets a line a step.
_QUIET: Final[Mapping[str, Any]] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class DemoRoot:
    """A replay root with its Dagster instance.

    Args:
        models: all that run in it.
        folder: the code location.
    """

    path: Path
    folder: Path
    models: Sequence[Model]
    resource: PlatformResource
    instance: dg.DagsterInstance
    defs: dg.Definitions

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        folder: Path,
        models: Sequence[Model],
        starts_at: datetime,
        unavailable: Mapping[str, str] | None = None,
    ) -> DemoRoot:
        """Opens a root of the demo, or makes it."""
        path = path.absolute()
        if not (path / "settings.toml").exists():
            Platform.create(
                path,
                kind="replay",
                member_keys=OFFICERS,
                published_seed=PUBLISHED_SEED,
                unavailable=unavailable,
                starts_at=starts_at,
            ).registry.close()
        home = path / "dagster"
        if not (home / "dagster.yaml").exists():
            write_atomically(home / "dagster.yaml", _INSTANCE)
        os.environ["DAGSTER_HOME"] = str(home)
        resource = PlatformResource(root=str(path), code=str(folder))
        return cls(path, folder, models, resource, dg.DagsterInstance.get(), definitions(models, resource))

    @property
    def platform(self) -> Platform:
        return self.resource.open()

    def run(self, job: str, *, config: Mapping[str, Any] | None = None, **how: Any) -> dg.ExecuteInProcessResult:
        """Runs a job; our own errors come out as they are.

        Raises:
            PlatformError: the job was refused.
        """
        try:
            result = self.defs.resolve_job_def(job).execute_in_process(
                instance=self.instance, run_config={**_QUIET, "ops": dict(config or {})}, **how
            )
        except dg.DagsterError as error:
            raise _own(error) or error from None
        self.reconcile()
        return result

    def reconcile(self) -> None:
        """Shows in Dagster what the log says, as the sensor does in `mlp dev`."""
        reconcile_now(self.platform, self.instance, self.models)

    def move_clock(self, to: datetime) -> None:
        """Forward only: in a root that is further on, nothing happens."""
        if self.platform.clock.now() < to:
            self.platform.replay.move(to)

    def land(self, data: Path) -> dict[str, int]:
        """Lands every source's file through its asset; rows by source name."""
        rows: dict[str, int] = {}
        assets = {one.key: one for one in self.defs.assets or [] if isinstance(one, dg.AssetsDefinition)}
        for name in model_sources(self.models):
            file = data / f"{name}.parquet"
            if not file.exists():
                continue
            done = dg.materialize(
                [assets[dg.AssetKey(["sources", name])]],
                instance=self.instance,
                resources={"ml_platform": self.resource},
                run_config={**_QUIET, "ops": {f"sources__{name}": {"config": {"file": str(file)}}}},
            )
            (event,) = done.asset_materializations_for_node(f"sources__{name}")
            rows[name] = int(event.metadata["dagster/row_count"].value)  # type: ignore[arg-type]
        return rows

    def materialize_features(self, first: str, last: str) -> None:
        """A range of months of every stored view, in one run."""
        bounds = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        self.run("materialize_features", tags=bounds)

    def train(self, model: Model, as_of: datetime) -> str:
        """The candidate of an as-of time, through all its assets; its key. Done once, whatever the code says now.

        Raises:
            GateFailed: a gate is red; request and evidence stay.
        """
        known = self.candidate(model, as_of)
        if known is not None and known.version is not None:
            return known.key
        if known is not None and known.evaluated is not None:
            lifecycle.register_candidate(self.platform, model, known.key, code=self.folder)
            return known.key
        asked = {"model": model.name, "as_of": format_utc(as_of)}
        self.run("request_candidate", config={"request_candidate_op": {"config": asked}})
        asked_for = self.platform.registry.state().model(model.name).candidates.values()
        key = max((one for one in asked_for if one.version is None), key=lambda one: one.requested).key
        self.instance.add_dynamic_partitions(candidates_name(model.name), [key])
        try:
            self.run(f"{model.name}_train", partition_key=key)
        except dg.DagsterError as error:
            # A blocking check stops the run before the registry is asked; ask it, for its own words.
            lifecycle.register_candidate(self.platform, model, key, code=self.folder)
            raise StorageFailed("The run failed.", next_step="Look at it with `mlp dev`.") from error
        return key

    def candidate(self, model: Model, as_of: datetime) -> CandidateState | None:
        """The candidate of an as-of time that came furthest, however the code has changed since."""
        state = self.platform.registry.state().models.get(model.name)
        stamp = f"{as_of:%Y%m%dT%H%M%SZ}"
        found = [one for one in state.candidates.values() if one.key.startswith(stamp)] if state else []
        return max(found, key=lambda one: (one.version or 0, one.evaluated or 0, one.requested), default=None)

    def promote(self, model: Model, number: int, to: str, *, reason: str) -> None:
        """Stage by stage up to one: both officers sign each; stages that were held before are passed over."""
        stages = ("staging", "canary", "production")
        for stage in stages[: stages.index(to) + 1]:
            if any(move.to == stage for move in self.version(model, number).history):
                continue
            if stage != "staging":
                self._approve(model, number, stage)
            config = {"model": model.name, "version": number, "to": stage, "principal": _LAUNCHER, "reason": reason}
            self.run("promote", config={"promote_op": {"config": config}})

    def _approve(self, model: Model, number: int, stage: str) -> None:
        verdicts = lifecycle.open_decisions(self.platform, model.name, number)
        for officer in OFFICERS:
            lifecycle.approve(
                self.platform,
                model.name,
                number,
                stage,
                key=self.platform.secrets.path("people") / officer,
                reason=f"Evaluation and run record of version {number} reviewed for {stage}.",
                accept={gate: _ACCEPTED[verdict] for gate, verdict in verdicts.items()},
            )

    def version(self, model: Model, number: int) -> VersionState:
        return self.platform.registry.state().version(model.name, number)

    def refused(self, model: Model, as_of: datetime) -> tuple[str, list[dict[str, Any]]]:
        """Tries a candidate that must not pass: the registry's words, and the verdicts.

        Raises:
            GateFailed: never; that it passes is a `Conflict` of its own kind: the gates are not what they should be.
        """
        try:
            self.train(model, as_of)
        except GateFailed as error:
            known = self.platform.registry.state().model(model.name).candidates
            key = max(known.values(), key=lambda one: one.requested).key
            return str(error), list(lifecycle.read_evaluated(self.platform, model.name, key)["verdicts"])
        raise StorageFailed(
            "A candidate passed that must not pass.", field=model.name, next_step="Report it: its gates are broken."
        )


def _own(error: BaseException) -> PlatformError | None:
    """The error of ours that a failed run was about, if there is one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PlatformError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
