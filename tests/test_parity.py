"""Ten thousand real loans by a batch in one process, a batch on Spark, the real Triton and a stream: one and the same answer.

Four copies of one root, the same version in each; stored features lie in a real Redis for the router and the worker.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from assets.credit_risk import credit_risk
from ml_platform import Model, Platform, at_least, governance, lifecycle
from ml_platform.lifecycle.asking import ask_rows, request_rows
from ml_platform.orchestration.demo_server import serving
from ml_platform.serving.stream.events import SCHEMA_HEADER
from ml_platform.serving.stream.fastavro import EventCodec
from ml_platform.serving.stream.kafka import Connection
from ml_platform.serving.stream.topics import Topics
from ml_platform.serving.tables import personal_table, predictions_table, quarantine_table
from tests.conftest import REPOSITORY
from tests.governance.root import at
from tests.lifecycle.conftest import new_root
from tests.services.kafka import Broker, caught_up
from tests.services.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.real_data, pytest.mark.timeout(900)]

MONTHS = tuple(f"2010-{month:02}" for month in range(4, 13))
START, END = at("2010-04-01"), at("2011-01-01")
MODES = ("arrow", "spark", "online", "stream")
SPOILT = 40  # of each kind: loans that the contract refuses, or takes with a flag


def spoilt(table: pa.Table) -> pa.Table:
    """The applications with some of 2010 that are not as the contract wants them."""
    times = table.column("applied_at").cast(pa.timestamp("us", "UTC"))
    ours = pc.and_(pc.greater_equal(times, START), pc.less(times, END)).to_pylist()
    rows = [index for index, inside in enumerate(ours) if inside]
    for number, (name, value) in enumerate(
        {"loan_amnt": -5.0, "int_rate": None, "purpose": "moon base", "term": 84, "annual_inc": None}.items()
    ):
        column = table.column(name).to_pylist()
        for index in rows[number :: len(rows) // SPOILT][:SPOILT]:
            column[index] = value
        table = table.set_column(
            table.schema.get_field_index(name), name, pa.array(column, table.schema.field(name).type)
        )
    return table


@dataclass(frozen=True)
class Decided:
    """What one copy of the root recorded.

    Attributes:
        rows: loan → features as used, their ages, flags, score, decision and reasons.
        refused: keyed index of the row, field, rule and kind of value.
    """

    platform: Platform
    rows: dict[int, dict[str, Any]]
    refused: set[tuple[str, str, str, str]]

    @classmethod
    def of(cls, platform: Platform, model: Model) -> Decided:
        table = platform.lake.read(personal_table(model.name)).drop_columns(["prediction_id", "salt", "decided_date"])
        rows = {row["key_loan_id"]: row for row in table.to_pylist()}
        assert len(rows) == table.num_rows  # each loan once
        why = platform.lake.read(quarantine_table(model.name), columns=["row_index", "field", "rule", "kind"])
        return cls(platform, rows, {tuple(one.values()) for one in why.to_pylist()})


@pytest.fixture(scope="module")
def declared() -> Model:
    return replace(credit_risk, gates=[at_least("auc", 0.5)], protected=[])


@pytest.fixture(scope="module")
def first(lending_club: Path, declared: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of January 2010 in production, proven by the real server and routed; nothing decided yet."""
    folder = tmp_path_factory.mktemp("parity")
    platform = new_root(folder / "root")
    for source in declared.sources:
        found = lending_club / f"{source.name}.parquet"
        if source.name == "applications":
            pq.write_table(spoilt(pq.read_table(found)), found := folder / "applications.parquet")
        lifecycle.land_source(platform, source, found)
    (folder / "code").mkdir()
    (folder / "code" / "model.py").write_text("# the model\n")
    lifecycle.build_candidate(platform, declared, at("2010-01-01"), requested_by="launcher", code=folder / "code")
    lifecycle.stage(platform, declared.name, 1, principal="launcher", reason="First look.")
    with serving(platform.root, REPOSITORY):
        for to in ("canary", "production"):
            for officer in ("ada", "bob"):
                key = platform.secrets.folder / "people" / officer
                lifecycle.approve(platform, declared.name, 1, to, key=key, reason="The gates are green.")
            lifecycle.promote(platform, declared.name, 1, to, principal="launcher", reason="On.")
    platform.registry.close()
    return folder / "root"


@pytest.fixture(scope="module")
def requests(first: Path, declared: Model) -> pa.Table:
    platform = Platform.local(shutil.copytree(first, first.parent / "read"))
    platform.replay.move(END)
    found = request_rows(platform, declared, START, END)
    platform.registry.close()
    return found


Copy = Callable[..., Platform]


@pytest.fixture(scope="module")
def copied(first: Path) -> Copy:
    def make(name: str, settings: str = "") -> Platform:
        root = Path(shutil.copytree(first, first.parent / name))
        with (root / "settings.toml").open("a") as file:
            file.write(settings)
        platform = Platform.local(root)
        platform.replay.move(END)
        return platform

    return make


