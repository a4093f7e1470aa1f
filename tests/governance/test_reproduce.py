from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ml_platform import Function, lifecycle
from ml_platform.core.digests import canonical_json
from ml_platform.core.errors import NotFound, NotReproducible, Tampered
from ml_platform.governance import Reproduction, reproduce
from ml_platform.governance.bundle import Difference, differences_of
from tests.governance import spoiling
from tests.governance.root import AS_OF, make_platform, model

OWN_MODEL = """
from ml_platform.training import LightGBM
from ml_platform.training.trainer import RunContext, TrainingData


def train(data, run):
    from ml_platform.training import LightGBM

    return LightGBM(num_leaves=4, learning_rate=0.2, rounds={rounds}, min_data_in_leaf=20).fit(data, run)


def predict(native, matrix):
    from ml_platform.training.lightgbm import predict

    return predict(native, matrix)


def to_onnx(native, contract):
    from ml_platform.training import LightGBM

    return LightGBM().to_onnx(native, contract)


def make():
    from ml_platform import Function

    return Function("own", train, predict, to_onnx, bit_identical=True)


trainer = make()
"""


def inputs(found) -> list[str]:
    return [one.input for one in found.differs]


def test_a_version_is_built_again_bit_by_bit_in_a_fresh_process(shared, tmp_path):
    found = reproduce(shared, "small_risk", 1, workdir=tmp_path / "work")
    assert found.reproduced
    assert found.rebuilt_digest == found.artifact_digest
    assert found.differs == ()
    found.require()


def test_the_stored_artifact_is_not_needed(root, tmp_path):
    digest = root.registry.state().version("small_risk", 1).digests.artifact
    listing = root.root / "store" / "artifacts" / f"{digest.removeprefix('sha256:')}.json"
    for part in json.loads(listing.read_bytes())["parts"].values():
        (root.root / "store" / root.objects.path_of("sha256:" + part["sha256"])).unlink()
    listing.unlink()
    found = reproduce(root, "small_risk", 1, workdir=tmp_path / "work")
    assert found.identical
    assert {path.name for path in (tmp_path / "work" / "artifact").iterdir()} >= {"model.onnx", "contract.json"}


def test_the_bundle_runs_again_without_the_root(shared, tmp_path):
    work = tmp_path / "work"
    first = reproduce(shared, "small_risk", 1, workdir=work)
    shutil.copytree(work, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("artifact", "result.json"))
    command = [sys.executable, "-m", "ml_platform.governance.rebuild", str(tmp_path / "elsewhere")]
    subprocess.run(command, check=True)
    assert json.loads((tmp_path / "elsewhere" / "result.json").read_bytes())["artifact"] == first.artifact_digest


def test_one_changed_row_of_the_training_set_is_named_and_nothing_is_trained(root, tmp_path):
    def raised(rows):
        rows[17]["amount"] += 1
        return rows

    spoiling.rewrite(spoiling.snapshot_file(root), raised)
    found = reproduce(root, "small_risk", 1, workdir=tmp_path / "work")
    assert inputs(found) == ["training_set.rows.17", "training_set.rows"]
    assert found.rebuilt_digest is None
    with pytest.raises(NotReproducible, match=r"training_set\.rows\.17"):
        found.require()


def test_a_deleted_row_and_another_order_are_seen(root, tmp_path):
    path = spoiling.snapshot_file(root)
    kept = path.read_bytes()
    spoiling.rewrite(path, lambda rows: rows[1:])
    assert inputs(reproduce(root, "small_risk", 1, workdir=tmp_path / "one")) == ["training_set.rows"]
    path.write_bytes(kept)
    spoiling.rewrite(path, lambda rows: rows[::-1])
    assert inputs(reproduce(root, "small_risk", 1, workdir=tmp_path / "two")) == ["training_set.order"]
    path.unlink()
    found = reproduce(root, "small_risk", 1, workdir=tmp_path / "three")
    assert inputs(found) == ["training_set"]
    assert found.differs[0].found.startswith("absent")


