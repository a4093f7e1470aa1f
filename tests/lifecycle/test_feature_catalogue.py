"""Search, use, deprecation and retirement of views, on a root with a registered version and a changed definition."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ml_platform import Model, Platform
from ml_platform.core.errors import Conflict, NotFound, Refused
from ml_platform.features.about import About, Deprecated
from ml_platform.lifecycle import (
    build_candidate,
    diff_features,
    find_definition,
    forget_online,
    lock_definitions,
    publish_features,
    request_candidate,
    retirement,
    search_features,
    stage,
)
from ml_platform.lifecycle.online_features import publish_view
from tests.conftest import REPOSITORY

AS_OF = datetime(2010, 1, 1, tzinfo=UTC)


def changed(model: Model, *, about: About | None = None, **change: Any) -> Model:
    (view,) = model.stored_views
    said = {"about": about} if about else {}
    return replace(model, features=[model.request, replace(view, **change, **said)])


@pytest.fixture(scope="module")
def trained_root(landed_root: Path, tmp_path_factory: pytest.TempPathFactory, quick: Model) -> Path:
    root = tmp_path_factory.mktemp("trained") / "root"
    shutil.copytree(landed_root, root)
    platform = Platform.local(root)
    build_candidate(platform, quick, AS_OF)
    platform.registry.close()
    return root


@pytest.fixture
def trained(trained_root: Path, tmp_path: Path) -> Iterator[Platform]:
    """Version 1 of ``quick`` is registered."""
    shutil.copytree(trained_root, tmp_path / "root")
    platform = Platform.local(tmp_path / "root")
    yield platform
    platform.registry.close()


def names(found: list[Any]) -> list[str]:
    return [entry.view.name for entry in found]


def test_views_are_found_by_name_source_owner_and_user_from_the_contracts(trained: Platform, quick: Model) -> None:
    for text in (
        "purpose",
        "DEFAULTED_mean",
        "outcomes purpose_history",
        "team:credit purpose_history",
        "quick defaulted",
    ):
        assert "purpose_history" in names(search_features(trained, [quick], text)), text
    assert search_features(trained, [quick], "purpose nonsense") == []
    (entry,) = search_features(trained, [], "defaulted_mean_720d")
    (use,) = entry.users
    assert (use.model, use.version, use.features) == ("quick", 1, ("defaulted_mean_720d",))
    assert entry.declared_by == ()  # nobody here declares it; the contract knows who reads it
    (request,) = [one for one in search_features(trained, [quick], "application") if one.view.kind == "request_view"]
    assert "loan_amnt" in {name for use in request.users for name in use.features}
    said = changed(quick, about=About(description="Bad luck by purpose", owners=("team:features",)))
    (found,) = search_features(trained, [said], "luck team:features")
    assert found.users == entry.users


def test_definitions_are_compared_by_name_and_by_eight_digits(trained: Platform, quick: Model) -> None:
    (old,) = quick.stored_views
    new = changed(quick, refresh="2d")
    one, two, found = diff_features(
        trained, [new], old.reference[: len("purpose_history@sha256:") + 8], "purpose_history"
    )
    assert (one, two) == (old, new.stored_views[0])
    assert [item.path for item in found] == [("refresh_us",)]
    for wrong in ("purpose_history@sha256:1234567", "nothing", "purpose_history@sha256:" + "0" * 64):
        with pytest.raises(NotFound):
            find_definition(trained, [new], wrong)


def test_a_deprecated_view_warns_when_declared_and_when_trained(trained: Platform, quick: Model) -> None:
    about = About(deprecated=Deprecated("2009-12-01", "It counts twice", instead="purpose_history_2"))
    with pytest.warns(FutureWarning, match=r"quick uses purpose_history.*It counts twice.*purpose_history_2"):
        model = changed(quick, about=about)
    with pytest.warns(FutureWarning, match="It counts twice"):
        request_candidate(trained, model, AS_OF)


def test_a_view_may_be_closed_to_new_models_and_open_to_those_that_read_it(trained: Platform, quick: Model) -> None:
    about = About(deprecated=Deprecated("2009-12-01", "It counts twice", instead="another", refuse=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = changed(quick, about=about)
        request_candidate(trained, model, AS_OF)
        before = trained.registry.state().models.keys()
        with pytest.raises(Refused, match=r"fresh may not begin to use purpose_history.*Use another"):
            request_candidate(trained, replace(model, name="fresh"), AS_OF)
    assert trained.registry.state().models.keys() == before


def test_what_a_version_needs_stays_and_what_nobody_needs_may_go(trained: Platform, quick: Model) -> None:
    (old,) = quick.stored_views
    new = changed(quick, refresh="2d")
    (second,) = new.stored_views
    publish_features(trained, quick)
    publish_features(trained, new)
    request_candidate(trained, new, AS_OF)
    known = {one.reference: one for one in retirement(trained, [new])}
    assert set(known) == {old.reference, second.reference}
    assert known[second.reference].declared_by == ("quick",)
    assert all(one.online_points and one.stored_periods for one in known.values())
    assert known[old.reference].may_go  # version 1 is newly trained: nothing serves it
    stage(trained, "quick", 1, principal="ada", reason="passed")
    assert not {one.reference: one for one in retirement(trained, [new])}[old.reference].may_go
    with pytest.raises(Conflict, match="quick version 1"):
        forget_online(trained, [new], old.reference)
    with pytest.raises(Conflict, match="needed by quick"):
        forget_online(trained, [new], second.reference)
    assert forget_online(trained, [quick], second.reference).online_points > 0
    assert trained.lake.exists(second.table)  # the table stays: records are reproduced from it
    with pytest.raises(NotFound):
        forget_online(trained, [quick], second.reference)
    publish_view(trained, second)  # and it can be published again at any time


OTHER_TEAM = """
import importlib.util, json, sys
from pathlib import Path

