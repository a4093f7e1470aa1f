from __future__ import annotations

import pytest

from ml_platform.core.digests import canonical_json, sha256_hex
from ml_platform.core.errors import DeclarationError
from ml_platform.training.absent import Absent
from ml_platform.training.run_record import RUN_RECORD_ITEMS, RunRecord, differences, first_difference


def items(**changes):
    values = {name: f"the {name}" for name in RUN_RECORD_ITEMS}
    values |= {
        "code": {"commit": "c0", "branch": Absent("No branch is checked out."), "dirty": False, "tree": "t0"},
        "packages": {"numpy": "1.26.4", "pyarrow": "25.0.0"},
        "image": Absent("No image."),
        "hardware": {"cpu": "x", "gpu": Absent("No GPU."), "threads": 1},
        "features": {},
        "seeds": {"trainer": 0},
        "metrics": {"rows": 10, "auc": 0.7},
    }
    return {**values, **changes}


def test_the_design_items_are_all_asked_for():
    for item in ("code", "training_set", "sources", "features", "trainer", "seeds", "determinism", "image", "packages",
                 "hardware", "metrics", "artifact", "logs"):  # fmt: skip
        assert item in RUN_RECORD_ITEMS


@pytest.mark.parametrize("name", RUN_RECORD_ITEMS)
def test_a_missing_item_is_an_error_that_names_it(name):
    values = items()
    del values[name]
    with pytest.raises(DeclarationError, match=name):
        RunRecord.of(values)


@pytest.mark.parametrize("empty", [None, "", [], {}, {"cpu": None}, {"cpu": ["x", None]}, {"gpu": {}}])
def test_an_empty_item_is_an_error(empty):
    with pytest.raises(DeclarationError, match="hardware"):
        RunRecord.of(items(hardware=empty))


def test_false_and_zero_are_values_and_a_model_may_have_no_stored_features():
    assert RunRecord.of(items())["features"] == {}
    assert RunRecord.of(items())["code"]["dirty"] is False
    with pytest.raises(DeclarationError, match="features"):
        RunRecord.of(items(features=None))


def test_an_unknown_item_is_an_error():
    with pytest.raises(DeclarationError, match="weather"):
        RunRecord.of(items(weather="fair"))


def test_an_absence_is_in_the_document_with_its_reason():
    assert RunRecord.of(items()).document["image"] == {"absent": "No image."}
    assert RunRecord.of(items()).document["hardware"]["gpu"] == {"absent": "No GPU."}


def test_a_record_survives_its_stored_form():
    record = RunRecord.of(items())
    again = RunRecord.from_bytes(record.to_bytes())
    assert again == record
    assert record.digest == sha256_hex(record.to_bytes()) == again.digest
    for broken in ({**record.document, "format": "x"}, {"format": "ml-platform/run-record/1"}):
        with pytest.raises(DeclarationError):
            RunRecord.from_bytes(canonical_json(broken))


def test_the_first_input_that_differs_is_named():
    record = RunRecord.of(items())
    assert first_difference(record, RunRecord.of(items())) is None
    numpy2 = RunRecord.of(items(packages={"numpy": "2.0.0", "pyarrow": "25.0.0"}, runtime="other"))
    assert first_difference(record, numpy2) == "packages.numpy"
    assert list(differences(record, numpy2)) == ["packages.numpy", "runtime"]
    fewer = RunRecord.of(items(packages={"numpy": "1.26.4"}))
    assert first_difference(record, fewer) == "packages.pyarrow"
    assert first_difference(record, RunRecord.of(items(training_set="x", packages={"a": "1"}))) == "training_set"


def test_what_a_run_makes_is_no_input():
    other = RunRecord.of(items(artifact="a", metrics={"rows": 11}, logs="l", candidate="c"))
    assert first_difference(RunRecord.of(items()), other) is None
