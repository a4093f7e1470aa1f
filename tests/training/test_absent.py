from __future__ import annotations

import pytest

from ml_platform.core.errors import DeclarationError
from ml_platform.training.absent import Absent, as_json


def test_an_absence_needs_a_reason():
    with pytest.raises(DeclarationError, match="reason"):
        Absent("  ")


def test_absences_are_said_at_any_depth():
    value = {"a": [Absent("no a"), 1], "b": {"c": Absent("no c")}, "d": "e"}
    assert as_json(value) == {"a": [{"absent": "no a"}, 1], "b": {"c": {"absent": "no c"}}, "d": "e"}
