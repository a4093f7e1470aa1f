"""What a service installs: the wheel alone, in an environment of its own, without Dagster and with NumPy 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement

from ml_platform import Platform
from ml_platform.lifecycle import approve, build_candidate, promote, score_partition, stage
from ml_platform.serving import Scorer
from tests.conftest import missing
from tests.lifecycle import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MONTH = "2026-02"
DECIDED = [
    "prediction_id",
    "artifact_digest",
    "decided_at",
    "commitment",
]  # the commitment: of score, reasons, features

SCORE_ROWS = """
import importlib.util, json, sys
import numpy as np
from ml_platform.core.objects import ObjectStore
from ml_platform.serving import Scorer
absent = [name for name in ("dagster", "lightgbm", "pandas", "sklearn") if importlib.util.find_spec(name) is None]
scorer = Scorer.load(ObjectStore(sys.argv[1]), sys.argv[2], reasons=False)
scores = scorer.decide(np.load(sys.argv[3])).outputs["score"]
print(json.dumps({"absent": absent, "numpy": np.__version__, "scores": scores.tobytes().hex()}))
"""
SCORE_BATCH = """
import importlib.util, json, sys
from pathlib import Path
import tiny
from ml_platform import Platform
from ml_platform.lifecycle import score_partition
platform = Platform.local(Path(sys.argv[1]))
result = score_partition(platform, tiny.late_parcel, sys.argv[2])
platform.registry.close()
loaded = sorted({name.partition(".")[0] for name in sys.modules} & {"dagster", "pandas"})
installed = importlib.util.find_spec("dagster") is not None
print(json.dumps({"accepted": result.accepted, "loaded": loaded, "dagster": installed}))
"""


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy: a build leaves folders beside its sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source / name)
    for name in ("ml_platform", "tests", "assets", "benchmarks"):
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    made = source / "wheels"
    pip(sys.executable, "wheel", str(source), "--no-deps", "-w", str(made))
    return next(made.glob("*.whl"))


def pip(python: str, *arguments: str) -> None:
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        offline = "connection" in done.stderr.lower() or "Temporary failure" in done.stderr
        if offline:
            missing("no package index can be reached")
        raise AssertionError(done.stderr[-3000:])


@pytest.fixture(scope="module")
def requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]


def test_the_wheel_holds_our_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {
        "ml_platform",
        f"{'-'.join(wheel.name.split('-')[:2])}.dist-info",
    }
    assert "ml_platform/py.typed" in names
    assert any(name.startswith("ml_platform/registry/migrations/versions/0001") for name in names)
    for name in ("nginx.conf", "edge.lua", "json.lua", "v2.lua"):
        assert f"ml_platform/serving/triton/edge/{name}" in names


def test_the_base_requirements_neither_cap_numpy_nor_ask_for_dagster(requirements: list[Requirement]) -> None:
    base = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    names = {one.name for one in base}
    assert "numpy" in names
    assert not {"dagster", "pandas", "lightgbm", "whylogs", "torch"} & names
    capped = [str(one) for one in base if not one.specifier.contains("9999.0")]
    assert capped == []


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a version in production."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "code").mkdir()
    platform = tiny.new_root(folder / "root")
    version = build_candidate(platform, tiny.late_parcel, tiny.AS_OF, code=folder / "code").registered.version
    said = {"principal": "ops", "reason": "It is time."}
    stage(platform, "late_parcel", version, **said)
    for to in ("canary", "production"):
        for person in ("ada", "bob"):
            key = platform.secrets.path("people") / person
            approve(platform, "late_parcel", version, to, key=key, reason="Looked at.")
        promote(platform, "late_parcel", version, to, **said)
    platform.registry.close()
    return folder / "root"


@pytest.fixture(scope="module")
def service(wheel: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs Python where the wheel, what it needs and NumPy 2 are installed; ``more`` installs extras."""
    folder = tmp_path_factory.mktemp("service")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    pins = (repository / "constraints.txt").read_text().splitlines()
    (folder / "pins.txt").write_text("\n".join(line for line in pins if not line.startswith("numpy==")))

    def install(extra: str) -> None:
        pip(python, "install", "-c", str(folder / "pins.txt"), f"{wheel}{extra}", "numpy>=2")

    def run(script: str, *arguments: str) -> dict[str, Any]:
        command = [python, "-c", script, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    install("")
    shutil.copy(repository / "tests" / "lifecycle" / "tiny.py", folder / "tiny.py")
    run.install = install  # type: ignore[attr-defined]
    return run


def test_the_wheel_alone_scores_rows_bit_for_bit_without_dagster_and_with_numpy_2(
    service: Any, root: Path, tmp_path: Path
) -> None:
    platform = Platform.local(root)
    artifact = platform.registry.state().model("late_parcel").versions[1].digests.artifact
    scorer = Scorer.load(platform.objects, artifact)
    matrix = np.random.default_rng(1).uniform(0, 30, (500, len(scorer.contract.names))).astype(np.float32)
    matrix[::7, 1] = np.nan
    np.save(tmp_path / "matrix.npy", matrix)
    seen = service(SCORE_ROWS, platform.settings.objects, artifact, str(tmp_path / "matrix.npy"))
    platform.registry.close()
    assert seen["absent"] == ["dagster", "lightgbm", "pandas", "sklearn"]
    assert int(seen["numpy"].partition(".")[0]) >= 2
    assert seen["scores"] == scorer.decide(matrix).outputs["score"].tobytes().hex()


def test_a_month_is_decided_and_recorded_without_dagster_as_it_is_here(
    service: Any, root: Path, tmp_path: Path
) -> None:
    service.install("[lightgbm]")  # the reasons of a declined parcel are LightGBM's
    for name in ("here", "there"):
        shutil.copytree(root, tmp_path / name)
    seen = service(SCORE_BATCH, str(tmp_path / "there"), MONTH)
    assert (seen["dagster"], seen["loaded"]) == (False, [])
    platform = Platform.local(tmp_path / "here")
    assert score_partition(platform, tiny.late_parcel, MONTH).accepted == seen["accepted"] > 200
    other = Platform.local(tmp_path / "there")
    assert other.registry.verify().ok
    rows = [one.lake.read("late_parcel/predictions", columns=DECIDED).to_pylist() for one in (platform, other)]
    assert sorted(rows[0], key=str) == sorted(rows[1], key=str)
    platform.registry.close()
    other.registry.close()
