"""The rules of the house that a linter cannot say (CONTRIBUTING.md has the map)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "ml_platform"

# A vendor may be imported only in modules that bear its name, or that it is the subject of.
VENDORS: dict[str, set[str]] = {
    "alembic": {"registry/sql.py", "registry/migrations"},
    "datasketches": {"features/datasketches.py"},
    "ddsketch": {"features/ddsketch.py"},
    "deltalake": {"core/delta.py", "serving/delta.py"},
    "duckdb": {"features/duckdb.py"},
    "lightgbm": {"training/lightgbm.py"},
    "matplotlib": {"orchestration/plots.py"},
    "obstore": {"core/objects.py"},
    "onnx": {"training/onnx.py"},
    "onnxmltools": {"training/onnx.py"},
    "onnxruntime": {"training/onnxruntime.py"},
    "pyspark": {"core/spark.py", "features/spark.py", "serving/spark.py"},
    "openlineage": {"lifecycle/openlineage.py"},
    "redis": {"features/redis.py"},
    "orjson": {"serving/online_orjson.py"},
    "sqlalchemy": {"registry/sql.py", "registry/migrations"},
    "sshsig": {"registry/sshsig.py"},
    "torch": {"training/torch.py"},
    "triton_python_backend_utils": {"serving/triton"},
    "tritonclient": {"serving/triton"},
    "whylogs": {"profiles/whylogs.py"},
    "whylogs_sketching": {"profiles/whylogs.py"},
}
HEAVY = {
    "torch",
    "lightgbm",
    "whylogs",
    "whylogs_sketching",
    "mlflow",
    "onnxruntime",
    "onnx",
    "onnxmltools",
    "pyspark",
    "matplotlib",
    "duckdb",
    "openlineage",
    "redis",
    "tritonclient",
}
# What the offline half's pure rules are made of: no clock, disk, network, random number or environment.
PURE = ["stats", "registry/transitions.py", "registry/state.py", "core/merkle.py", "training/gates.py", "core/rows.py"]
PURE += [f"features/{rule}.py" for rule in ("held", "partials", "sweep", "tiles", "window_values", "windows")]
PURE += ["profiles/window.py", "profiles/moments.py"]
PURE += [f"monitoring/{rule}.py" for rule in ("alerts", "drift", "performance", "severity")]
PURE += [f"monitoring/{rule}.py" for rule in ("retrain", "usefulness")]
PURE += [f"rollout/{rule}.py" for rule in ("agreement", "decision", "evidence", "intervals", "plan", "shadow")]
IMPURE_MODULES = {"os", "random", "secrets", "socket", "subprocess", "time", "requests", "sqlite3", "tempfile"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def imported(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node


def test_a_vendor_is_imported_only_in_the_module_that_bears_its_name() -> None:
    wrong = [
        f"{name} imports {module}"
        for name, tree in modules()
        for module, _ in imported(tree)
        if (homes := VENDORS.get(module.split(".")[0])) is not None
        and not any(name.startswith(home.removesuffix(".py")) for home in homes)
    ]
    assert wrong == []


def _guarded(tree: ast.Module) -> set[ast.stmt]:
    """Imports that cost nothing at import time: inside functions, or under TYPE_CHECKING."""
    inside: set[ast.stmt] = set()
    for node in ast.walk(tree):
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if typing_only or isinstance(node, ast.FunctionDef):
            inside.update(child for child in ast.walk(node) if isinstance(child, ast.Import | ast.ImportFrom))
    return inside


def test_heavy_vendors_are_imported_inside_functions() -> None:
    wrong = []
    for name, tree in modules():
        free = _guarded(tree)
        wrong += [
            f"{name} imports {module} at import time"
            for module, node in imported(tree)
            if module.split(".")[0] in HEAVY and node not in free
        ]
    assert wrong == []


def test_pure_rules_take_the_world_as_arguments() -> None:
    wrong = [
        f"{name} imports {module}"
        for name, tree in modules()
        if any(name.startswith(rule) for rule in PURE)
        for module, _ in imported(tree)
        if module.split(".")[0] in IMPURE_MODULES
    ]
    assert wrong == []


def test_importing_the_package_loads_no_heavy_vendor_and_no_dagster() -> None:
    script = "import ml_platform, sys; print(sorted(m.split('.')[0] for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not (HEAVY | {"dagster", "sqlalchemy", "deltalake"}) & set(ast.literal_eval(loaded))


@pytest.mark.parametrize("module", ["model", "serving", "registry", "governance", "lifecycle", "platform", "cli.main"])
def test_only_orchestration_loads_dagster(module: str) -> None:
    script = f"import ml_platform.{module}, sys; assert 'dagster' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_public_surface_is_pinned() -> None:
    import ml_platform

    assert ml_platform.__all__ == [
        "INGESTED", "Approvals", "Attribute", "Decline", "Entity", "FeatureView", "Function", "Guardrails", "Label",
        "LightGBM", "Model", "Monitor", "Onnx", "Platform", "PlatformError", "RequestView", "Retraining", "Rollout",
        "SameAsEvent", "Serving", "Source", "TimeSplit", "approx_distinct", "at_least", "brier_skill", "calibrated",
        "category", "count", "distinct", "first", "group_ratio", "last", "max_", "mean", "min_",
        "not_worse_than_production", "number", "pivot", "quantile", "stddev", "sum_",
    ]  # fmt: skip
    for name in ml_platform.__all__:
        assert getattr(ml_platform, name) is not None


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, tree in modules() if not ast.get_docstring(tree) and "migrations" not in name]
    assert silent == []


def test_nothing_names_this_workplace_or_a_registry_host() -> None:
    hosts = [
        "pypi" + ".org",
        "pythonhosted" + ".org",
        "repo.maven" + ".apache",
        "proxy.golang" + ".org",
        "registry.npmjs" + ".org",
    ]
    pattern = re.compile("|".join([*map(re.escape, hosts), r"(?<![\w./\-])/" + "root/", r"(?<![\w./\-])/" + "work/"]))
    root = PACKAGE.parent
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: the list of the project's files is git's")
    wrong = []
    for name in listed.stdout.split():
        path = root / name
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cfg", ""}:
            found = pattern.search(path.read_text(errors="ignore"))
            if found and name != "LICENSE":
                wrong.append(f"{name}: {found[0]}")
    assert wrong == []
