from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ml_platform.core.errors import IntegrityError, NotFound
from ml_platform.core.ids import id_text, uuid_v8
from ml_platform.serving import score_partition
from tests.serving.support import CONTRACT, END, World, loans

JULY = datetime(2010, 7, 1, tzinfo=UTC)


def ids(world: World, model: str = "credit_risk") -> list[str]:
    return sorted(world.lake.read(f"{model}/predictions").column("prediction_id").to_pylist())


def test_a_record_is_found_by_its_id_with_its_personal_part_and_segment(world: World) -> None:
    result = score_partition(world.job(), world.parts(loans(30)))
    for text in ids(world)[::7]:
        found = world.reader.find(text)
        assert found.prediction_id == text
        assert found.personal is not None
        assert found.personal["prediction_id"] == text
        assert found.segment.id == result.segment_id
        assert (found.leaf(CONTRACT), found.leaf_index) in set(world.leaves())
        assert world.reader.find(text.upper(), model="credit_risk") == found


def test_models_that_decided_in_the_same_millisecond_are_told_apart(world: World) -> None:
    score_partition(world.job(), world.parts(loans(10)))
    score_partition(world.job(model="other"), world.parts(loans(10)))
    for model in ("credit_risk", "other"):
        for text in ids(world, model):
            assert world.reader.find(text).header["model"] == model
    with pytest.raises(NotFound):
        world.reader.find(ids(world, "other")[0], model="credit_risk")


@pytest.mark.parametrize("text", ["", "no id", id_text(uuid_v8(END, bytes(10))), id_text(uuid_v8(JULY, b"x" * 10))])
def test_what_is_no_id_or_belongs_to_nothing_is_not_found(world: World, text: str) -> None:
    with pytest.raises(NotFound):
        world.reader.find(text)
    score_partition(world.job(), world.parts(loans(10)))
    with pytest.raises(NotFound):
        world.reader.find(text)


def test_records_without_a_commit_marker_are_not_seen(world: World) -> None:
    score_partition(world.job(), world.parts(loans(10)))
    text = ids(world)[0]
    (world.root / "objects" / "batch/credit_risk/2010-05/0/commit.json").unlink()
    with pytest.raises(NotFound):
        world.reader.find(text)
    loan = {"entity": "loan", "personal": True, "key": (("i64", 3),)}
    assert world.reader.find_by_entity(world.subjects, model="credit_risk", **loan) == []  # type: ignore[arg-type]
    score_partition(world.job(), world.parts(loans(10)))
    assert world.reader.find(text).prediction_id == text


def test_decisions_are_found_by_entity_over_months_oldest_first(world: World) -> None:
    score_partition(world.job(), world.parts(loans(10)))
    score_partition(world.job(partition="again", decided_at=JULY), world.parts(loans(10)))

    def found(number: int, **more: object) -> list[str]:
        return world.reader.find_by_entity(
            world.subjects, model="credit_risk", entity="loan", personal=True, key=(("i64", number),), **more
        )  # type: ignore[arg-type]

    both = found(4)
    assert [world.reader.find(text).header["decided_at"] for text in both] == [END, JULY]
    assert all(world.reader.find(text).personal["key_loan_id"] == 4 for text in both)  # type: ignore[index]
    assert found(4, months=["2010-07"]) == both[1:]
    assert found(4, months=["2011-01"]) == []
    assert found(99) == []


def test_nothing_is_found_in_an_empty_root(world: World) -> None:
    assert world.reader.find_by_entity(world.subjects, model="m", entity="loan", personal=True, key=(("i64", 1),)) == []
    assert world.reader.find_refusals(world.subjects, model="m", entity="loan", key=(("i64", 1),), at=END) == []


def test_a_changed_personal_row_does_not_fit_its_commitment(world: World) -> None:
    score_partition(world.job(), world.parts(loans(10)))
    found = world.reader.find(ids(world)[0])
    assert found.personal is not None
    found.personal["number_amount"] += 1.0
    with pytest.raises(IntegrityError, match="commitment"):
        found.leaf(CONTRACT)
    from dataclasses import replace

    with pytest.raises(NotFound, match="gone"):
        replace(found, personal=None).leaf(CONTRACT)
