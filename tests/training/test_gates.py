from __future__ import annotations

import pytest

from ml_platform.core.errors import DeclarationError
from ml_platform.training.gates import (
    ONNX_PARITY,
    Gate,
    at_least,
    brier_skill,
    calibrated,
    group_ratio,
    not_worse_than_production,
    stricter_or_equal,
)

ALL = [
    at_least("auc", 0.55),
    calibrated(on_inconclusive="ask"),
    brier_skill(),
    group_ratio("approval_rate", by="applicant_group", at_least=0.8),
    not_worse_than_production("auc", by=0.03),
    ONNX_PARITY,
]


@pytest.mark.parametrize("gate", ALL, ids=lambda gate: gate.name)
def test_a_gate_survives_its_stored_form(gate):
    assert Gate.from_spec(gate.spec()) == gate


def test_names_say_kind_metric_and_attribute():
    assert [gate.name for gate in ALL] == [
        "at_least.auc",
        "calibrated",
        "brier_skill",
        "group_ratio.approval_rate.applicant_group",
        "not_worse_than_production.auc",
        "onnx_parity",
    ]


def test_a_gate_describes_itself_in_a_sentence():
    assert at_least("auc", 0.55).describe() == "The lower bound of auc is above 0.55."
    assert all(gate.describe().endswith(".") and "{" not in gate.describe() for gate in ALL)


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: at_least("accuracy", 0.5), "metric"),
        (lambda: at_least("auc", 1.0), "at_least"),
        (lambda: at_least("auc", 0.0), "at_least"),
        (lambda: at_least("auc", float("nan")), "at_least"),
        (lambda: at_least("auc", "0.5"), "at_least"),
        (lambda: at_least("auc", True), "at_least"),
        (lambda: at_least("auc", 0.5, on_inconclusive="hope"), "on_inconclusive"),
        (lambda: calibrated(0), "calibrated"),
        (lambda: brier_skill(-1), "brier_skill"),
        (lambda: group_ratio("approval_rate", by="Group"), "by"),
        (lambda: group_ratio("auc", by="group"), "metric"),
        (lambda: not_worse_than_production("auc", by=0), "not_worse"),
        (lambda: Gate("at_least", 0.5, metric="auc", by="group"), "by"),
        (lambda: Gate("group_ratio", 0.5, metric="approval_rate"), "by"),
        (lambda: Gate("calibrated", 0.5, metric="auc"), "metric"),
        (lambda: Gate("luck", 0.5), "kind"),
        (lambda: Gate.from_spec({**at_least("auc", 0.55).spec(), "name": "calibrated"}), "name"),
        (lambda: Gate.from_spec({**at_least("auc", 0.55).spec(), "extra": 1}), "gates"),
        (lambda: Gate.from_spec({}), "gates"),
    ],
)
def test_an_impossible_gate_is_refused_when_declared(build, names):
    with pytest.raises(DeclarationError, match=names):
        build()


@pytest.mark.parametrize(
    ("make", "stricter", "same", "laxer"),
    [
        (lambda value: at_least("auc", value), 0.6, 0.55, 0.5),
        (brier_skill, 0.1, 0.0, -0.1),
        (lambda value: group_ratio("approval_rate", by="g", at_least=value), 0.9, 0.8, 0.7),
        (calibrated, 0.01, 0.02, 0.03),
        (lambda value: not_worse_than_production("auc", by=value), 0.01, 0.03, 0.05),
    ],
)
def test_a_declaration_may_only_be_stricter(make, stricter, same, laxer):
    minimum = make(same)
    assert stricter_or_equal(make(stricter), minimum)
    assert stricter_or_equal(make(same), minimum)
    assert not stricter_or_equal(make(laxer), minimum)


def test_asking_is_laxer_than_refusing():
    asks, refuses = calibrated(on_inconclusive="ask"), calibrated()
    assert stricter_or_equal(refuses, asks)
    assert stricter_or_equal(asks, asks)
    assert not stricter_or_equal(asks, refuses)


def test_a_gate_on_something_else_covers_nothing():
    assert not stricter_or_equal(at_least("auc", 0.99), brier_skill(-0.9))
    assert not stricter_or_equal(
        group_ratio("approval_rate", by="age_group", at_least=0.99), group_ratio("approval_rate", by="applicant_group")
    )
