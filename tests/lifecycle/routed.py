"""A wall root with real keys, log and route files, whose versions cost nothing: their verdicts stand in their tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml_platform import Platform, lifecycle
from ml_platform.core.digests import canonical_json, document_digest, sha256_hex
from ml_platform.core.errors import ServerUnavailable
from ml_platform.registry import EVALUATION_NAMESPACE, AuthorshipClaim, Registration, Registry, load_signer, sign
from ml_platform.registry.evidence import Evidence
from ml_platform.registry.gates import GateVerdict
from ml_platform.registry.routefile import Routed, RouteFile
from ml_platform.registry.routefolder import RouteFolder
from ml_platform.registry.state import ModelState

MODEL = "credit_risk"
BY = {"principal": "ada", "reason": "As measured."}
STEPS = {"shadow": "0d", "canary": [5, 25], "max_hold": "14d"}


def verdicts_of_table(spec: Mapping[str, Any], _: Mapping[str, Any], table: bytes) -> tuple[GateVerdict, ...]:
    said = json.loads(table)
    return tuple(GateVerdict(gate["name"], gate["kind"], said[gate["name"]], "refuse") for gate in spec["gates"])


def new_platform(root: Path) -> Platform:
    return opened(
        Platform.create(root, kind="wall", member_keys={"ada": ["ada@example.org"], "bob": ["b@example.org"]})
    )


def opened(platform: Platform) -> Platform:
    """With a registry that reads verdicts from the table."""
    platform.registry.close()
    registry = Registry.open(
        platform.settings.registry,
        platform.objects,
        signer=platform.secrets.log_signer(),
        evidence=Evidence(platform.objects, verdicts_of_table),
    )
    return replace(platform, registry=registry)


def artifact(number: int) -> str:
    return sha256_hex(f"artifact {number}".encode())


@dataclass
class Machine:
    """An inference server for a promotion to ask: it loads, until it is told to refuse."""

    loaded: dict[int, str] = field(default_factory=dict)
    retired: list[int] = field(default_factory=list)
    away: bool = False

    def prepare(self, model: str, version: int, artifact: str) -> None:
        if self.away:
            raise ServerUnavailable("No inference server runs.", field="serving", next_step="Start it.")
        assert model == MODEL
        self.loaded[version] = artifact

    def retire(self, model: str, version: int) -> None:
        if self.away:
            raise ServerUnavailable("No inference server runs.", field="serving", next_step="Start it.")
        self.retired.append(version)
        self.loaded.pop(version, None)


@dataclass
class Shop:
    """One root, and moves in it."""

    platform: Platform

    @property
    def model(self) -> ModelState:
        return self.platform.registry.state().model(MODEL)

    @property
    def files(self) -> RouteFolder:
        return RouteFolder.of(self.platform.root, MODEL)

    @property
    def routed(self) -> Routed:
        """As a router that starts now sees it."""
        return RouteFile.of(self.platform.root, MODEL).current()

    def shares(self) -> dict[int, int]:
        """Version → share of the units that it answers now."""
        return {arm.version: arm.share_bp for arm in self.routed.arms}

    def allowed(self) -> list[int]:
        return [one.version for one in self.routed.route.allowed_rollbacks]

    def verified(self) -> bool:
        evidence = Evidence(self.platform.objects, verdicts_of_table)
        registry = Registry.open(self.platform.settings.registry, self.platform.objects, evidence=evidence)
        report = registry.verify()
        registry.close()
        return report.status == "verified"

    def version(self, *, rollout: Mapping[str, Any] | None = STEPS) -> int:
        """A registered version, evaluated against what is in production."""
        registry, objects = self.platform.registry, self.platform.objects
        known = registry.state().models.get(MODEL)
        number = max(known.versions, default=0) + 1 if known else 1
        spec = {"name": MODEL, "gates": [], "approvals": {}, **({"rollout": rollout} if rollout else {})}
        digest = document_digest("definition", spec)
        objects.create(f"definitions/{digest.removeprefix('sha256:')}.json", canonical_json(spec))
        candidate = f"2026{number:04d}T000000Z_{number:012x}"
        registry.candidate_requested(
            MODEL, candidate, as_of=datetime(2026, 1, 1, tzinfo=UTC), spec=digest, inputs=digest, requested_by="service"
        )
        production = known.production if known else None
        evaluation = objects.put(
            canonical_json(
                {
                    "model": MODEL,
                    "candidate": candidate,
                    "run_record": objects.put(f"run {number}".encode()),
                    "artifact": artifact(number),
                    "training_set": digest,
                    "table": objects.put(b"{}"),
                    "baseline": production and {"version": production, "artifact": artifact(production)},
                }
            )
        )
        registry.candidate_evaluated(
            MODEL,
            candidate,
            run_record=objects.put(f"run {number}".encode()),
            evaluation=evaluation,
            signature=sign(self.platform.secrets.evaluator(), evaluation.encode(), EVALUATION_NAMESPACE),
        )
        return registry.register(
            Registration(MODEL, candidate, artifact(number), digest, digest, AuthorshipClaim("known"), "service")
        )

    def approve(self, version: int, to: str) -> None:
        payload = self.platform.registry.payload(MODEL, version, action="promote", to=to, reason="Reviewed.")
        key = load_signer(self.platform.secrets.path("people") / "ada")
        self.platform.registry.approve(payload, sign(key, payload, "promote@ml-platform"))

    def promote(self, version: int, to: str, **more: Any) -> lifecycle.Transitioned:
        self.approve(version, to)
        return lifecycle.promote(self.platform, MODEL, version, to, **BY, **more)

    def to_canary(self, version: int | None = None, **more: Any) -> int:
        number = version or self.version()
        lifecycle.stage(self.platform, MODEL, number, **BY)
        self.promote(number, "canary", **more)
        return number

    def to_production(self, version: int | None = None, **more: Any) -> int:
        number = self.to_canary(version, **more)
        self.promote(number, "production", **more)
        return number
