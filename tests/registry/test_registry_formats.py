"""Stored formats of the registry: kinds of entries and golden vectors stand in the documents, and the code agrees."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_platform.core.digests import canonical_json, sha256_hex
from ml_platform.core.merkle import Frontier, leaf_hash
from ml_platform.core.rows import encode_row
from ml_platform.registry import Signer, create, email_commitment, policy_document, sign
from ml_platform.registry.approvals import Decision, build_payload
from ml_platform.registry.assignment import Assignment
from ml_platform.registry.events import Event, encode_entry, parse_entry
from ml_platform.registry.flip import Flip
from ml_platform.registry.fold import fold
from ml_platform.registry.genesis import seed_commitment
from ml_platform.registry.kinds import KINDS, SEGMENT
from ml_platform.registry.notes import Checkpoint, sign_checkpoint
from ml_platform.registry.orders import build_order
from ml_platform.registry.pinned import pin_root
from ml_platform.registry.route import Route, sign_route
from ml_platform.registry.state import State
from tests.registry.routing import allowed, arms, flip, route
from tests.registry.world import AT, ROOT_ID, SALT, key, line, member

DIGEST = {name: sha256_hex(name.encode()) for name in ("spec", "artifact", "contract", "run_record", "evaluation")}
CANDIDATE = "20260105T000000Z_0123456789ab"
LOG = Signer(f"ml-platform/{ROOT_ID}", key("log"))


def log() -> list[tuple[Event, bytes]]:
    """Genesis, request, evaluation and registration, with their bytes."""
    genesis = create(
        root_id=ROOT_ID, root_kind="wall", seed_class="private", seed=None, log_vkey=LOG.verifier.vkey,
        service_key=line("service"), evaluator_key=line("evaluator"),
        members=(member("officer:ann"), member("officer:bob")), policy=policy_document({"high": {}}),
    )  # fmt: skip
    events = [
        Event("genesis", genesis),
        Event("candidate_requested", {
            "candidate": CANDIDATE, "as_of": "2026-01-05T00:00:00.000000Z", "spec": DIGEST["spec"],
            "inputs": sha256_hex(b"inputs"), "requested_by": "service",
        }, "credit_risk"),
        Event("candidate_evaluated", {
            "candidate": CANDIDATE, "run_record": DIGEST["run_record"], "evaluation": DIGEST["evaluation"],
            "signature": sha256_hex(b"signature"), "gates": [{"gate": "at_least.auc", "verdict": "pass"}],
        }, "credit_risk"),
        Event("registered", {
            **DIGEST, "version": 1, "candidate": CANDIDATE, "risk_class": "high", "training_set": sha256_hex(b"rows"),
            "baseline": None, "registered_by": "service",
            "authorship": {"status": "unknown", "basis": "claimed", "emails": [], "principals": []},
        }, "credit_risk"),
    ]  # fmt: skip
    return [(event, encode_entry(event, index=index, recorded_at=AT)[1]) for index, event in enumerate(events)]


def text(index: int) -> str:
    return log()[index][1].decode()


def state() -> State:
    return fold((parse_entry(raw, index), leaf_hash(raw)) for index, (_, raw) in enumerate(log()))


def frontier() -> Frontier:
    return Frontier().extend(leaf_hash(raw) for _, raw in log())


def window() -> dict:
    seen = {"size": 4, "root": "sha256:" + frontier().root().hex()}
    return {"seen": seen, "nonce": "00" * 16, "not_before": AT, "not_after": AT + timedelta(days=7)}


def payload() -> bytes:
    return build_payload(
        state(), "credit_risk", 1, action="promote", source="staging", to="canary", reason="It passes.",
        decisions=[Decision("calibrated", "inconclusive", "Few positives.")], **window(),
    )  # fmt: skip


def golden_route() -> Route:
    return route(arms=arms(2, 3, 500), allowed_rollbacks=allowed(1), log_index=4)


def golden_flip() -> Flip:
    return flip(sign_route(golden_route(), key("service")), 1)


def pinned_text() -> str:
    with tempfile.TemporaryDirectory() as folder:
        pin_root(Path(folder), root_id=ROOT_ID, genesis=sha256_hex(b"genesis"), service_key=line("service"))
        return canonical_json(json.loads((Path(folder) / "pinned.json").read_bytes())).decode()


COMPUTED: dict[str, Callable[[], str]] = {
    "entry/1 genesis": lambda: text(0),
    "entry/1 candidate_requested": lambda: text(1),
    "entry/1 registered": lambda: text(3),
    "entry/1 leaf": lambda: leaf_hash(log()[1][1]).hex(),
    "platform": lambda: state().genesis.platform,
    "log frontier": lambda: frontier().to_bytes().hex(),
    "log root": lambda: frontier().root().hex(),
    "checkpoint": lambda: repr(sign_checkpoint(Checkpoint(LOG.name, 4, frontier().root()), LOG).decode()),
    "approval/1": lambda: payload().decode(),
    "approval/1 digest": lambda: sha256_hex(payload()),
    "approval/1 signature": lambda: repr(sign(key("officer:ann"), payload(), "promote@ml-platform")),
    "order/1": lambda: build_order(state(), "add_key", member("team:eve", "approver").body(), **window()).decode(),
    "evaluation signature": lambda: repr(
        sign(key("evaluator"), DIGEST["evaluation"].encode(), "evaluation@ml-platform")
    ),
    "route/1": lambda: canonical_json(golden_route().document()).decode(),
    "route/1 digest": lambda: golden_route().digest,
    "route/1 signature": lambda: repr(json.loads(sign_route(golden_route(), key("service")).raw)["signature"]),
    "arm/1 place": lambda: str(Assignment(golden_route().salt, golden_route().arms).place(encode_row([("i64", 7)]))),
    "flip/1": lambda: str(golden_flip().raw, "ascii"),
    "flip/1 digest": lambda: golden_flip().digest,
    "pinned/1": pinned_text,
    "email/1": lambda: email_commitment(SALT, " Ann@Example.org "),
    "seed-commitment/1": lambda: seed_commitment(bytes(range(32))),
}


def kind_rows() -> list[str]:
    """The table of kinds, one line a kind."""
    words = {True: "yes", False: "no"}
    rows = []
    for name, kind in KINDS.items():
        fields = "; ".join(f"`{field}` {check.describe}" for field, check in kind.fields.items())
        rows.append(f"| `{name}` | {words[kind.model]} | {words[kind.critical]} | {fields} |")
    return rows


def segment_row() -> str:
    return "; ".join(f"`{field}` {check.describe}" for field, check in SEGMENT.fields.items()) + "."


def pages(repository: Path) -> str:
    return "\n".join((repository / "docs" / name).read_text() for name in ("formats.md", "registry.md"))


def test_every_kind_of_entry_is_documented_with_its_fields(repository: Path) -> None:
    text = pages(repository)
    for row in [*kind_rows(), segment_row()]:
        assert row in text


@pytest.mark.parametrize("name", sorted(COMPUTED))
def test_the_code_gives_the_golden_bytes(name: str, repository: Path) -> None:
    vectors = dict(re.findall(r"^```vector ([^\n]+)\n([^\n]*)\n```$", pages(repository), flags=re.MULTILINE))
    assert COMPUTED[name]() == vectors[f"registry {name}"]


def test_the_vectors_were_made_at_a_fixed_instant() -> None:
    assert datetime(2026, 1, 5, 9, tzinfo=UTC) == AT
