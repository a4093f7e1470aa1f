"""Streamed decisions of a whole root: by the command, in the topics, in the lake, traced, verified and listed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from ml_platform import Platform, governance, lifecycle
from ml_platform.governance import trace, trace_entity
from ml_platform.lifecycle.features import contract_views, materialize_model_views
from ml_platform.lifecycle.routing import route_files
from ml_platform.registry.route import open_route
from ml_platform.serving.stream.fastavro import EventCodec
from ml_platform.serving.stream.kafka import Connection, KafkaLog
from ml_platform.serving.stream.topics import Topics
from ml_platform.training import load_artifact
from tests.governance.online import MODEL, apply_route, requests
from tests.governance.root import at, copy_root, model
from tests.services.kafka import caught_up

LOANS = range(7100, 7140)
TOPICS = Topics.of(MODEL)


def mlp(root: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "ml_platform.cli", *arguments, "--root", str(root), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def send(root: Path, address: str) -> int:
    """Loans of March as events, by what the commands say of schema and header; two of them are refused."""
    said = mlp(root, "events", MODEL)
    codec, producer = EventCodec(said["schema"]), Producer({"bootstrap.servers": address})
    headers = [(said["header"], said["digest"].encode())]
    rows = requests(list(LOANS)).to_pylist()
    for row in rows:
        time_us = int(row["applied_at"].timestamp() * 1_000_000)
        amount = -1.0 if row["loan_id"] == LOANS[7] else row["amount"]
        raw = codec.encode({**row, "applied_at": time_us, "amount": amount})
        producer.produce(TOPICS.events, raw, b"%d" % row["loan_id"], headers=headers)
    producer.produce(TOPICS.events, b"no event", b"", headers=headers)
    assert producer.flush(20) == 0
    return len(rows) + 1


def worked(root: Path, address: str) -> dict[str, Any]:
    """Runs the command until every event is done, and ends it by TERM; what it said in the end."""
    command = [
        sys.executable,
        "-m",
        "ml_platform.cli",
        "stream",
        MODEL,
        "--instance",
        "w",
        "--root",
        str(root),
        "--json",
    ]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert worker.stderr is not None
    assert "ready" in worker.stderr.readline()
    until = time.monotonic() + 60
    while not caught_up(address, TOPICS.events, TOPICS.group):
        assert time.monotonic() < until
        assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    out, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0, errors
    found: dict[str, Any] = json.loads(out)
    return found


def listed(platform: Platform) -> list[dict[str, Any]]:
    return lifecycle.list_decisions(platform, MODEL, limit=10_000, keys=True)["decisions"]


@pytest.fixture(scope="module")
def streamed(shared, broker, tmp_path_factory) -> tuple[Platform, dict[str, Any]]:
    """The root after a worker of the command decided forty events and a poison one; nothing is sealed."""
    platform = copy_root(shared, tmp_path_factory.mktemp("streamed"))
    platform.replay.move(at("2010-04-01"))
    version = platform.registry.state().version(MODEL, 1)
    contract = load_artifact(platform.objects, version.digests.artifact).contract
    materialize_model_views(platform, model(), end=at("2010-04-01"), views=contract_views(platform, contract))
    lifecycle.publish_features(platform, model())
    files = route_files(platform, MODEL)
    if files.flip() is None and not files.route_path.exists():
        files.write(open_route(apply_route(platform).raw, files.pin.service_key))
    with (platform.root / "settings.toml").open("a") as stream:
        stream.write(f'\n[kafka]\nservers = "{broker.address}"\n')
    made = mlp(platform.root, "topics", MODEL)
    assert sorted(made["made"]) == sorted([TOPICS.events, *TOPICS.written, TOPICS.control])
    events = send(platform.root, broker.address)
    said = worked(platform.root, broker.address)
    assert (said["events"], said["decided"], said["refused"]) == (events, events - 2, 2)
    platform.registry.close()
    return Platform.local(platform.root), said


def one_id(platform: Platform) -> str:
    (found,) = [
        row["prediction_id"]
        for row in listed(platform)
        if row["mode"] == "stream" and row["entity"] == {"loan_id": LOANS[3]}
    ]
    return found


def test_a_streamed_decision_is_traced_before_and_after_it_is_sealed(streamed) -> None:
    platform, _ = streamed
    before = mlp(platform.root, "trace", "--model", MODEL, "--entity", f"loan_id={LOANS[3]}")
    pulled = lifecycle.pull_records(platform)
    assert (pulled.records, pulled.problems) == (0, {}), "what was traced had been taken from the topic"
    wanted = one_id(platform)
    assert before["prediction"]["id"] == wanted
    assert before["proofs"]["status"] == "recorded, not yet proven"
    report = lifecycle.seal_once(platform)
    assert (report.records, report.refused, report.problems) == (39, 2, {})
    found = trace(platform, wanted)
    after = found.to_json()
    assert found.proven
    assert {name: after[name] for name in ("prediction", "features", "route")} == {
        name: before[name] for name in ("prediction", "features", "route")
    }
    assert after["prediction"]["mode"] == "stream"
    assert after["recording"]["promised_within_seconds"] == 60
    assert after["route"]["signature_checked"]
    by_entity = trace_entity(platform, MODEL, {"loan_id": LOANS[3]})
    assert by_entity.prediction_id == wanted
    verified = governance.verify(platform)
    assert (verified.status, verified.findings) == ("verified", ())


def test_what_is_sealed_leaves_the_topic_but_for_its_last_record_and_later_records_follow(streamed, broker) -> None:
    platform, _ = streamed
    lifecycle.seal_once(platform)
    assert lifecycle.pull_records(platform).problems == {}
    log = KafkaLog(Connection(broker.address))
    left = [
        one for messages, _ in log.rest(TOPICS.predictions, 0, log.bounds(TOPICS.predictions, 0)[0]) for one in messages
    ]
    log.close()
    assert len(left) == 1
    send(platform.root, broker.address)
    assert worked(platform.root, broker.address)["events"] == 41
    assert lifecycle.seal_once(platform).records == 39
    (writer,) = [name for name in platform.registry.state().writers if name.startswith("stream-")]
    assert platform.registry.state().writers[writer].next_seq == 78
    assert governance.verify(platform).status == "verified"
