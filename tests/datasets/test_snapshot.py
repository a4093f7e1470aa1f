from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.digests import canonical_json, document_digest, keyed
from ml_platform.core.errors import (
    ArtifactCorrupt,
    Conflict,
    DataError,
    DeclarationError,
    DuplicateKeys,
    NotFound,
    Tampered,
)
from ml_platform.core.merkle import root
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import encode_row
from ml_platform.core.subjects import Subjects, salt
from ml_platform.datasets import (
    Inputs,
    MembershipProof,
    SourceInput,
    prove_membership,
    read_snapshot,
    verify_membership,
    verify_snapshot,
)
from ml_platform.datasets.leaves import LEFT_OUT_TAG, ROW_NOUN, ROW_TAG, LeafRule, Leaves, row_leaf
from ml_platform.datasets.snapshot import LEFT_OUT, seeds_of
from tests.datasets.loans import at
from tests.datasets.snapshots import PATH, build, inputs, requests, seeds, write

RULE = LeafRule(ROW_TAG, ROW_NOUN, ("loan_id",), "applied_at")


@pytest.fixture
def objects(tmp_path):
    return ObjectStore(tmp_path / "objects")


@pytest.fixture(scope="module")
def training_set():
    return build()


def overwrite(objects, name, raw):
    from pathlib import Path

    (Path(objects.url) / PATH / name).write_bytes(raw)


def parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def test_the_digest_is_the_root_over_sorted_salted_leaves_as_the_format_says(objects, training_set):
    snapshot = write(objects, training_set)
    leaves = []
    types = dict(training_set.parts["columns"])
    for row in training_set.table.to_pylist():
        (seed,) = seeds("loan", [encode_row([("i64", row["loan_id"])])])
        row_key = encode_row([("i64", row["loan_id"]), ("us", row["applied_at"])])
        raw = encode_row([(types[name], value) for name, value in row.items()])
        leaves.append(row_leaf("ml-platform/training-leaf/1", salt(seed, "training_row", row_key), raw))
    assert snapshot.digest == "sha256:" + root(sorted(leaves)).hex()
    assert objects.read(f"{PATH}/leaves.bin") == b"".join(sorted(leaves))
    left_out = []
    for row in training_set.left_out.to_pylist():
        (seed,) = seeds("loan", [encode_row([("i64", row["loan_id"])])])
        row_key = encode_row([("i64", row["loan_id"]), ("us", row["applied_at"])])
        raw = encode_row([("i64", row["loan_id"]), ("us", row["applied_at"]), ("text", row["reason"])])
        left_out.append(row_leaf("ml-platform/left-out-leaf/1", salt(seed, "left_out_row", row_key), raw))
    assert snapshot.manifest["left_out"]["root"] == "sha256:" + root(sorted(left_out)).hex()


def test_a_stored_snapshot_is_read_back_and_verified(objects, training_set):
    snapshot = write(objects, training_set)
    again = read_snapshot(objects, PATH)
    assert again == snapshot
    assert again.manifest_digest == snapshot.manifest_digest
    assert again.rows == training_set.table.num_rows
    assert again.read(objects).equals(training_set.table)
    assert again.read(objects, LEFT_OUT).equals(training_set.left_out)
    opened = verify_snapshot(objects, again, seeds=seeds)
    assert (opened.rows, opened.left_out, opened.erased) == (again.rows, training_set.left_out.num_rows, 0)


