from __future__ import annotations

from ml_platform.governance.record_leaves import _row_by_row, record_leaves
from ml_platform.serving.tables import leaf_from_rows
from ml_platform.training import load_artifact


def tables(shared):
    return [
        shared.lake.read(f"small_risk/{name}").sort_by("prediction_id").combine_chunks()
        for name in ("predictions", "predictions_personal")
    ]


def contract(shared):
    return load_artifact(shared.objects, shared.registry.state().version("small_risk", 1).digests.artifact).contract


def test_whole_columns_give_the_leaves_of_single_rows(shared):
    headers, personal = tables(shared)
    declared = contract(shared)
    found = record_leaves(headers, personal, declared)
    expected = [
        leaf_from_rows(header, row, declared)
        for header, row in zip(headers.to_pylist(), personal.to_pylist(), strict=True)
    ]
    assert [one.leaf for one in found] == expected
    assert found == _row_by_row(headers, personal, declared)


def test_a_row_that_cannot_be_encoded_is_wrong_alone(shared):
    headers, personal = tables(shared)
    names = personal.column("flags").to_pylist()
    place = personal.column_names.index("flags")
    broken = personal.set_column(place, personal.schema.field("flags"), [[None, *names[1:]]])
    found = record_leaves(headers, broken, contract(shared))
    assert found[0].leaf is None
    assert found[0].wrong
    assert all(one.leaf is not None for one in found[1:])