def by_batch(platform: Platform, declared: Model) -> None:
    for month in MONTHS:
        lifecycle.score_partition(platform, declared, month)


def online(platform: Platform, declared: Model, requests: pa.Table) -> None:
    lifecycle.publish_features(platform, declared)
    with serving(platform.root, REPOSITORY):
        until = time.monotonic() + 60
        while ask_rows(platform, declared, requests.slice(0, 0)).failed:
            assert time.monotonic() < until
        found = ask_rows(platform, declared, requests)
        assert found.failed == 0
        assert found.answered + found.refused == requests.num_rows
    lifecycle.seal_once(platform)


def streamed(platform: Platform, declared: Model, requests: pa.Table, address: str) -> None:
    from confluent_kafka import Producer

    lifecycle.publish_features(platform, declared)
    settings, topics = platform.root / "settings.toml", Topics.of(declared.name)
    lifecycle.make_topics(settings, declared.name, partitions=2, replication=1)
    schema, digest = lifecycle.event_schema_of(settings, declared.name)
    lifecycle.announce(settings, declared.name)
    stop, ready = threading.Event(), threading.Event()
    worker = threading.Thread(
        target=lifecycle.stream,
        args=(settings, declared.name, "one"),
        kwargs={"stop": stop, "said": print, "ready": ready.set},
    )
    worker.start()
    try:
        assert ready.wait(60)
        codec, producer = EventCodec(schema), Producer(Connection(address).properties(linger_ms=5))
        times = requests.column("applied_at").cast(pa.int64()).to_pylist()
        for row, us in zip(requests.to_pylist(), times, strict=True):
            raw = codec.encode({**row, "applied_at": us})
            producer.produce(topics.events, raw, b"%d" % row["loan_id"], headers=[(SCHEMA_HEADER, digest.encode())])
            producer.poll(0)
        assert producer.flush(60) == 0
        until = time.monotonic() + 120
        while not caught_up(address, topics.events, topics.group):
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        stop.set()
        worker.join()
    lifecycle.seal_once(platform)


@pytest.fixture(scope="module")
def decided(
    copied: Copy, declared: Model, requests: pa.Table, spark: Any, redis: RedisServer, broker: Broker
) -> dict[str, Decided]:
    made = {
        "arrow": copied("arrow"),
        "spark": copied("spark", '\n[batch]\nengine = "spark"\n'),
        "online": copied("online", f'\nonline = "{redis.url("parity-online")}"\n'),
        "stream": copied(
            "stream", f'\nonline = "{redis.url("parity-stream")}"\n[kafka]\nservers = "{broker.address}"\n'
        ),
    }
    by_batch(made["arrow"], declared)
    by_batch(made["spark"], declared)
    online(made["online"], declared, requests)
    streamed(made["stream"], declared, requests, broker.address)
    return {mode: Decided.of(platform, declared) for mode, platform in made.items()}


def test_the_loans_are_many_and_of_all_kinds(decided: dict[str, Decided], requests: pa.Table) -> None:
    rows = decided["arrow"].rows
    assert requests.num_rows > 10_000
    assert len(rows) + len({index for index, *_ in decided["arrow"].refused}) == requests.num_rows
    assert {"declined", "approved"} == {row["decision"] for row in rows.values()}
    assert sum(bool(row["flags"]) for row in rows.values()) > 1_000  # the 60-month term
    assert {rule for *_, rule, _ in decided["arrow"].refused} >= {"range", "null", "unknown"}


@pytest.mark.parametrize("mode", MODES[1:])
def test_features_scores_decisions_and_reasons_are_the_same_to_the_bit(decided: dict[str, Decided], mode: str) -> None:
    expected, found = decided["arrow"].rows, decided[mode].rows
    assert found.keys() == expected.keys()
    differing = [
        (loan, name)
        for loan, row in expected.items()
        for name, value in row.items()
        if repr(value) != repr(found[loan][name])
    ]
    assert differing == []


@pytest.mark.parametrize("mode", MODES[1:])
def test_the_same_rows_are_refused_for_the_same_reasons(decided: dict[str, Decided], mode: str) -> None:
    assert decided[mode].refused == decided["arrow"].refused


@pytest.mark.parametrize("mode", MODES)
def test_each_is_recorded_in_its_mode_proven_and_traced(decided: dict[str, Decided], mode: str) -> None:
    platform, rows = decided[mode].platform, decided[mode].rows
    modes = platform.lake.read(predictions_table("credit_risk"), columns=["mode"]).column("mode").unique().to_pylist()
    assert modes == ["batch" if mode in {"arrow", "spark"} else mode]
    declined = min(loan for loan, row in rows.items() if row["decision"] == "declined")
    found = governance.trace_entity(platform, "credit_risk", {"loan_id": declined})
    assert found.proven
    document = found.to_json()["prediction"]
    assert (document["version"], document["decision"]) == (1, "declined")
    assert document["score"] == pytest.approx(rows[declined]["output_score"], rel=1e-7)
    report = governance.verify(platform)
    assert report.ok, report.statement
