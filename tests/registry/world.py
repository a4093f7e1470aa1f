"""A small root for tests: real keys, a real SQLite file, a real object store; gates read their verdicts from the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ml_platform.core.digests import canonical_json, document_digest, sha256_hex
from ml_platform.core.objects import ObjectStore
from ml_platform.registry import (
    EVALUATION_NAMESPACE,
    AuthorshipClaim,
    CheckpointSigner,
    Decision,
    Member,
    Registration,
    Registry,
    Signer,
    create,
    email_commitment,
    policy_document,
    sign,
)
from ml_platform.registry.evidence import Evidence
from ml_platform.registry.gates import GateVerdict
from ml_platform.registry.sshsig import public_key_line

ROOT_ID = "00112233445566778899aabbccddeeff"
SALT = bytes(range(32))
AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
PEOPLE = ("officer:ann", "officer:bob", "team:carl")


def key(name: str) -> Ed25519PrivateKey:
    """The same key for a name in every test and process."""
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b".")[:32])


def line(name: str) -> str:
    return public_key_line(key(name))


def email(name: str) -> str:
    return email_commitment(SALT, f"{name.partition(':')[2]}@example.org")


def member(name: str, *roles: str) -> Member:
    return Member(name, line(name), roles or ("approver", "officer"), (email(name),))


def verdicts_of_table(spec: Mapping[str, Any], evaluation: Mapping[str, Any], table: bytes) -> tuple[GateVerdict, ...]:
    """Stands in for the statistics: the table says each gate's verdict."""
    said = json.loads(table)
    return tuple(
        GateVerdict(
            gate["name"],
            gate["kind"],
            said[gate["name"]],
            gate.get("on_inconclusive", "refuse"),
            explained=gate.get("by") in evaluation.get("unavailable", ()),
        )
        for gate in spec["gates"]
    )


@dataclass
class Ticking:
    """A clock that tests move."""

    at: datetime = AT

    def now(self) -> datetime:
        return self.at

    def forward(self, **step: float) -> None:
        self.at += timedelta(**step)


POLICY = policy_document(
    {"high": {"may_ask": ["calibrated"], "may_be_unavailable": ["group_ratio"]}, "minimal": {}}, authorship="claimed"
)
GATES = [
    {"kind": "at_least", "name": "auc", "on_inconclusive": "refuse"},
    {"kind": "calibrated", "name": "calibrated", "on_inconclusive": "ask"},
]


