from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from ml_platform.core.delta import Lake
from ml_platform.governance.findings import Counts
from ml_platform.governance.partitions import check_decisions
from ml_platform.governance.stored import StoredTables

T = datetime(2010, 1, 1, tzinfo=UTC)
HEADERS = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("decision_of_record", pa.bool_()),
        ("role", pa.string()),
        ("supersedes", pa.string()),
        ("mode", pa.string()),
        ("recorded_at", pa.timestamp("us", "UTC")),
    ]
)
PERSONAL = pa.schema(
    [("prediction_id", pa.string()), ("request_time", pa.timestamp("us", "UTC")), ("key_id", pa.int64())]
)


def record(
    name: str, key: int, *, decides: bool = True, role: str = "primary", supersedes: str | None = None,
    mode: str = "batch", second: int = 0,
):  # fmt: skip
    header = {"prediction_id": name, "decision_of_record": decides, "role": role, "supersedes": supersedes}
    header |= {"mode": mode, "recorded_at": T.replace(second=second)}
    return header, {"prediction_id": name, "request_time": T, "key_id": key}


def checked(folder, records) -> tuple[list[str], int]:
    """Places of findings, and how many rows were asked again."""
    lake = Lake(folder)
    headers, personal = zip(*records, strict=True)
    lake.append("m/predictions", pa.Table.from_pylist(list(headers), schema=HEADERS))
    lake.append("m/predictions_personal", pa.Table.from_pylist(list(personal), schema=PERSONAL))
    counts = Counts()
    return [finding.where for finding in check_decisions(StoredTables(lake), "m", counts)], counts.asked_again


def places(folder, records) -> list[str]:
    return checked(folder, records)[0]


@pytest.mark.parametrize(
    ("records", "named"),
    [
        ([record("a", 1), record("b", 2)], []),
        ([record("a", 1), record("b", 1)], ["prediction b"]),
        ([record("a", 1), record("b", 1, decides=False)], []),
        ([record("a", 1), record("b", 1, role="shadow")], []),
        ([record("a", 1), record("b", 1, supersedes="a")], []),
        ([record("a", 1), record("b", 1, supersedes="a", decides=False), record("c", 1)], ["prediction c"]),
        ([record("a", 1), record("b", 1, supersedes="a"), record("c", 1, supersedes="a")], ["prediction c"]),
    ],
)
def test_a_row_has_one_decision_of_record_that_no_other_supersedes(tmp_path, records, named):
    assert places(tmp_path, records) == named


def online(name: str, key: int, second: int, **more):
    return record(name, key, mode="online", second=second, **more)


@pytest.mark.parametrize(
    ("records", "named", "asked_again"),
    [
        ([online("a", 1, 5), record("b", 2, second=6)], [], 0),
        ([online("a", 1, 5), record("b", 1, second=6)], ["prediction b"], 0),
        ([online("a", 1, 6), record("b", 1, second=6)], [], 1),  # asked after the batch had begun
        ([online("a", 1, 7), record("b", 1, second=6)], [], 1),
        ([online("a", 1, 5), online("b", 1, 6), online("c", 2, 6)], [], 1),
        ([online("a", 1, 5, role="canary"), online("b", 1, 6)], [], 1),
        ([online("a", 1, 5, role="canary"), record("b", 1, second=6)], ["prediction b"], 0),
        ([online("a", 1, 5, role="shadow", decides=False), record("b", 1, second=6)], [], 0),
        ([online("a", 1, 7), online("b", 1, 5), record("c", 1, second=6)], ["prediction c"], 1),
    ],
)
def test_a_batch_does_not_decide_what_was_decided_online_before_it(tmp_path, records, named, asked_again):
    assert checked(tmp_path, records) == (named, asked_again)


def test_an_id_stands_once(tmp_path):
    assert "prediction a" in places(tmp_path, [record("a", 1), record("a", 2)])


def test_a_model_without_decisions_has_no_findings(tmp_path):
    assert list(check_decisions(StoredTables(Lake(tmp_path)), "m", Counts())) == []