def test_the_manifest_is_canonical_and_says_format_time_sources_and_features(objects, training_set):
    snapshot = write(objects, training_set)
    raw = objects.read(f"{PATH}/manifest.json")
    assert raw == canonical_json(json.loads(raw))
    manifest = json.loads(raw)
    assert manifest["format"] == "ml-platform/training-set/1"
    assert manifest["as_of"] == "2012-01-01T00:00:00.000000Z"
    assert manifest["sources"]["applications"]["table_version"] == 3
    assert manifest["sources"]["applications"]["location"] == "lake/applications"
    assert list(manifest["features"].values()) == [0]
    assert manifest["known_times"]["outcomes"] == {"column": "known_at"}
    assert "candidate" not in manifest
    assert manifest["digest"] == snapshot.digest


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
    st.integers(1, 30),
    st.permutations(range(40)),
)
def test_the_digest_ignores_chunks_dictionaries_row_groups_and_row_order(
    training_set, cut, dictionary, large, group, order
):
    table = training_set.table
    expected = Leaves.of(RULE.leaves(table, seeds_of(table, RULE, training_set.parts["entity"], seeds))).digest
    shape = table
    place = table.column_names.index("purpose")
    if large:
        shape = shape.set_column(place, "purpose", shape.column("purpose").cast(pa.large_string()))
    if dictionary:
        shape = shape.set_column(place, "purpose", shape.column("purpose").dictionary_encode())
    assert shape.column_names == table.column_names
    shape = shape.take(pa.array([row for row in order if row < shape.num_rows]))
    shape = pa.concat_tables([shape.slice(0, cut), shape.slice(cut)], promote_options="default")
    sink = pa.BufferOutputStream()
    pq.write_table(shape, sink, row_group_size=group)
    for threads in (False, True):
        read = pq.read_table(pa.BufferReader(sink.getvalue()), use_threads=threads)
        found = RULE.leaves(read, seeds_of(read, RULE, training_set.parts["entity"], seeds))
        assert Leaves.of(found).digest == expected


def test_every_value_every_column_name_order_and_seed_counts(training_set):
    table = training_set.table.slice(0, 4)
    mine = seeds_of(table, RULE, training_set.parts["entity"], seeds)
    digest = Leaves.of(RULE.leaves(table, mine)).digest
    changed = [table.set_column(i, table.column_names[i], nudged(table, i)) for i in range(table.num_columns) if i != 0]
    digests = [Leaves.of(RULE.leaves(one, mine)).digest for one in changed]
    digests.append(Leaves.of(RULE.leaves(table.select(table.column_names[::-1]), mine)).digest)
    digests.append(Leaves.of(RULE.leaves(table, [bytes(32)] * 4)).digest)
    digests.append(Leaves.of(RULE.leaves(table.slice(1), mine[1:])).digest)
    digests.append(Leaves.of(LeafRule(LEFT_OUT_TAG, ROW_NOUN, ("loan_id",), "applied_at").leaves(table, mine)).digest)
    digests.append(Leaves.of(LeafRule(ROW_TAG, "other", ("loan_id",), "applied_at").leaves(table, mine)).digest)
    assert len({digest, *digests}) == len(digests) + 1


def nudged(table, position):
    column = table.column(position)
    values = column.to_pylist()
    changed = {
        "string": lambda one: f"{one}x",
        "float": lambda one: float(np.nextafter(np.float32(one or 0.0), np.float32(np.inf))),
        "int64": lambda one: (one or 0) + 1,
    }.get(str(column.type), lambda one: one.replace(microsecond=1))
    values[2] = changed(values[2])
    return pa.array(values, column.type)


def test_writing_the_same_again_changes_nothing(objects, training_set):
    first = write(objects, training_set)
    before = {path: objects.read(path) for path in objects.list(PATH)}
    assert write(objects, build()) == first
    assert {path: objects.read(path) for path in objects.list(PATH)} == before
    assert sorted(before) == [
        f"{PATH}/{name}"
        for name in ("data.parquet", "leaves.bin", "left_out.parquet", "left_out_leaves.bin", "manifest.json")
    ]


@pytest.mark.parametrize("other", ["rows", "version", "seeds"])
def test_another_training_set_at_the_same_path_is_a_conflict_and_changes_nothing(objects, training_set, other):
    write(objects, training_set)
    before = {path: objects.read(path) for path in objects.list(PATH)}
    changes = {
        "rows": {"training_set": build(rows=requests(39))},
        "version": {"inputs": inputs(version=4)},
        "seeds": {"seeds": lambda entity, keys: [bytes(32)] * len(keys)},
    }[other]
    with pytest.raises(Conflict, match="it was not changed"):
        write(objects, **{"training_set": training_set, **changes})
    assert {path: objects.read(path) for path in objects.list(PATH)} == before


@pytest.mark.parametrize("stop_after", range(5))
def test_a_run_that_was_cut_short_leaves_no_snapshot_and_the_next_completes_it(objects, training_set, stop_after):
    class Full(ObjectStore):
        left = stop_after

        def create(self, path, raw):
            if not self.left:
                raise OSError("no space")
            self.left -= 1
            return super().create(path, raw)

    with pytest.raises(OSError, match="no space"):
        write(Full(objects.url), training_set)
    with pytest.raises(NotFound):
        read_snapshot(objects, PATH)
    snapshot = write(objects, training_set)
    verify_snapshot(objects, snapshot, seeds=seeds)


