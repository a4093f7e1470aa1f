from __future__ import annotations

import json
import shutil

import pytest

from ml_platform import Platform, lifecycle
from ml_platform.governance import verify
from tests.governance import spoiling
from tests.governance.root import model, score_march_without_sealing
from tests.governance.spoiling import HEADERS, PERSONAL, doubled, setting, without


def test_an_untouched_root_is_internally_consistent_only_and_says_how_much_was_looked_at(shared):
    report = verify(shared)
    assert report.ok
    assert report.exit_code == 0
    assert report.statement.startswith("Internally consistent only")
    assert report.counts["records"] == shared.lake.dataset("small_risk/predictions").count_rows()
    assert report.counts["partitions"] == report.counts["segments"] == 2
    assert report.counts["snapshot_rows"] > 1_000
    assert report.counts["versions"] == report.counts["artifacts"] == report.counts["evaluations"] == 1
    assert report.to_json()["verified"] is True


def test_an_older_checkpoint_and_the_platforms_identity_make_it_a_proof(shared):
    older = shared.objects.read("checkpoints/1")
    identity = shared.registry.state().genesis.platform
    report = verify(shared, since=older, genesis=identity)
    assert report.statement == "Verified: the log extends the checkpoint of 1 entries."


def test_another_identity_is_tampering(shared):
    report = verify(shared, genesis="sha256:" + "0" * 64)
    assert (report.status, report.exit_code) == ("tampered", 5)
    assert "another genesis" in report.statement


def test_the_deep_check_computes_every_score_again(shared):
    assert verify(shared, deep=True).ok


@pytest.mark.parametrize("spoil", [spoiling.rewrite_all, spoiling.through_delta])
@pytest.mark.parametrize(
    ("table", "values"),
    [
        (PERSONAL, {"output_score": 0.01}),
        (PERSONAL, {"output_score": float("nan")}),
        (PERSONAL, {"decision": "approved"}),
        (PERSONAL, {"category_purpose": None}),
        (PERSONAL, {"key_loan_id": 7}),
        (PERSONAL, {"salt": bytes(32)}),
        (HEADERS, {"version": 9}),
        (HEADERS, {"decision_of_record": False}),
        (HEADERS, {"supersedes": "01271705-ac00-8d83-9b30-b7a31a150375"}),
        (HEADERS, {"artifact_digest": "sha256:" + "0" * 64}),
        (HEADERS, {"leaf_index": 0}),
        (HEADERS, {"seq": 3}),
    ],
)
def test_one_changed_record_is_named_by_its_id(root, findings, declined, table, values, spoil):
    spoil(root, table, setting(declined, **values))
    status, places = findings(root)
    assert status == "tampered"
    assert [place for place in places if place.startswith("prediction ")] == [f"prediction {declined}"]


@pytest.mark.parametrize("tables", [(HEADERS,), (PERSONAL,), (HEADERS, PERSONAL)])
def test_a_deleted_record_is_named_by_its_id(root, findings, declined, tables):
    for table in tables:
        spoiling.through_delta(root, table, without(declined))
    status, places = findings(root)
    assert status == "tampered"
    assert f"prediction {declined}" in places


def test_a_record_deleted_everywhere_is_named_by_its_place(root, findings, declined):
    header = next(
        row for row in root.lake.read("small_risk/predictions").to_pylist() if row["prediction_id"] == declined
    )
    for table in (HEADERS, PERSONAL):
        spoiling.through_delta(root, table, without(declined))
    for path in sorted((root.root / "lake" / "index" / "entities").rglob("*.parquet")):
        spoiling.rewrite(path, without(declined))
    status, places = findings(root)
    assert status == "tampered"
    assert f"segment {header['segment_id']}, seq {header['seq']}" in places


def test_an_inserted_record_is_named_by_its_id(root, findings, declined):
    forged = declined[:-1] + ("0" if declined[-1] != "0" else "1")
    for table in (HEADERS, PERSONAL):
        spoiling.through_delta(root, table, doubled(declined, prediction_id=forged))
    status, places = findings(root)
    assert status == "tampered"
    assert f"prediction {forged}" in places
    assert f"prediction {declined}" not in places


def test_a_record_that_stands_twice_is_named(root, findings, declined):
    spoiling.through_delta(root, HEADERS, doubled(declined))
    assert findings(root) == ("tampered", [f"prediction {declined}"])


def test_a_second_decision_of_record_about_one_row_is_named(root, findings):
    again = lifecycle.score_partition(root, model(), "2010-01", supersede=_order())
    assert again.revision == 1
    assert findings(root) == ("verified", [])
    rows = root.lake.read("small_risk/predictions").to_pylist()
    second = next(row["prediction_id"] for row in rows if row["segment_id"] == again.segment_id)
    spoiling.through_delta(root, HEADERS, setting(second, decision_of_record=True, supersedes=None))
    status, places = findings(root)
    assert status == "tampered"
    assert f"prediction {second}" in places


def _order():
    from ml_platform.serving import Supersede

    return Supersede(reason="The delivery was late.")


def test_a_record_hidden_from_its_entity_is_named(root, findings, declined):
    for path in sorted((root.root / "lake" / "index" / "entities").rglob("*.parquet")):
        spoiling.rewrite(path, without(declined))
    status, places = findings(root)
    assert status == "tampered"
    assert f"index/entities, prediction {declined}" in places


