from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ml_platform import Attribute, Model, Platform, at_least, group_ratio
from ml_platform.core.errors import Conflict, DataError, GateFailed, NotFound, SettingsError
from ml_platform.lifecycle import (
    build_candidate,
    build_training_set,
    evaluate_candidate,
    land_source,
    register_candidate,
    request_candidate,
    train_candidate,
)
from tests.lifecycle import tiny
from tests.lifecycle.conftest import AS_OF


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "model.py").write_text("# the code of a team\n")
    return folder


def test_equal_inputs_give_the_same_candidate_and_code_another(landed: Platform, quick: Model, code: Path) -> None:
    first = request_candidate(landed, quick, AS_OF, code=code)
    size = landed.registry.state().size
    assert request_candidate(landed, quick, AS_OF, code=code).key == first.key
    assert landed.registry.state().size == size
    (code / "model.py").write_text("# changed\n")
    assert request_candidate(landed, quick, AS_OF, code=code).key != first.key


def test_the_roots_own_files_are_no_code(landed: Platform, quick: Model) -> None:
    folder = landed.root.parent
    first = request_candidate(landed, quick, AS_OF, code=folder)
    (landed.root / "note.txt").write_text("something that a run left in the root")
    assert request_candidate(landed, quick, AS_OF, code=folder).key == first.key


def test_the_future_of_the_platforms_clock_cannot_be_asked_for(landed: Platform, quick: Model, code: Path) -> None:
    wanted = (
        r"^as_of: .* stands at 2010-01-01T00:00:00.000000Z\. Next: .*`mlp clock --move 2010-01-01T00:00:01.000000Z`"
    )
    with pytest.raises(DataError, match=wanted):
        request_candidate(landed, quick, datetime(2010, 1, 1, 0, 0, 1, tzinfo=UTC), code=code)


def test_rows_of_a_month_that_is_not_over_cannot_be_asked_for_and_the_last_moment_before_can(
    tmp_path: Path, code: Path
) -> None:
    platform = tiny.new_root(tmp_path / "root")
    size = platform.registry.state().size
    with pytest.raises(DataError, match=r"^as_of: Rows of 2026-02 .* first of a month: 2026-02-01\.$"):
        request_candidate(platform, tiny.late_parcel, datetime(2026, 2, 11, tzinfo=UTC), code=code)
    assert platform.registry.state().size == size
    last = datetime(2026, 2, 10, 23, 59, 59, 999_999, tzinfo=UTC)
    candidate = request_candidate(platform, tiny.late_parcel, last, code=code)
    made = build_training_set(platform, tiny.late_parcel, candidate.key)
    assert (made.rows, made.left_out) == (310, {"immature": 100})
    without = replace(tiny.late_parcel, name="plain", features=[tiny.sending], decision=tiny.PLAIN)
    candidate = request_candidate(platform, without, datetime(2026, 2, 20, tzinfo=UTC), code=code)
    assert build_training_set(platform, without, candidate.key).rows == 401
    platform.registry.close()


def test_a_source_that_was_never_landed_is_named(empty: Platform, quick: Model, code: Path) -> None:
    with pytest.raises(NotFound, match="Land it first"):
        request_candidate(empty, quick, AS_OF, code=code)


def test_steps_in_the_wrong_order_say_which_comes_first(landed: Platform, quick: Model, code: Path) -> None:
    with pytest.raises(NotFound, match="never requested"):
        build_training_set(landed, quick, "20100101T000000Z_000000000000")
    key = request_candidate(landed, quick, AS_OF, code=code).key
    with pytest.raises(NotFound):
        train_candidate(landed, quick, key)
    build_training_set(landed, quick, key)
    with pytest.raises(NotFound, match="not trained"):
        evaluate_candidate(landed, quick, key)


def test_a_whole_candidate_is_a_no_op_the_second_time(landed: Platform, quick: Model, code: Path) -> None:
    first = build_candidate(landed, quick, AS_OF, code=code)
    size = landed.registry.state().size
    again = build_candidate(landed, quick, AS_OF, code=code)
    assert again.registered == first.registered
    assert again.trained == first.trained
    assert again.training_set.digest == first.training_set.digest
    assert landed.registry.state().size == size


def test_rows_landed_later_make_another_candidate_and_leave_the_first_as_it_was(
    landed: Platform, quick: Model, code: Path, market: Path, tmp_path: Path
) -> None:
    first = build_candidate(landed, quick, AS_OF, code=code)
    source = quick.label.outcome
    late = pq.read_table(market / "outcomes.parquet").slice(0, 1)
    late = late.set_column(2, "known_at", pq.read_table(market / "outcomes.parquet").slice(5_000, 1)["known_at"])
    pq.write_table(late, tmp_path / "late.parquet")
    land_source(landed, source, tmp_path / "late.parquet")
    second = request_candidate(landed, quick, AS_OF, code=code)
    assert second.key != first.candidate.key
    assert build_training_set(landed, quick, first.candidate.key).digest == first.training_set.digest


def test_a_changed_declaration_cannot_use_anothers_candidate(landed: Platform, quick: Model, code: Path) -> None:
    key = request_candidate(landed, quick, AS_OF, code=code).key
    other = replace(quick, gates=[at_least("auc", 0.3)])
    with pytest.raises(Conflict, match="another declaration"):
        build_training_set(landed, other, key)


def test_a_red_gate_leaves_evidence_and_no_version(landed: Platform, quick: Model, code: Path) -> None:
    hopeless = replace(quick, gates=[at_least("auc", 0.999)])
    with pytest.raises(GateFailed, match=r"at_least\.auc"):
        build_candidate(landed, hopeless, AS_OF, code=code)
    known = landed.registry.state().model("quick")
    (candidate,) = known.candidates.values()
    assert known.versions == {}
    assert dict(candidate.verdicts)["at_least.auc"] in {"fail", "inconclusive"}


def test_a_protected_attribute_needs_data_or_a_written_reason(landed: Platform, quick: Model, code: Path) -> None:
    from assets.sources import restricted_applicants

    gated = replace(
        quick,
        protected=[Attribute("applicant_group", source=restricted_applicants)],
        gates=[group_ratio("approval_rate", by="applicant_group", at_least=0.8)],
    )
    key = request_candidate(landed, gated, AS_OF, code=code).key
    build_training_set(landed, gated, key)
    train_candidate(landed, gated, key)
    with pytest.raises(SettingsError, match="applicant_group"):
        evaluate_candidate(landed, gated, key)


def test_a_corrupted_artifact_is_not_evaluated(landed: Platform, quick: Model, code: Path) -> None:
    from ml_platform.core.errors import ArtifactCorrupt

    key = request_candidate(landed, quick, AS_OF, code=code).key
    build_training_set(landed, quick, key)
    trained = train_candidate(landed, quick, key)
    listing = landed.root / "store" / "artifacts" / f"{trained.artifact_digest.removeprefix('sha256:')}.json"
    listing.write_bytes(listing.read_bytes().replace(b'"size":', b'"size":1'))
    with pytest.raises(ArtifactCorrupt):
        evaluate_candidate(landed, quick, key)


def test_a_version_is_registered_once(landed: Platform, quick: Model, code: Path) -> None:
    made = build_candidate(landed, quick, AS_OF, code=code)
    assert register_candidate(landed, quick, made.candidate.key, code=code).version == made.registered.version == 1
