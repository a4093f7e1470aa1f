"""Quality of stored features in the use cases: training stops, publishing stops, evidence is kept, `--accept` is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ml_platform import Model, Platform
from ml_platform.core.errors import ArtifactCorrupt, DataError
from ml_platform.features.about import About
from ml_platform.features.quality import in_range, volume
from ml_platform.lifecycle import get_online_features, materialize_view, publish_features, request_candidate
from ml_platform.lifecycle.feature_status import view_freshness
from ml_platform.lifecycle.rejected import read_rejected, rejected_periods

AS_OF = datetime(2010, 1, 1, tzinfo=UTC)
SPAN = {"start": datetime(2008, 3, 1, tzinfo=UTC), "end": datetime(2008, 9, 1, tzinfo=UTC)}


def about(model: Model, **said: Any) -> Model:
    (view,) = model.stored_views
    return replace(model, features=[model.request, replace(view, about=About(**said))])


def test_a_rejected_month_stops_a_training_with_the_numbers_and_where_the_rows_are(
    landed: Platform, quick: Model
) -> None:
    model = about(quick, quality=(volume(most=10),))
    (view,) = model.stored_views
    with pytest.raises(DataError, match=r"volume: rows \d+.*most 10.*--accept REASON.*rejected/features") as error:
        request_candidate(landed, model, AS_OF)
    assert error.value.field == view.name
    found = view_freshness(landed, view)
    assert found.rejected[0] == "2008-07"
    assert found.complete_until == datetime(2008, 7, 1, tzinfo=UTC)
    made = materialize_view(landed, view, **SPAN, accept="The portfolio grew; looked at it.")
    assert made.rejected == ()
    assert set(rejected_periods(landed, view)) == set(found.rejected) - {"2008-07", "2008-08"}


def test_the_evidence_of_a_rejection_is_stored_once_and_cannot_be_changed(landed: Platform, quick: Model) -> None:
    (view,) = about(quick, quality=(volume(most=10),)).stored_views
    first = materialize_view(landed, view, **SPAN)
    again = materialize_view(landed, view, **SPAN)
    assert [one.to_json() for one in first.rejected] == [one.to_json() for one in again.rejected]
    path = first.rejected[0].evidence
    assert read_rejected(landed, path)["period"] == "2008-07"
    (file,) = (landed.root / "store").rglob(path.rpartition("/")[2])
    file.write_bytes(file.read_bytes().replace(b"2008-07", b"2008-06"))
    with pytest.raises(ArtifactCorrupt):
        read_rejected(landed, path)


def test_what_fails_is_not_published_and_what_was_is_still_there(landed: Platform, quick: Model) -> None:
    publish_features(landed, quick)
    (view,) = quick.stored_views
    before = get_online_features(landed, view, {"purpose": "car"})
    with pytest.raises(DataError, match="range_defaulted_mean_720d"):
        publish_features(landed, about(quick, quality=(in_range("defaulted_mean_720d", least=0.99),)))
    assert get_online_features(landed, view, {"purpose": "car"}) == before


def test_a_definition_from_the_store_is_checked_as_todays_declaration_of_it_says(
    landed: Platform, quick: Model
) -> None:
    from ml_platform.features import definitions
    from ml_platform.lifecycle.features import materialize_model_views

    model = about(quick, quality=(volume(most=10),))
    (view,) = model.stored_views
    definitions.store(landed.objects, view)
    rebuilt = definitions.load(landed.objects, view.digest)
    assert rebuilt.about == About()  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="volume"):
        materialize_model_views(landed, model, end=AS_OF, views=[rebuilt])  # type: ignore[list-item]