def test_left_over_rows_of_another_writer_version_are_kept_and_other_rows_refused(objects, training_set):
    objects.create(f"{PATH}/data.parquet", parquet(training_set.table))
    assert verify_snapshot(objects, write(objects, training_set), seeds=seeds).rows == training_set.table.num_rows


@pytest.mark.parametrize("raw", [b"not parquet", "other"])
def test_left_over_files_with_other_rows_are_a_conflict(objects, training_set, raw):
    objects.create(f"{PATH}/data.parquet", parquet(training_set.table.slice(1)) if raw == "other" else raw)
    with pytest.raises(Conflict):
        write(objects, training_set)


@pytest.mark.parametrize("which", ["data.parquet", "left_out.parquet"])
def test_a_changed_row_is_named(objects, training_set, which):
    snapshot = write(objects, training_set)
    table = training_set.table if which == "data.parquet" else training_set.left_out
    name = "amount" if which == "data.parquet" else "reason"
    position = table.column_names.index(name)
    values = table.column(name).to_pylist()
    values[2] = 123.5 if name == "amount" else "gap"
    overwrite(
        objects, which, parquet(table.set_column(position, name, pa.array(values, table.schema.field(name).type)))
    )
    with pytest.raises(Tampered, match=r"Row 2 |manifest says"):
        verify_snapshot(objects, snapshot, seeds=seeds)


def test_rows_removed_added_doubled_or_moved_are_found(objects, training_set):
    snapshot = write(objects, training_set)
    table = training_set.table
    removed_and_doubled = pa.concat_tables([table.slice(0, 1), table.slice(0, 1), table.slice(2)])
    # Two training rows that swap places: same leaves, same counts, another order for the trainer.
    moved = table.take(pa.array([1, 0, *range(2, table.num_rows)]))
    for changed, said in [
        (table.slice(1), "manifest says"),
        (pa.concat_tables([table, table.slice(0, 1)]), "manifest says"),
        (removed_and_doubled, "cannot have been stored"),
        (moved, "training order"),
    ]:
        overwrite(objects, "data.parquet", parquet(changed))
        with pytest.raises(Tampered, match=said):
            verify_snapshot(objects, snapshot, seeds=seeds)


def test_a_changed_column_is_found(objects, training_set):
    snapshot = write(objects, training_set)
    assert training_set.table.column_names[2:4] == ["amount", "purpose"]  # these two swap their names
    for changed in [
        training_set.table.drop_columns(["rate"]),
        training_set.table.rename_columns(
            ["loan_id", "applied_at", "purpose", "amount", *training_set.table.column_names[4:]]
        ),
    ]:
        overwrite(objects, "data.parquet", parquet(changed))
        with pytest.raises(Tampered, match="columns are not those"):
            verify_snapshot(objects, snapshot, seeds=seeds)


def test_a_damaged_file_is_corrupt(objects, training_set):
    snapshot = write(objects, training_set)
    leaves = objects.read(f"{PATH}/leaves.bin")
    for name, raw in [
        ("leaves.bin", leaves[:-1]),
        ("leaves.bin", leaves[32:] + leaves[:32]),
        ("leaves.bin", leaves[32:]),
    ]:
        overwrite(objects, name, raw)
        with pytest.raises(ArtifactCorrupt, match="leaves"):
            verify_snapshot(objects, snapshot, seeds=seeds)
    overwrite(objects, "data.parquet", b"PAR1")
    with pytest.raises(ArtifactCorrupt, match=r"data\.parquet"):
        verify_snapshot(objects, snapshot, seeds=seeds)
    for raw in (b"{", b'{"format":"other"}', b'{ "format": "ml-platform/training-set/1" }', b"[]"):
        overwrite(objects, "manifest.json", raw)
        with pytest.raises(ArtifactCorrupt, match="manifest"):
            read_snapshot(objects, PATH)