def test_a_package_of_another_version_is_named(root, tmp_path, monkeypatch):
    """A stub that is found first: the same code, another version, as after an upgrade."""
    stub = tmp_path / "stubs" / "rich-0.0.1.dist-info"
    stub.mkdir(parents=True)
    (stub / "METADATA").write_text("Metadata-Version: 2.1\nName: rich\nVersion: 0.0.1\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(stub.parent), os.environ.get("PYTHONPATH", "")]))
    found = reproduce(root, "small_risk", 1, workdir=tmp_path / "work")
    assert inputs(found) == ["packages.rich"]
    assert found.differs[0].found == "0.0.1"
    assert found.identical  # this package does not change the bytes, and the answer says both
    assert not found.reproduced
    with pytest.raises(NotReproducible, match=r"packages\.rich"):
        found.require()


def test_an_additional_package_breaks_no_promise(root, tmp_path, monkeypatch):
    stub = tmp_path / "stubs" / "brand_new-1.0.dist-info"
    stub.mkdir(parents=True)
    (stub / "METADATA").write_text("Metadata-Version: 2.1\nName: brand-new\nVersion: 1.0\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(stub.parent), os.environ.get("PYTHONPATH", "")]))
    found = reproduce(root, "small_risk", 1, workdir=tmp_path / "work")
    assert found.reproduced
    assert Difference("packages.brand-new", "absent", "1.0") in found.surroundings


def test_a_changed_record_is_refused(root, tmp_path):
    digest = root.registry.state().version("small_risk", 1).digests.run_record
    path = root.objects.path_of(digest)
    spoiling.overwrite(root, path, root.objects.read(path).replace(b'"rounds":12', b'"rounds":13'))
    with pytest.raises(Tampered, match=r"digest"):
        reproduce(root, "small_risk", 1, workdir=tmp_path / "work")


def test_an_unknown_version_is_not_found(shared, tmp_path):
    with pytest.raises(NotFound, match="no version 7"):
        reproduce(shared, "small_risk", 7, workdir=tmp_path / "work")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A version whose trainer is three functions of a file."""
    folder = tmp_path_factory.mktemp("own")
    platform = make_platform(folder)
    return platform, _register(platform, folder)


def _register(platform, folder: Path) -> Path:
    from tests.governance.root import OUTCOMES, REQUESTS, loans

    module = folder / "own_model.py"
    module.write_text(OWN_MODEL.format(rounds=12))
    sys.path.insert(0, str(folder))
    import own_model

    platform.replay.move(AS_OF)
    requests, outcomes = loans(folder)
    lifecycle.land_source(platform, REQUESTS, requests)
    lifecycle.land_source(platform, OUTCOMES, outcomes)
    assert isinstance(own_model.trainer, Function)
    lifecycle.build_candidate(platform, model(own_model.trainer), AS_OF, requested_by="launcher", code=folder / "code")
    return module


def test_a_trainer_of_functions_is_built_again_from_its_code(own, tmp_path, monkeypatch):
    platform, module = own
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    found = reproduce(platform, "small_risk", 1, workdir=tmp_path / "work", declared_in="own_model:trainer")
    assert found.reproduced


def test_a_trainer_of_functions_needs_its_code(own, tmp_path):
    with pytest.raises(NotReproducible, match="no code was named"):
        reproduce(own[0], "small_risk", 1, workdir=tmp_path / "work")


def test_changed_code_of_a_trainer_is_named(own, tmp_path, monkeypatch):
    platform, _ = own
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "own_model.py").write_text(OWN_MODEL.format(rounds=13))
    monkeypatch.setenv("PYTHONPATH", str(changed))
    found = reproduce(platform, "small_risk", 1, workdir=tmp_path / "work", declared_in="own_model:trainer")
    assert inputs(found) == ["trainer.sources.train"]
    assert found.rebuilt_digest is None


def test_other_bytes_are_told_even_where_no_input_differs(shared, tmp_path):
    """Another number of rounds in the bundle only: the inputs seem equal, the artifact is not."""
    work = tmp_path / "work"
    first = reproduce(shared, "small_risk", 1, workdir=work)
    record = json.loads((work / "record.json").read_bytes())
    record["trainer"]["rounds"] = 11
    (work / "record.json").write_bytes(canonical_json(record))
    subprocess.run([sys.executable, "-m", "ml_platform.governance.rebuild", str(work)], check=True)
    result = json.loads((work / "result.json").read_bytes())
    assert result["failed"] is None
    assert result["artifact"] != first.artifact_digest
    other = Reproduction("small_risk", 1, first.artifact_digest, result["artifact"], ())
    assert not other.identical
    with pytest.raises(NotReproducible, match="no recorded input does"):
        other.require()


def test_differences_are_paths_in_the_order_of_names():
    recorded = {"a": {"x": 1, "y": "z"}, "b": 2}
    found = list(differences_of("r", recorded, {"a": {"x": 2}, "b": 2}))
    assert found == [Difference("r.a.x", "1", "2"), Difference("r.a.y", "z", "absent")]
