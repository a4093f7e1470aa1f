"""Decisions that a router logged for the small root's version, by a route that its registry applied."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from ml_platform import Platform
from ml_platform.core.clock import format_utc
from ml_platform.core.contract import Refusal
from ml_platform.core.ids import id_text, uuid_v7
from ml_platform.core.rows import encode_row, micros
from ml_platform.lifecycle.features import feature_reader
from ml_platform.registry.keyfiles import load_signer
from ml_platform.registry.route import ALL_BP, Arm, Route, SignedRoute, open_route, sign_route
from ml_platform.registry.sshsig import fingerprint, public_key_line
from ml_platform.serving import Scorer
from ml_platform.serving.online_record import LoggedDecision, LoggedRefusal, encode_decision, encode_refusal
from ml_platform.serving.record import Header
from ml_platform.serving.scoring import quarantine_index
from ml_platform.serving.wal import WalWriter, WriterInfo, wal_folder
from tests.governance.root import at
from tests.serving.online_support import sections

MODEL = "small_risk"
WRITER = "router-" + "0a" * 16
NOW = at("2010-03-31")


def requests(ids: Sequence[int], *, times: Sequence[datetime] | None = None) -> pa.Table:
    """Applications of March."""
    stamps = list(times or (at("2010-03-10") + timedelta(minutes=one) for one in range(len(ids))))
    return pa.table(
        {
            "loan_id": pa.array(list(ids), pa.int64()),
            "applied_at": pa.array(stamps, pa.timestamp("us", "UTC")),
            "amount": pa.array([2_000.0 + 900.0 * (one % 20) for one in ids]),
            "purpose": pa.array([("car", "home", "boat")[one % 3] for one in ids]),
        }
    )


def apply_route(platform: Platform, version: int = 1) -> SignedRoute:
    """The route in force; where the promotion wrote none, the first: all units to one version."""
    state = platform.registry.state()
    if state.model(MODEL).route is not None:
        return open_route(platform.registry.applied_route(MODEL), state.genesis.service_key)
    key = load_signer(platform.secrets.path("service"))
    artifact = platform.registry.state().version(MODEL, version).digests.artifact
    route = Route(
        root_id=platform.root_id,
        model=MODEL,
        epoch=1,
        previous=None,
        arms=(Arm("primary", version, artifact, ALL_BP),),
        salt="00" * 16,
        allowed_rollbacks=(),
        supersedes_flip=None,
        log_index=platform.registry.state().size - 1,
        issued_at=format_utc(platform.wall.now()),
        key_id=fingerprint(public_key_line(key)),
    )
    signed = sign_route(route, key)
    platform.registry.apply_route(MODEL, route=signed.raw, transition=None, actor="launcher")
    return signed


def decide(
    platform: Platform, table: pa.Table, route: SignedRoute, *, writer: str = WRITER, first: int = 0, **changes: Any
) -> list[LoggedDecision]:
    """What version 1 says of these requests, as the router would record it."""
    digests = platform.registry.state().version(MODEL, 1).digests
    scorer = Scorer.load(platform.objects, digests.artifact)
    found = sections(scorer, feature_reader(platform), (at("2010-01-01"), at("2011-01-01")), table)
    wall = micros(platform.wall.now())
    made = []
    for place, section in enumerate(found):
        decided = NOW + timedelta(seconds=place)
        header = Header(
            root_id=platform.root_id,
            model=MODEL,
            version=1,
            mode="online",
            role="primary",
            decision_of_record=True,
            contract_digest=digests.contract,
            artifact_digest=digests.artifact,
            route_digest=route.digest,
            epoch=route.route.epoch,
            flip_digest=None,
            clock="replay",
            decided_at_us=micros(decided),
            recorded_at_us=wall + place,
            latency_us=420,
            supersedes=None,
            pair_of=None,
            writer=writer,
            prediction_id=uuid_v7(decided, secrets.token_bytes(10)),
            seq=first + place,
        )
        made.append(LoggedDecision(replace(header, **changes), section, secrets.token_bytes(32)))
    return made


def refuse(platform: Platform, loan: int, when: datetime, *, writer: str = WRITER) -> LoggedRefusal:
    seed = platform.subjects.seeds("loan", [b""])[0]
    index = quarantine_index(seed, MODEL, encode_row([("i64", loan), ("us", when)]))
    wall = micros(platform.wall.now())
    why = (Refusal(0, "amount", "range", "number"),)
    return LoggedRefusal(writer, MODEL, 1, None, micros(NOW), wall, index, why)


def open_log(platform: Platform, writer: str = WRITER) -> WalWriter:
    info = WriterInfo(writer, "router", MODEL, platform.root_id, format_utc(platform.wall.now()), 1)
    return WalWriter(wal_folder(platform.root, MODEL, writer), info, rotate_bytes=1)


def write(log: WalWriter, items: Sequence[LoggedDecision | LoggedRefusal]) -> None:
    log.append([encode_decision(one) if isinstance(one, LoggedDecision) else encode_refusal(one) for one in items])


def ids(made: Sequence[LoggedDecision]) -> list[str]:
    return [id_text(one.header.prediction_id) for one in made]