def test_every_row_is_proven_and_a_changed_proof_is_not(objects, training_set):
    snapshot = write(objects, training_set)
    for row in training_set.table.to_pylist():
        proof = prove_membership(objects, snapshot, {"loan_id": row["loan_id"]}, seeds=seeds)
        assert verify_membership(proof, snapshot.digest, snapshot.rows)
        assert verify_membership(
            MembershipProof.from_json(json.loads(json.dumps(proof.to_json()))), snapshot.digest, snapshot.rows
        )
    document = proof.to_json()
    for name, value in [
        ("salt", "00" * 32),
        ("row", document["row"][:-2] + "ff"),
        ("index", document["index"] - 1),
        ("size", document["size"] + 1),
        ("path", document["path"][:-1]),
        ("tag", "ml-platform/left-out-leaf/1"),
    ]:
        assert not verify_membership(
            MembershipProof.from_json({**document, name: value}), snapshot.digest, snapshot.rows
        )
    assert not verify_membership(proof, snapshot.manifest["left_out"]["root"], snapshot.rows)
    assert not verify_membership(proof, snapshot.digest, snapshot.rows + 1)
    for digest in ("sha256:00", "nonsense", "sha512:" + snapshot.digest[7:], snapshot.digest[7:]):
        assert not verify_membership(proof, digest, snapshot.rows)


def test_a_row_left_out_is_proven_with_its_reason(objects, training_set):
    snapshot = write(objects, training_set)
    row = training_set.left_out.to_pylist()[0]
    where = {"loan_id": row["loan_id"], "applied_at": row["applied_at"]}
    proof = prove_membership(objects, snapshot, where, seeds=seeds, which=LEFT_OUT)
    left_out = snapshot.manifest["left_out"]
    assert verify_membership(proof, left_out["root"], left_out["rows"])
    assert b"immature" in proof.row


def test_a_proof_survives_the_loss_of_everything_but_its_leaves(objects, training_set):
    snapshot = write(objects, training_set)
    proof = prove_membership(objects, snapshot, {"loan_id": 3}, seeds=seeds)
    assert proof.index == snapshot.read_leaves(objects).hashes().index(row_leaf(proof.tag, proof.salt, proof.row))


def test_unknown_and_changed_rows_are_not_proven(objects, training_set):
    snapshot = write(objects, training_set)
    with pytest.raises(NotFound):
        prove_membership(objects, snapshot, {"loan_id": 3, "applied_at": at("2010-01-01")}, seeds=seeds)
    with pytest.raises(DataError, match="Several rows"):
        prove_membership(objects, snapshot, {"purpose": "car"}, seeds=seeds)
    with pytest.raises(NotFound, match="erased"):
        prove_membership(objects, snapshot, {"loan_id": 3}, seeds=lambda entity, keys: [None] * len(keys))
    with pytest.raises(Tampered):
        prove_membership(objects, snapshot, {"loan_id": 3}, seeds=lambda entity, keys: [bytes(32)] * len(keys))


def test_rows_without_a_seed_must_be_recorded_as_erased(objects, training_set):
    snapshot = write(objects, training_set)
    gone = encode_row([("i64", 3)])

    def after_erasure(entity, keys):
        return [None if key == gone else seed for key, seed in zip(keys, seeds(entity, keys), strict=True)]

    with pytest.raises(Tampered, match="1 rows have no seed, the first is row 3; 0 are recorded"):
        verify_snapshot(objects, snapshot, seeds=after_erasure)
    opened = verify_snapshot(objects, snapshot, seeds=after_erasure, erased=1)
    assert (opened.rows, opened.erased) == (training_set.table.num_rows, 1)
    with pytest.raises(Tampered, match="1 are recorded"):
        verify_snapshot(objects, snapshot, seeds=seeds, erased=1)


def test_a_subject_without_seed_is_not_written(objects, training_set):
    with pytest.raises(DataError, match="without a seed"):
        write(objects, training_set, seeds=lambda entity, keys: [None] * len(keys))
    assert objects.list(PATH) == []


def test_real_seeds_give_the_same_digest_on_every_machine_with_the_same_root_seed(objects, training_set, tmp_path):
    one, other, third = (
        write(ObjectStore(tmp_path / name), training_set, seeds=Subjects(tmp_path / f"{name}.db", root_seed=seed).seeds)
        for name, seed in [("a", b"1" * 32), ("b", b"1" * 32), ("c", b"2" * 32)]
    )
    assert one.digest == other.digest != third.digest
    assert one.manifest_digest == other.manifest_digest


