"""The files at the top: this company's deployment of the library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml


def python(repository: Path, code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_workspace_is_valid(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    done = subprocess.run(
        command,
        cwd=repository,
        env={**os.environ, "DAGSTER_HOME": str(tmp_path), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workspace_puts_the_folders_beside_definitions_on_the_path(repository: Path) -> None:
    (location,) = yaml.safe_load((repository / "workspace.yaml").read_text())["load_from"]
    assert location["python_file"]["working_directory"] == "."
    assert (repository / location["python_file"]["relative_path"]).is_file()


def test_the_cloud_file_names_the_same_location(repository: Path) -> None:
    (workspace,) = yaml.safe_load((repository / "workspace.yaml").read_text())["load_from"]
    (cloud,) = yaml.safe_load((repository / "dagster_cloud.yaml").read_text())["locations"]
    assert cloud["location_name"] == workspace["python_file"]["location_name"]
    assert cloud["code_source"]["python_file"] == workspace["python_file"]["relative_path"]
    assert cloud["working_directory"] == workspace["python_file"]["working_directory"]


def test_what_runs_here_is_all_that_the_library_offers(repository: Path) -> None:
    code = (
        "import definitions as ours; from ml_platform.orchestration import definitions;"
        "from assets.credit_risk import credit_risk; standard = definitions([credit_risk]);"
        "names = lambda defs: {one.name for one in [*defs.jobs, *defs.schedules, *defs.sensors]};"
        "assert names(ours.defs) == names(standard), names(ours.defs) ^ names(standard)"
    )
    done = python(repository, code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"ML_PLATFORM_DEPLOYMENT": "local"}, "roots/demo"),
        ({"ML_PLATFORM_DEPLOYMENT": "local", "ML_PLATFORM_SETTINGS": "/srv/x/settings.toml"}, ""),
        ({"ML_PLATFORM_DEPLOYMENT": "production"}, ""),
    ],
)
def test_the_environment_chooses_where_things_live(repository: Path, environ: dict[str, str], root: str) -> None:
    code = "from resources import platform; print(platform.root)"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ML_PLATFORM_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository,
        env={**plain, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    found = done.stdout.strip()
    assert found.endswith(root) if root else found == ""


def test_an_unknown_deployment_is_refused_by_name(repository: Path) -> None:
    done = python(repository, "import resources", ML_PLATFORM_DEPLOYMENT="cloud")
    assert done.returncode != 0
    assert "Choose local or production" in done.stderr
