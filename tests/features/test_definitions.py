from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml_platform.core.errors import ArtifactCorrupt, DeclarationError, NotFound
from ml_platform.core.fields import category, number
from ml_platform.core.objects import ObjectStore
from ml_platform.features import INGESTED, FeatureView, RequestView, Source, count, last, mean
from ml_platform.features.definitions import load, path_of, rebuild, store
from tests.features.support import applications, outcomes
from tests.features.test_source import SQL, matured
from tests.features.test_views import LOAN, PURPOSE, by_sql, request, windowed

DECLARED: list[Any] = [
    LOAN,
    applications(),
    matured(SQL),
    Source("stamped", {"k": "int64", "t": "timestamp"}, ("k",), "t", INGESTED),
    request(),
    request(
        columns=[
            number("amount", range=(0, None), on_range="flag", default=1, on_null="default"),
            number("installment"),
            category("term", categories=("60", "36"), on_unknown="flag"),
        ],
        derived={"long": "case when term = '60' then ln(amount) else -1.5e-300 end"},
    ),
    windowed(),
    windowed(
        aggregations=[mean("amount", over="12mo"), count(over="36h"), last("amount", over="90s", name="x")],
        refresh="30s",
    ),
    FeatureView("m", entity=PURPOSE, source=matured(SQL), aggregations=[mean("defaulted", over="720d")], refresh="1d"),
    by_sql(ttl="45m", refresh="15m"),
]


@pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: f"{declared.kind}-{declared.name}")
def test_a_definition_is_rebuilt_from_its_canonical_form(declared: Any, tmp_path: Path) -> None:
    objects = ObjectStore(tmp_path)
    digest = store(objects, declared)
    assert store(objects, declared) == digest == declared.digest
    loaded = load(objects, digest)
    assert type(loaded) is type(declared)
    assert loaded.spec() == declared.spec()
    if isinstance(loaded, FeatureView):
        assert {field.name for field in loaded.features} == {field.name for field in declared.features}
        assert loaded.lineage() == declared.lineage()
        assert loaded.refresh_us == declared.refresh_us


def test_an_old_expression_is_computed_from_what_was_stored(tmp_path: Path) -> None:
    objects = ObjectStore(tmp_path)
    loaded = load(objects, store(objects, request()))
    assert isinstance(loaded, RequestView)
    assert loaded.expressions == request().expressions


def test_a_changed_definition_is_not_loaded(tmp_path: Path) -> None:
    objects = ObjectStore(tmp_path)
    digest = store(objects, LOAN)
    path = tmp_path / path_of(digest)
    raw = path.read_bytes()
    for changed in (raw.replace(b"loan_id", b"user_id"), raw + b" ", b"{", b"[]"):
        path.write_bytes(changed)
        with pytest.raises(ArtifactCorrupt):
            load(objects, digest)
    path.write_bytes(raw)
    assert load(objects, digest) == LOAN


def test_an_unknown_definition_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load(ObjectStore(tmp_path), LOAN.digest)


def test_an_unknown_kind_or_format_is_refused() -> None:
    for change in ({"kind": "model"}, {"format": "ml-platform/definition/2"}):
        with pytest.raises(DeclarationError):
            rebuild({**LOAN.spec(), **change})


def test_equal_things_are_equal_only_to_their_kind() -> None:
    assert LOAN != PURPOSE
    assert LOAN != "loan"
    assert outcomes() in {outcomes(), applications()}