def test_an_entity_that_is_not_personal_has_one_seed(training_set):
    asked = []

    def source(entity, keys):
        asked.append((entity, list(keys)))
        return [bytes(32)]

    found = seeds_of(training_set.table, RULE, {"name": "market", "keys": ["loan_id"], "personal": False}, source)
    assert found == [bytes(32)] * training_set.table.num_rows
    assert asked == [("market", [b""])]


def test_duplicate_rows_and_leaves_are_refused(training_set):
    doubled = pa.concat_tables([training_set.table, training_set.table.slice(0, 1)])
    with pytest.raises(DuplicateKeys, match="same key and time"):
        RULE.leaves(doubled, [bytes(32)] * doubled.num_rows)
    with pytest.raises(DuplicateKeys, match="leaves are equal"):
        Leaves.of([bytes(32), bytes(32)])
    with pytest.raises(DataError, match="not sorted"):
        Leaves(bytes(64))
    with pytest.raises(DataError, match="one seed a row"):
        RULE.leaves(training_set.table, [])


@pytest.mark.parametrize("change", ["source", "feature", "more"])
def test_the_inputs_must_be_those_of_the_training_set(objects, training_set, change):
    given = inputs(training_set.spec)
    wrong = {
        "source": Inputs({"applications": given.sources["applications"]}, given.features),
        "feature": Inputs(given.sources, {}),
        "more": Inputs(given.sources, {**given.features, "other@sha256:00": 1}),
    }[change]
    with pytest.raises(DeclarationError):
        write(objects, training_set, inputs=wrong)
    extra = SourceInput("sha256:00", None, "elsewhere")
    assert write(objects, training_set, inputs=Inputs({**given.sources, "rates": extra}, given.features))


def test_another_document_is_no_proof():
    for document in ({}, {"format": "ml-platform/membership/1"}, {"format": "other"}):
        with pytest.raises(DataError, match="no proof"):
            MembershipProof.from_json(document)


GOLDEN_SEED = bytes(range(32))
GOLDEN_ROW_KEY = encode_row([("i64", 42), ("us", 1_264_939_200_123_456)])
GOLDEN_SALT = keyed(GOLDEN_SEED, "ml-platform/salt/1", ("text", "training_row"), ("bytes", GOLDEN_ROW_KEY))
GOLDEN_ROW = encode_row(
    [
        ("i64", 42),
        ("us", 1_264_939_200_123_456),
        ("f32", 0.5),
        ("f32", None),
        ("text", "36"),
        ("i64", 1),
        ("us", 1_296_475_200_123_456),
        ("text", "train"),
    ]
)
COMPUTED = {
    "salt": GOLDEN_SALT.hex(),
    "training-leaf/1": row_leaf(ROW_TAG, GOLDEN_SALT, GOLDEN_ROW).hex(),
    "left-out-leaf/1": row_leaf(
        LEFT_OUT_TAG,
        salt(GOLDEN_SEED, "left_out_row", GOLDEN_ROW_KEY),
        encode_row([("i64", 42), ("us", 1_264_939_200_123_456), ("text", "immature")]),
    ).hex(),
    "snapshot-digest": Leaves.of([bytes([2]) * 32, bytes([1]) * 32, bytes([3]) * 32]).digest,
    "training-set/1": document_digest("training-set", {"format": "ml-platform/training-set/1", "rows": 0}),
}
GOLDEN = {
    "salt": "4072a030074d62fbc4e185d95716018777abc13ca570324e22943ac01ea44433",
    "training-leaf/1": "fc0107d5bf7ab97bde51e408f1252202c40b187020c0c529b42f8bd748fd67d0",
    "left-out-leaf/1": "0050563227cffe7ed7545412ed3ac7f98d49660088e90d0193566834d7b11ed4",
    "snapshot-digest": "sha256:30a02c023aa9f351be86615ceedfd51bc34d9a2a003174b4132ea26e5c2d0417",
    "training-set/1": "sha256:4bfb057a999ef2d48941b53a1bacb111780904c8f8518ceb2be4d877cb770eac",
}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_golden_bytes_never_change(name):
    assert COMPUTED[name] == GOLDEN[name]
