"""What the arms of the route in force did, read from sealed records and counted refusals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ml_platform.core.clock import parse_utc
from ml_platform.core.errors import IllegalTransition
from ml_platform.core.rows import micros
from ml_platform.governance.reading import definition
from ml_platform.lifecycle.decisions import complete_segments
from ml_platform.platform import Platform
from ml_platform.registry.loop_state import RouteState
from ml_platform.registry.route import PRIMARY
from ml_platform.registry.state import ModelState
from ml_platform.rollout import ArmEvidence, Evidence, Rollout
from ml_platform.rollout.evidence import RECORD_COLUMNS, arm_evidence
from ml_platform.serving.online_tables import ONLINE_PARTITION
from ml_platform.serving.tables import key_column, output_column, personal_table, predictions_table, quarantine_table
from ml_platform.training import load_artifact

__all__ = ["Step", "current_step", "declared_plan", "read_evidence"]

_UTC: Final = pa.timestamp("us", "UTC")
_HEADER: Final = ("prediction_id", "version", "role", "latency_us")


@dataclass(frozen=True)
class Step:
    """The step of a rollout that is under way.

    Attributes:
        canary: the version in canary, with its share in the route in force (0: none) in basis points.
        primary: the version that answers everybody else; None while nothing is routed.
        route: the route in force.
        started_at: when it was put in force, on the platform's clock.
    """

    model: str
    canary: int
    share_bp: int
    primary: int | None
    route: RouteState | None
    started_at: datetime | None


def declared_plan(platform: Platform, known: ModelState, version: int) -> Rollout:
    """The plan with which a version was registered."""
    spec = definition(platform.objects, known.version(version).digests.spec)
    return Rollout.from_spec(spec["rollout"])


def current_step(platform: Platform, known: ModelState) -> Step:
    """Where the canary stands.

    Raises:
        IllegalTransition: no version is in canary.
    """
    if known.canary is None:
        raise IllegalTransition(
            "No version is in canary.",
            field="model",
            next_step=f"`mlp promote {known.name} VERSION --to canary` begins a rollout.",
        )
    route = known.route
    if route is None:
        return Step(known.name, known.canary, 0, None, None, None)
    share = sum(one.share_bp for one in route.arms if one.arm != PRIMARY and one.version == known.canary)
    started = parse_utc(platform.registry.entry(route.index).effective_at)
    return Step(known.name, known.canary, share, route.primary, route, started)


def read_evidence(platform: Platform, step: Step) -> Evidence:
    """Both arms since the route was put in force: what it answered and sealed, and what its versions refused.

    Records of another route, or decided under a local rollback, are no evidence about this one.
    """
    if step.route is None or step.primary is None or step.started_at is None:
        raise IllegalTransition("No route is in force.", field="route", next_step="Promote a version to production.")
    names = {step.primary: PRIMARY, step.canary: next(one.arm for one in step.route.arms if one.arm != PRIMARY)}
    primary, canary = (_arm(platform, step, version, role) for version, role in names.items())
    return Evidence(primary, canary)


def _arm(platform: Platform, step: Step, version: int, role: str) -> ArmEvidence:
    known = platform.registry.state().version(step.model, version)
    contract = load_artifact(platform.objects, known.digests.artifact).contract
    keys = [key_column(name) for name, _ in contract.entity_keys]
    score = output_column(contract.outputs[0].name)
    return arm_evidence(version, _records(platform, step, role, keys, score), keys, _refused(platform, step, version))


def _records(platform: Platform, step: Step, role: str, keys: list[str], score: str) -> pa.Table:
    headers_name, personal_name = predictions_table(step.model), personal_table(step.model)
    if not platform.lake.exists(headers_name) or step.route is None or step.started_at is None:
        return pa.table({name: pa.array([], pa.string()) for name in (*RECORD_COLUMNS, *keys)})
    since = ds.field("decided_date") >= step.started_at.date().isoformat()
    where = since & (ds.field("mode") != "batch") & (ds.field("role") == role)
    where &= (ds.field("route_digest") == step.route.digest) & ds.field("flip_digest").is_null()
    where &= ds.field("segment_id").isin(complete_segments(platform, step.model))
    headers = platform.lake.read(headers_name, columns=list(_HEADER), where=where)
    names = ["prediction_id", "decision", score, *keys]
    personal = platform.lake.read(personal_name, columns=names, where=since)
    at: Any = pc.index_in(personal.column("prediction_id"), value_set=headers.column("prediction_id").combine_chunks())
    found = pc.is_valid(at)
    personal, headers = personal.filter(found), headers.take(at.filter(found))
    personal = personal.rename_columns(["score" if name == score else name for name in personal.column_names])
    return personal.append_column("latency_us", headers.column("latency_us"))


def _refused(platform: Platform, step: Step, version: int) -> list[str]:
    """The index of each request that the version's contract refused online since the step began."""
    name = quarantine_table(step.model)
    if not platform.lake.exists(name) or step.started_at is None:
        return []
    since = pa.scalar(micros(step.started_at), _UTC)
    where = (
        (ds.field("version") == version)
        & (ds.field("decided_at") >= since)
        & (ds.field("partition") == ONLINE_PARTITION)
    )
    return [str(text) for text in platform.lake.read(name, columns=["row_index"], where=where).column(0).to_pylist()]
