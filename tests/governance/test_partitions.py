from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from ml_platform.core.delta import Lake
from ml_platform.governance.partitions import check_decisions
from ml_platform.governance.stored import StoredTables

T = datetime(2010, 1, 1, tzinfo=UTC)
HEADERS = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("decision_of_record", pa.bool_()),
        ("role", pa.string()),
        ("supersedes", pa.string()),
    ]
)
PERSONAL = pa.schema(
    [("prediction_id", pa.string()), ("request_time", pa.timestamp("us", "UTC")), ("key_id", pa.int64())]
)


def record(name: str, key: int, *, decides: bool = True, role: str = "primary", supersedes: str | None = None):
    header = {"prediction_id": name, "decision_of_record": decides, "role": role, "supersedes": supersedes}
    return header, {"prediction_id": name, "request_time": T, "key_id": key}


def places(folder, records) -> list[str]:
    lake = Lake(folder)
    headers, personal = zip(*records, strict=True)
    lake.append("m/predictions", pa.Table.from_pylist(list(headers), schema=HEADERS))
    lake.append("m/predictions_personal", pa.Table.from_pylist(list(personal), schema=PERSONAL))
    return [finding.where for finding in check_decisions(StoredTables(lake), "m")]


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


def test_an_id_stands_once(tmp_path):
    assert "prediction a" in places(tmp_path, [record("a", 1), record("a", 2)])


def test_a_model_without_decisions_has_no_findings(tmp_path):
    assert list(check_decisions(StoredTables(Lake(tmp_path)), "m")) == []
