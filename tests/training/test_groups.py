from __future__ import annotations

import numpy as np

from ml_platform.stats import rate_difference, rate_ratio
from ml_platform.training.groups import GroupCounts, best_off, count_groups
from tests.training.cases import evaluation_table


def test_counts_agree_with_counting():
    random = np.random.default_rng(0)
    scores, labels = random.random(500), random.integers(0, 2, 500)
    names = random.choice(np.array(["a", "b", None], object), 500)
    table = evaluation_table(scores, labels, groups={"g": names})
    found = count_groups(table, "g", table.scores > 0.4)
    assert [group.name for group in found] == ["a", "b"]
    for group in found:
        rows = [
            (score, label)
            for score, label, name in zip(table.scores, table.labels, table.group("g"), strict=True)
            if name == group.name
        ]
        assert group.rows == len(rows)
        assert group.approved == sum(score <= 0.4 for score, _ in rows)
        assert group.positives == sum(label == 1 for _, label in rows)
        assert group.negatives == sum(label == 0 for _, label in rows)
        assert group.declined_positives == sum(score > 0.4 and label == 1 for score, label in rows)
        assert group.declined_negatives == sum(score > 0.4 and label == 0 for score, label in rows)


def test_ratio_and_gaps_are_those_of_the_group_over_the_reference():
    group = GroupCounts("b", rows=200, approved=120, positives=50, declined_positives=40)
    reference = GroupCounts("a", rows=300, approved=240, positives=60, declined_positives=30)
    assert group.approval_ratio(reference) == rate_ratio(120, 200, 240, 300)
    assert group.true_positive_gap(reference) == rate_difference(40, 50, 30, 60)
    assert group.false_positive_gap(reference) == rate_difference(40, 150, 30, 240)


def test_the_best_off_group_is_large_enough_and_the_first_of_equals():
    b = GroupCounts("b", 200, 150, 0, 0)
    a = GroupCounts("a", 100, 75, 0, 0)
    small = GroupCounts("c", 99, 99, 0, 0)
    assert best_off([b, small, a]) is a
    assert best_off([small]) is None
    assert best_off([b, a, GroupCounts("d", 100, 76, 0, 0)]).name == "d"
