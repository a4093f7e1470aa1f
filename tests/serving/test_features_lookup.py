"""What a router finds of stored features is what the online store holds, put in the order of the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.errors import NotFound
from ml_platform.core.fields import category, number
from ml_platform.core.objects import ObjectStore
from ml_platform.features import Entity, FeatureView, RequestView, SameAsEvent, Source
from ml_platform.features.definitions import store as store_definition
from ml_platform.features.online import AT, EVENT, KEY, key_bytes
from ml_platform.features.sqlite import SqliteOnlineStore
from ml_platform.serving.features_lookup import StoredFeatures

ROWS = Source(
    "facts",
    columns={"loan_id": "int64", "purpose": "string", "event": "timestamp", "rate": "float64", "word": "string"},
    keys=("loan_id",),
    event_time="event",
    known_time=SameAsEvent("it is known at once"),
)
BY_LOAN = FeatureView(
    "by_loan",
    entity=Entity("loan", ("loan_id",)),
    source=ROWS,
    columns=[number("rate", nullable=True), category("word")],
)
PURPOSES = Source(
    "purposes",
    columns={"purpose": "string", "event": "timestamp", "rate": "float64"},
    keys=("purpose",),
    event_time="event",
    known_time=SameAsEvent("it is known at once"),
)
BY_PURPOSE = FeatureView(
    "by_purpose", entity=Entity("purpose", ("purpose",)), source=PURPOSES, columns=[number("rate", nullable=True)]
)


def stored(name: str, view: FeatureView, feature: str, kind: Any = "number") -> ResolvedField:
    return ResolvedField(
        name, f"{view.reference}:{feature}", "stored", kind, "float64" if kind == "number" else "string"
    )


CONTRACT = Contract(
    entity_keys=(("loan_id", "int64"),),
    time="at",
    fields=(
        stored("word", BY_LOAN, "word", "category"),
        stored("purpose_rate", BY_PURPOSE, "rate"),
        ResolvedField("amount", f"application@{BY_LOAN.digest}:amount", "input", "number", "float64"),
        stored("rate", BY_LOAN, "rate"),
    ),
)
COLUMNS = {"loan_id": [1, 2, 1], "purpose": ["car", None, "house"]}


def points(view: FeatureView, rows: list[tuple[Any, int, int | None, dict[str, Any]]]) -> pa.Table:
    return pa.table(
        {
            KEY: pa.array([key_bytes(view, [key]) for key, *_ in rows], pa.binary()),
            AT: pa.array([at for _, at, _, _ in rows], pa.int64()),
            EVENT: pa.array([event for _, _, event, _ in rows], pa.int64()),
            **{item.name: [values.get(item.name) for *_, values in rows] for item in view.features},
        }
    )


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    made = ObjectStore(tmp_path / "objects")
    for view in (BY_LOAN, BY_PURPOSE):
        store_definition(made, view)
    return made


@pytest.fixture
def online(tmp_path: Path) -> SqliteOnlineStore:
    made = SqliteOnlineStore(tmp_path / "features.sqlite")
    old = (1, 10, 9, {"rate": 0.5, "word": "é"})
    made.publish(BY_LOAN, points(BY_LOAN, [old, (1, 20, 18, {"rate": None, "word": "b"})]), until_us=100)
    made.publish(BY_PURPOSE, points(BY_PURPOSE, [("car", 5, 4, {"rate": 0.25})]), until_us=100)
    return made


def test_values_and_event_times_stand_in_the_order_of_the_contract(
    objects: ObjectStore, online: SqliteOnlineStore
) -> None:
    found = StoredFeatures(objects, online).lookup(CONTRACT, COLUMNS.__getitem__, [19, 50, 50])
    assert found.values == [["é", None, "b"], [0.25, None, None], [0.5, None, None]]
    assert found.event_us == [[9, None, 18], [4, None, None], [9, None, 18]]


def test_the_store_is_asked_once_a_view_for_the_whole_batch(objects: ObjectStore, online: SqliteOnlineStore) -> None:
    asked: list[tuple[str, int]] = []

    class Counting:
        def get(self, view: FeatureView, keys: Any, times_us: Any) -> Any:
            asked.append((view.name, len(keys)))
            return online.get(view, keys, times_us)

    features = StoredFeatures(objects, Counting())  # type: ignore[arg-type]
    for _ in range(2):
        features.lookup(CONTRACT, COLUMNS.__getitem__, [19, 50, 50])
    assert asked == [("by_loan", 3), ("by_purpose", 3)] * 2


def test_a_view_that_was_never_published_is_said(objects: ObjectStore, tmp_path: Path) -> None:
    empty = SqliteOnlineStore(tmp_path / "empty.sqlite")
    with pytest.raises(NotFound, match="never published"):
        StoredFeatures(objects, empty).lookup(CONTRACT, COLUMNS.__getitem__, [19, 50, 50])


def test_a_definition_that_is_gone_or_no_feature_view_is_said(objects: ObjectStore, online: SqliteOnlineStore) -> None:
    request = RequestView(
        "application", entity=Entity("loan", ("loan_id",)), source=ROWS, time="event", columns=(number("rate"),)
    )
    digest = store_definition(objects, request)
    wrong = ResolvedField("rate", f"application@{digest}:rate", "stored", "number", "float64")
    gone = ResolvedField("rate", f"x@sha256:{'0' * 64}:rate", "stored", "number", "float64")
    for item in (wrong, gone):
        contract = Contract(entity_keys=CONTRACT.entity_keys, time="at", fields=(item,))
        with pytest.raises(NotFound):
            StoredFeatures(objects, online).lookup(contract, COLUMNS.__getitem__, [1, 2, 3])