import team_b  # what only this team has
assert importlib.util.find_spec("assets") is None, "this location has no code of the owners"
try:
    import lightgbm
except ImportError:
    pass
else:
    raise AssertionError("this location has no lightgbm")

from ml_platform import Entity, Function, Label, Model, Platform, RequestView, SameAsEvent, Source, at_least, category
from ml_platform.features import feature_view

view = feature_view(sys.argv[2], lock="features.lock")
rows = Source("visits", columns={"visit": "int64", "purpose": "string", "at": "timestamp"},
              keys=("visit",), event_time="at", known_time=SameAsEvent("the visit is the row"))
bought = Source("orders", columns={"visit": "int64", "paid": "timestamp", "bought": "int64"},
                keys=("visit",), event_time="paid", known_time=SameAsEvent("the order is the row"))
visit = Entity("visit", keys=("visit",))


def plain(native, matrix):
    return native


request = RequestView("visit", entity=visit, source=rows, time="at", columns=(category("purpose"),))
model = Model("shop", entity=visit, features=[request, view], trainer=Function("f", plain, plain, plain),
              label=Label(rows=request, outcome=bought, column="bought", kind="event_within", horizon="1mo", lag="0d"),
              gates=[at_least("auc", 0.5)], owners=("team:shop",))
from ml_platform.orchestration import definitions
specs = {one.key.to_user_string(): one for one in definitions([model]).resolve_all_asset_specs()}
from ml_platform.lifecycle import get_online_features, materialize_view
from datetime import datetime, timezone
platform = Platform.local(Path(sys.argv[1]))
made = materialize_view(platform, view, start=datetime(2008, 3, 1, tzinfo=timezone.utc),
                        end=datetime(2008, 9, 1, tzinfo=timezone.utc))
shown = get_online_features(platform, view, {"purpose": "car"})
platform.registry.close()
print(json.dumps({"team": team_b.NAME, "table": made.table, "added": made.added, "values": shown["values"],
                  "tables": specs["features/purpose_history"].metadata["ml/tables"]}))
"""


def other_environment(folder: Path) -> Path:
    """An environment with a package that we lack and without one that we have; the rest is shared."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "team_b.py").write_text('NAME = "shop"\n')
    (site / "lightgbm.py").write_text('raise ImportError("not installed here")\n')
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "ml_platform").symlink_to(REPOSITORY / "ml_platform")  # the library alone, as its wheel has it
    return folder / "bin" / "python"


def test_another_code_location_with_other_dependencies_uses_the_view_by_its_reference(
    trained: Platform, quick: Model, tmp_path: Path
) -> None:
    (view,) = quick.stored_views
    publish_features(trained, quick)
    location = tmp_path / "shop"
    location.mkdir()
    assert lock_definitions(trained, [view.reference], location / "features.lock") == [view.reference]
    python = other_environment(tmp_path / "env")
    (location / "defs.py").write_text(OTHER_TEAM)
    clean = {
        name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "ML_PLATFORM", "VIRTUAL"))
    }
    done = subprocess.run(
        [python, "-P", "defs.py", trained.root, view.reference],
        cwd=location, env=clean, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["team"] == "shop"
    assert said["table"] == view.table  # one table for both teams: what is there is not computed again
    assert said["tables"] == [view.table]
    assert said["added"] == 0
    from ml_platform.lifecycle import get_online_features

    assert said["values"] == get_online_features(trained, view, {"purpose": "car"})["values"]


def test_locking_keeps_what_was_locked_and_refuses_what_is_no_stored_view(
    trained: Platform, quick: Model, tmp_path: Path
) -> None:
    lock = tmp_path / "features.lock"
    new = changed(quick, refresh="2d")
    request_candidate(trained, new, AS_OF)
    first = lock_definitions(trained, [quick.stored_views[0].reference], lock)
    both = lock_definitions(trained, [new.stored_views[0].reference[:40]], lock)
    assert set(first) < set(both)
    raw = lock.read_bytes()
    with pytest.raises(NotFound, match="no stored feature view"):
        lock_definitions(trained, [quick.request.reference], lock)
    assert lock.read_bytes() == raw