def test_a_deleted_file_of_the_table_is_named(root, findings):
    gone = spoiling.files(root, HEADERS)[0]
    gone.unlink()
    status, places = findings(root)
    assert status == "tampered"
    assert any(gone.name in place for place in places)


def test_changed_counts_of_a_partition_are_named(root, findings):
    path = "batch/small_risk/2010-01/0/commit.json"
    spoiling.overwrite(root, path, root.objects.read(path).replace(b'"refused":2', b'"refused":1'))
    status, places = findings(root)
    assert status == "tampered"
    assert path in places


def test_a_partition_that_is_not_in_the_log_is_incomplete(root, findings):
    score_march_without_sealing(root)
    assert findings(root) == ("incomplete", ["batch/small_risk/2010-03/0/commit.json"])
    assert verify(root).exit_code == 10


def test_missing_leaf_hashes_are_incomplete_and_changed_ones_tampered(root, findings):
    first, second = sorted((root.root / "store" / "segments").iterdir())
    (first / "leaves.bin").unlink()
    assert findings(root) == ("incomplete", [f"segment {first.name}"])
    (second / "leaves.bin").write_bytes(bytes(32))
    assert findings(root)[0] == "tampered"


def test_one_changed_row_of_a_training_set_is_named_by_its_number(root, findings):
    def raised(rows):
        rows[17]["amount"] += 1
        return rows

    spoiling.rewrite(spoiling.snapshot_file(root), raised)
    report = verify(root)
    assert report.status == "tampered"
    assert "Row 17 is not the one that was stored." in report.statement


def test_a_swapped_artifact_is_named(root, findings):
    digest = root.registry.state().version("small_risk", 1).digests.artifact
    path = f"artifacts/{digest.removeprefix('sha256:')}.json"
    spoiling.overwrite(root, path, root.objects.read(path).replace(b"model.onnx", b"model.onny"))
    status, places = findings(root)
    assert status == "tampered"
    assert any(digest in place for place in places)


def test_a_changed_model_file_is_named(root, findings):
    from ml_platform.training import load_artifact

    digest = root.registry.state().version("small_risk", 1).digests.artifact
    native = load_artifact(root.objects, digest).parts["model.txt"]
    from ml_platform.core.digests import sha256_hex

    spoiling.overwrite(
        root, root.objects.path_of(sha256_hex(native)), native.replace(b"leaf_value=", b"leaf_value=0", 1)
    )
    status, places = findings(root)
    assert status == "tampered"
    assert any(digest in place for place in places)


def test_a_deleted_model_file_is_incomplete(root, findings):
    from ml_platform.core.digests import sha256_hex
    from ml_platform.training import load_artifact

    digest = root.registry.state().version("small_risk", 1).digests.artifact
    onnx = load_artifact(root.objects, digest).parts["model.onnx"]
    (root.root / "store" / root.objects.path_of(sha256_hex(onnx))).unlink()
    status, places = findings(root)
    assert status == "incomplete"
    assert any(digest in place for place in places)


def test_a_changed_definition_is_named(root, findings):
    spec = lifecycle.show_version(root, "small_risk", 1)["run_record"]["spec"]
    from ml_platform.governance.reading import definition, digest_of

    view = digest_of(definition(root.objects, spec)["features"][0])
    path = f"definitions/{view.removeprefix('sha256:')}.json"
    spoiling.overwrite(root, path, root.objects.read(path).replace(b"amount", b"amuont"))
    status, places = findings(root)
    assert status == "tampered"
    assert f"definitions/{view}" in places


def test_a_missing_training_set_is_incomplete(root, findings):
    shutil.rmtree(root.root / "store" / "snapshots")
    status, places = findings(root)
    assert status == "incomplete"
    assert any(place.startswith("snapshots/small_risk/") for place in places)


def test_a_changed_evaluation_table_is_named(root):
    digest = root.registry.state().version("small_risk", 1).digests.evaluation
    spoiling.overwrite(root, root.objects.path_of(json.loads(root.objects.get(digest))["table"]), b"nothing")
    report = verify(root)
    assert report.status == "tampered"
    assert report.findings[0].where == "log entry 2"


@pytest.mark.parametrize("deleted", [False, True])
def test_one_changed_or_deleted_entry_of_the_log_is_named(root, deleted):
    if deleted:
        spoiling.edit_log(root, "delete from entries where entry = 5")
    else:
        raw = json.dumps(json.loads(_raw(root, 5)) | {"recorded_at": "2026-01-01T00:00:00.000000Z"}, sort_keys=True)
        spoiling.edit_log(root, "update entries set raw = ? where entry = 5", raw.replace(" ", "").encode())
    report = _verified(root)
    assert report.status == "tampered"
    assert report.findings[0].where == "log entry 5"


def _raw(root: Platform, index: int) -> bytes:
    return root.registry.inclusion(index).raw


def _verified(root: Platform):
    """By a registry that was opened after the change, as an auditor's is."""
    from ml_platform.registry import Registry

    registry = Registry.open(root.settings.registry, root.objects)

    class Parts:
        objects, lake, subjects = root.objects, root.lake, root.subjects

    Parts.registry, Parts.root = registry, root.root
    return verify(Parts())
