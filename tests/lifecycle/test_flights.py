"""A second team, on data that nobody had in mind: from two files to a traced decision, by the public names alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from ml_platform import Platform, calibrated, governance
from ml_platform.core.errors import GateFailed
from ml_platform.lifecycle import approve, build_candidate, land_source, promote, score_partition, stage
from tests.lifecycle import flights

pytestmark = [pytest.mark.slow, pytest.mark.real_data]
AS_OF, MONTH, NEXT = datetime(2013, 7, 1, tzinfo=UTC), "2013-07", datetime(2013, 8, 1, tzinfo=UTC)
SAID = {"principal": "ops", "reason": "It is time."}


@pytest.fixture(scope="module")
def files(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    raw = shared_data / "nyc_flights" / "flights.parquet"
    if not raw.is_file():
        pytest.skip("the records of flights are absent")
    return flights.write(raw, tmp_path_factory.mktemp("flights"))


@pytest.fixture
def platform(files: dict[str, Path], tmp_path: Path) -> Iterator[Platform]:
    (tmp_path / "code").mkdir()
    people = {"ada": ["ada@example.org"], "bob": ["bob@example.org"]}
    made = Platform.create(tmp_path / "root", kind="replay", member_keys=people, starts_at=AS_OF)
    for source in (flights.departures, flights.arrivals):
        land_source(made, source, files[source.name])
    yield made
    made.registry.close()


def test_a_flight_is_decided_by_a_governed_version_and_its_decision_is_traced(
    platform: Platform, files: dict[str, Path], tmp_path: Path
) -> None:
    made = build_candidate(platform, flights.late_arrival, AS_OF, code=tmp_path / "code")
    asked, known = (pd.read_parquet(files[name]) for name in ("departures", "arrivals"))
    rows = asked.merge(known, on="flight_id", how="left")
    day = pd.Timedelta(days=1)
    mature = rows[(rows["scheduled_at"] <= AS_OF) & (rows["scheduled_at"] + day <= AS_OF)]
    in_time = mature["arrived_at"] <= mature["scheduled_at"] + day
    assert made.training_set.rows == len(mature)
    assert made.training_set.left_out == {"immature": int((rows["scheduled_at"] <= AS_OF).sum()) - len(mature)}
    assert made.training_set.positives == int((in_time & mature["late"].eq(True)).sum())
    assert made.evaluation.document["metrics"]["auc"]["low"] > 0.6

    version = made.registered.version
    stage(platform, "late_arrival", version, **SAID)
    for to in ("canary", "production"):
        for person in ("ada", "bob"):
            key = platform.secrets.path("people") / person
            approve(platform, "late_arrival", version, to, key=key, reason="Looked at.")
        promote(platform, "late_arrival", version, to, **SAID)
    platform.replay.move(NEXT)
    scored = score_partition(platform, flights.late_arrival, MONTH)
    july = asked[(asked["scheduled_at"] >= AS_OF) & (asked["scheduled_at"] < NEXT)]
    assert (scored.rows, scored.refused) == (len(july), 0)
    trained_on = mature.sort_values("scheduled_at").head(made.training_set.train_rows)
    unseen = july[~july["dest"].isin(trained_on["dest"])]
    assert scored.flags == {"dest": {"unknown:flag": len(unseen)}}
    assert len(unseen) > 0

    columns = ["prediction_id", "decision"]
    decided = platform.lake.read("late_arrival/predictions_personal", columns=columns).to_pylist()
    declined = max(row["prediction_id"] for row in decided if row["decision"] == "declined")
    answer = governance.trace(platform, declined).to_json()
    assert answer["proofs"]["checked"]
    assert answer["training_set"]["digest"] == made.training_set.digest
    assert answer["prediction"]["reasons"]
    assert governance.verify(platform).status == "verified"


def test_a_model_that_the_summer_surprised_is_stopped_by_its_calibration(platform: Platform, tmp_path: Path) -> None:
    """The first half of the year ends with the worst month: 14,700 rows prove that the scores are too low for it."""
    strict = replace(flights.late_arrival, gates=[*flights.late_arrival.gates, calibrated(0.1)])
    with pytest.raises(GateFailed, match="calibrated fail"):
        build_candidate(platform, strict, AS_OF, code=tmp_path / "code")
    assert platform.registry.state().model("late_arrival").versions == {}