@dataclass
class World:
    """Files of one root, opened."""

    folder: Path
    wall: Ticking = field(default_factory=Ticking)
    policy: Mapping[str, Any] = field(default_factory=lambda: POLICY)
    members: tuple[Member, ...] = (
        member("officer:ann"),
        member("officer:bob"),
        member("team:carl", "approver"),
    )
    threshold: int = 1
    kind: str = "wall"
    clock: Ticking | None = None
    real: bool = False  # judge by the real statistics

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.database = self.folder / "registry.sqlite"
        self.objects = ObjectStore(self.folder / "store")
        self.registry = Registry.create(self.url, self.objects, self.genesis(), **self.parts())

    @property
    def url(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def signer(self) -> CheckpointSigner:
        return CheckpointSigner(Signer(f"ml-platform/{ROOT_ID}", key("log")), self.folder / "high_water")

    def evidence(self) -> Evidence:
        return Evidence(self.objects) if self.real else Evidence(self.objects, verdicts_of_table)

    def parts(self) -> dict[str, Any]:
        return {"signer": self.signer, "wall": self.wall, "clock": self.clock, "evidence": self.evidence()}

    def genesis(self) -> dict[str, Any]:
        return create(
            root_id=ROOT_ID,
            root_kind=self.kind,
            seed_class="published",
            seed=None if self.kind == "wall" else bytes(32),
            log_vkey=self.signer.key.verifier.vkey,
            service_key=line("service"),
            evaluator_key=line("evaluator"),
            members=self.members,
            policy=self.policy,
            threshold=self.threshold,
        )

    def reopen(self, **changes: Any) -> Registry:
        """As another process would open it."""
        self.registry.close()
        self.registry = Registry.open(self.url, self.objects, **{**self.parts(), **changes})
        return self.registry

    # -- making versions ---------------------------------------------------------------------------------------------

    def spec(self, gates: list[dict[str, Any]] | None = None, **changes: Any) -> str:
        """Stores a declaration and returns its digest."""
        document = {"name": "credit_risk", "gates": GATES if gates is None else gates, "approvals": {}, **changes}
        digest = document_digest("definition", document)
        self.objects.create(f"definitions/{digest.removeprefix('sha256:')}.json", canonical_json(document))
        return digest

    def candidate(self, number: int) -> str:
        return f"2026{number:04d}T000000Z_{number:012x}"

    def request(self, number: int, *, spec: str | None = None, by: str = "service", model: str = "credit_risk") -> str:
        name = self.candidate(number)
        self.registry.candidate_requested(
            model, name, as_of=AT, spec=spec or self.spec(), inputs=sha256_hex(b"inputs"), requested_by=by
        )
        return name

    def evaluation(
        self,
        number: int,
        verdicts: Mapping[str, str] | None = None,
        baseline: tuple[int, str] | None = None,
        model: str = "credit_risk",
        **changes: Any,
    ) -> str:
        """Stores table and evaluation and returns the evaluation's digest."""
        table = canonical_json({"auc": "pass", "calibrated": "pass", **(verdicts or {})})
        document = {
            "model": model,
            "candidate": self.candidate(number),
            "run_record": self.run_record(number),
            "artifact": self.artifact(number),
            "training_set": sha256_hex(b"rows"),
            "table": self.objects.put(table),
            "baseline": None if baseline is None else {"version": baseline[0], "artifact": baseline[1]},
            **changes,
        }
        return self.objects.put(canonical_json(document))

    def run_record(self, number: int) -> str:
        return self.objects.put(f"run record {number}".encode())

    @staticmethod
    def artifact(number: int) -> str:
        return sha256_hex(f"artifact {number}".encode())

    def evaluate(self, number: int, evaluation: str, *, by: str = "evaluator", model: str = "credit_risk") -> None:
        self.registry.candidate_evaluated(
            model,
            self.candidate(number),
            run_record=self.run_record(number),
            evaluation=evaluation,
            signature=sign(key(by), evaluation.encode(), EVALUATION_NAMESPACE),
        )

    def registration(self, number: int, model: str = "credit_risk", **changes: Any) -> Registration:
        values: dict[str, Any] = {
            "model": model,
            "candidate": self.candidate(number),
            "artifact": self.artifact(number),
            "contract": sha256_hex(b"contract"),
            "training_set": sha256_hex(b"rows"),
            "authorship": AuthorshipClaim("known", (email("team:dora"),)),
            "registered_by": "service",
            **changes,
        }
        return Registration(**values)

    def version(
        self,
        number: int,
        *,
        verdicts: Mapping[str, str] | None = None,
        baseline: tuple[int, str] | None = None,
        spec: str | None = None,
        by: str = "service",
        model: str = "credit_risk",
        evaluation: Mapping[str, Any] | None = None,
        **registration: Any,
    ) -> int:
        """A registered version from candidate ``number``."""
        self.request(number, spec=spec, by=by, model=model)
        said = self.evaluation(number, verdicts, baseline, model, **(evaluation or {}))
        self.evaluate(number, said, model=model)
        return self.registry.register(self.registration(number, model, **registration))

    # -- approving and moving ----------------------------------------------------------------------------------------

    def payload(self, version: int, source: str, to: str, model: str = "credit_risk", **more: Any) -> bytes:
        return self.registry.payload(
            model, version, action="promote", source=source, to=to, reason="Looks right to me.", **more
        )

    def approve(
        self, version: int, source: str, to: str, *, by: str = "officer:ann", model: str = "credit_risk", **more: Any
    ) -> bytes:
        payload = self.payload(version, source, to, model, **more)
        self.registry.approve(payload, sign(key(by), payload, "promote@ml-platform"))
        return payload

    def move(self, version: int, action: str, to: str, model: str = "credit_risk", **more: Any) -> Any:
        return self.registry.transition(
            model, version, action, to=to, actor="officer:ann", reason="It is time.", **more
        )

    def to_canary(self, version: int, model: str = "credit_risk") -> None:
        self.move(version, "stage", "staging", model)
        self.approve(version, "staging", "canary", model=model)
        self.move(version, "promote", "canary", model)

    def to_production(self, version: int, model: str = "credit_risk") -> None:
        self.to_canary(version, model)
        self.approve(version, "canary", "production", model=model)
        self.move(version, "promote", "production", model)

    def ordered(
        self, action: str, subject: Mapping[str, Any], *by: str, days: float = 7
    ) -> tuple[bytes, dict[str, str]]:
        """An order and the signatures under it."""
        order = self.registry.order(action, subject, days=days)
        return order, {name: sign(key(name), order, f"{action}@ml-platform") for name in by}

    def add_key(self, name: str, *by: str, roles: tuple[str, ...] = ("approver",), principal: str | None = None) -> int:
        subject = {**member(name, *roles).body(), **({"principal": principal} if principal else {})}
        order, signatures = self.ordered("add_key", subject, *by)
        possession = sign(key(name), order, "key@ml-platform")
        return self.registry.add_key(order, possession=possession, signatures=signatures)


ACCEPT_CALIBRATION = (Decision("calibrated", "inconclusive", "Few positives; the slope is right."),)
