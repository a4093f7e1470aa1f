from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.errors import (
    ArtifactCorrupt,
    Conflict,
    ContractViolation,
    DeclarationError,
    DuplicateKeys,
    NotFound,
    PlatformError,
    SchemaMismatch,
)
from ml_platform.core.ids import batch_id_tail, id_bytes, id_text, uuid_v8
from ml_platform.core.rows import encode_row
from ml_platform.core.subjects import salt
from ml_platform.serving import Scorer, Supersede, load_segment, load_tiles, score_partition
from ml_platform.serving.record import commitment, entity_index
from ml_platform.serving.tables import ENTITIES, SEGMENTS, section_from_row
from ml_platform.serving.workspace import workspace
from ml_platform.training.artifact import store_artifact
from tests.serving.support import CONTRACT, END, ROOT_ID, START, World, history, loans, make_world, train
from tests.serving.test_preparing import BAD, with_values

HEADERS, PERSONAL, QUARANTINE = "credit_risk/predictions", "credit_risk/predictions_personal", "credit_risk/quarantine"


def by_id(world: World, table: str) -> dict[str, dict[str, Any]]:
    return {row["prediction_id"]: row for row in world.lake.read(table).to_pylist()}


def expected_id(world: World, loan: int, at: datetime, *, version: int = 1, revision: int = 0) -> str:
    seed = world.subjects.seeds("loan", [encode_row([("i64", loan)])])[0]
    row_key = encode_row([("i64", loan), ("us", at)])
    tail = batch_id_tail(
        seed, root_id=ROOT_ID, model="credit_risk", version=version, mode="batch", role="primary",
        partition="2010-05", row_key=row_key, revision=revision,
    )  # fmt: skip
    return id_text(uuid_v8(END, tail))


def test_every_record_is_what_the_formats_say_row_by_row(world: World) -> None:
    table = with_values(loans(60), "term", {3: 60})
    result = score_partition(world.job(), world.parts(table))
    headers, personal = by_id(world, HEADERS), by_id(world, PERSONAL)
    assert (result.rows, result.accepted, len(headers), len(personal)) == (60, 60, 60, 60)
    scorer = Scorer.load(world.objects, world.artifact.digest)
    for row in table.to_pylist():
        prediction_id = expected_id(world, row["loan_id"], row["applied_at"])
        held, header = personal[prediction_id], headers[prediction_id]
        seed = world.subjects.find("loan", encode_row([("i64", row["loan_id"])]))
        assert seed is not None
        assert held["salt"] == salt(seed, "prediction", id_bytes(prediction_id))
        section = section_from_row(held, CONTRACT)
        assert header["commitment"] == commitment(held["salt"], section.to_bytes())
        assert held["request_time"] == row["applied_at"]
        assert held["number_amount"] == float(np.float32(row["amount"]))
        assert held["category_term"] == str(row["term"])
        assert ("term:unknown:flag" in held["flags"]) == (row["term"] != 36)
        matrix = np.array([[np.nan if v is None else v for v in encoded(held)]], np.float32)
        decided = scorer.decide(matrix)
        assert held["output_score"] == float(decided.outputs["score"][0])
        assert held["decision"] == decided.decision_texts[decided.decisions[0]]
        assert tuple(held["reasons"]) == decided.reasons.lists[decided.reasons.codes[0]]
        assert (held["decision"] == "declined") == (held["output_score"] > 0.5)
        assert bool(held["reasons"]) <= (held["decision"] == "declined")


def encoded(held: dict[str, Any]) -> list[float | None]:
    """The model's row from the record alone: categories by their place, a defaulted grade as B."""
    values: list[float | None] = []
    for item in CONTRACT.fields:
        value = held[f"{item.kind}_{item.name}"]
        if item.kind == "category":
            known = item.categories or ()
            value = known.index(value) if value in known else (1 if item.name == "grade" else None)
        values.append(value)
    return values


def test_leaves_tree_and_tiles_are_those_of_the_tables(world: World) -> None:
    result = score_partition(world.job(), world.parts(loans(50)))
    segment = load_segment(world.objects, str(result.segment_id))
    tree = load_tiles(world.objects, segment)
    leaves = dict(world.leaves())
    assert len(leaves) == 50
    assert all(tree.index(leaf) == index for leaf, index in leaves.items())
    assert (segment.size, segment.first_seq, segment.last_seq) == (50, 0, 49)
    ids = sorted(by_id(world, HEADERS))
    assert (segment.first_id, segment.last_id) == (ids[0], ids[-1])
    assert [by_id(world, HEADERS)[text]["seq"] for text in ids] == list(range(50))
    assert segment.counts == {"accepted": 50, "declined": result.declined, "flagged": result.flagged, "refused": 0}


def test_the_two_index_tables_lead_to_every_record(world: World) -> None:
    result = score_partition(world.job(), world.parts(loans(40)))
    rows = world.lake.read(ENTITIES).to_pylist()
    index = {row["prediction_id"]: row for row in rows}
    for row in by_id(world, PERSONAL).values():
        seed = world.subjects.find("loan", encode_row([("i64", row["key_loan_id"])]))
        assert seed is not None
        expected = entity_index(seed, model="credit_risk", month="2010-06", entity_key=None)
        found = index[row["prediction_id"]]
        assert (found["entity_index"], found["bucket"]) == (expected.hex(), expected[0])
        assert (found["month"], found["model"]) == ("2010-06", "credit_risk")
    (segment,) = world.lake.read(SEGMENTS).to_pylist()
    assert segment["root"] == result.root
    assert segment["marker"] == "batch/credit_risk/2010-05/0/commit.json"
    assert segment["predictions_version"] == result.tables[HEADERS]


def contents(world: World) -> dict[str, Any]:
    return {
        name: sorted(map(repr, world.lake.read(name).to_pylist())) for name in (HEADERS, PERSONAL, ENTITIES, SEGMENTS)
    }


def test_ids_and_hashes_lie_uncompressed_and_values_compressed(world: World) -> None:
    score_partition(world.job(), world.parts(loans(50)))
    codecs: dict[str, str] = {}
    for path in (world.root / "lake").rglob("*.parquet"):
        group = pq.ParquetFile(path).metadata.row_group(0)
        codecs |= {group.column(at).path_in_schema: group.column(at).compression for at in range(group.num_columns)}
    dense = {"prediction_id", "commitment", "salt", "entity_index"}
    assert {name for name in dense if codecs[name] == "UNCOMPRESSED"} == dense
    assert codecs["request_time"] == codecs["seq"] == "SNAPPY"
    assert [codec for name, codec in codecs.items() if name.startswith("flags.")] == ["SNAPPY"]


def test_a_complete_partition_is_not_scored_again(world: World) -> None:
    def never(contract: Contract) -> Iterable[pa.RecordBatch]:
        raise AssertionError("read again")

    first = score_partition(world.job(), world.parts(loans(30)))
    before, versions = contents(world), {name: world.lake.version(name) for name in first.tables}
    again = score_partition(world.job(version=9, artifact_digest="sha256:none"), world.parts(loans(1), rows=never))
    assert again == first
    assert contents(world) == before
    assert {name: world.lake.version(name) for name in first.tables} == versions


@pytest.mark.parametrize("chunk_rows", [7, 64, 1000])
def test_leaves_depend_neither_on_the_order_of_rows_nor_on_chunks(
    tmp_path: Path, artifact_parts: dict[str, bytes], chunk_rows: int
) -> None:
    table = with_values(loans(300), "grade", {5: "Z"})
    order = np.random.default_rng(4).permutation(300)
    found = []
    for number, rows in enumerate((table, table.take(pa.array(order)))):
        world = make_world(tmp_path / str(number), artifact_parts)
        intent = {"writer": "batch-" + "0" * 32}
        score_with_writer(world, rows, intent["writer"], chunk_rows=300 if number == 0 else chunk_rows)
        found.append((sorted(world.leaves()), world.lake.read(QUARANTINE).to_pylist()))
    assert found[0] == found[1]


def score_with_writer(world: World, table: pa.Table, writer: str, **changes: Any) -> None:
    """A run that finds an intent of another one."""
    from ml_platform.serving.batch import _proposed
    from ml_platform.serving.intent import claim

    job = world.job(**changes)
    claim(world.objects, replace(_proposed(job, 0), writer=writer))
    score_partition(job, world.parts(table))


def test_an_unfinished_partition_keeps_the_version_and_times_that_it_began_with(world: World) -> None:
    with pytest.raises(SchemaMismatch):
        score_partition(world.job(), world.parts(loans(5).drop_columns(["income"])))
    newer = store_artifact(world.objects, train(rounds=3)).digest
    later = world.job(version=2, artifact_digest=newer, decided_at=END + timedelta(days=3))
    result = score_partition(later, world.parts(loans(5)))
    assert (result.version, result.artifact_digest) == (1, world.artifact.digest)
    assert {row["decided_at"] for row in by_id(world, HEADERS).values()} == {END}


def test_a_partition_that_began_with_another_window_is_a_conflict(world: World) -> None:
    with pytest.raises(SchemaMismatch):
        score_partition(world.job(), world.parts(BAD["missing"](loans(3))))
    with pytest.raises(Conflict, match="another value"):
        score_partition(world.job(start=START - timedelta(days=1)), world.parts(loans(3)))


def test_refused_rows_go_to_quarantine_with_field_and_rule_and_no_value(world: World) -> None:
    table = with_values(with_values(loans(40), "grade", {3: "SECRET"}), "amount", {3: -5.0, 9: float("inf")})
    result = score_partition(world.job(), world.parts(table))
    assert (result.rows, result.accepted, result.refused) == (40, 38, 2)
    assert result.refusals == {"amount": {"finite": 1, "range": 1}, "grade": {"unknown": 1}}
    rows = world.lake.read(QUARANTINE).to_pylist()
    assert sorted((row["field"], row["rule"]) for row in rows) == [
        ("amount", "finite"),
        ("amount", "range"),
        ("grade", "unknown"),
    ]
    assert "SECRET" not in repr(rows)
    assert world.subjects.find("loan", encode_row([("i64", 3)])) is None
    at = table.column("applied_at")[3].as_py()
    found = world.reader.find_refusals(world.subjects, model="credit_risk", entity="loan", key=(("i64", 3),), at=at)
    assert {row["field"] for row in found} == {"amount", "grade"}
    assert not world.reader.find_refusals(world.subjects, model="credit_risk", entity="loan", key=(("i64", 4),), at=at)


def nothing_written(world: World) -> bool:
    return not any(world.lake.exists(name) for name in (HEADERS, PERSONAL, ENTITIES, SEGMENTS, QUARANTINE))


@pytest.mark.parametrize(("rows", "bad", "share", "passes"), [
    (100, 11, 0.05, False), (100, 10, 0.05, True), (220, 11, 0.05, True), (219, 11, 0.05, False), (20, 20, 1.0, True),
])  # fmt: skip
def test_too_many_refused_rows_fail_the_partition_before_anything_is_written(
    world: World, rows: int, bad: int, share: float, passes: bool
) -> None:
    table = with_values(loans(rows), "grade", dict.fromkeys(range(bad), "Z"))
    job = world.job(max_refused_share=share)
    if passes:
        assert score_partition(job, world.parts(table)).refused == bad
        return
    with pytest.raises(ContractViolation, match=f"{bad} of {rows} rows .*grade unknown {bad}"):
        score_partition(job, world.parts(table))
    assert nothing_written(world)


@pytest.mark.parametrize("chunk_rows", [4, 100])
@pytest.mark.parametrize("refused", [False, True])
def test_a_row_that_stands_twice_fails_the_partition(world: World, chunk_rows: int, refused: bool) -> None:
    table = loans(20)
    double = with_values(table.slice(2, 1), "grade", {0: "Z"} if refused else {0: "A"})
    with pytest.raises(DuplicateKeys, match="1 rows"):
        score_partition(world.job(chunk_rows=chunk_rows), world.parts(pa.concat_tables([table, double])))
    assert nothing_written(world)


def test_the_same_loan_at_two_request_times_is_two_decisions(world: World) -> None:
    table = loans(2)
    later = with_values(table, "applied_at", {0: int(START.timestamp()) * 1_000_000 + 5})
    both = pa.concat_tables([table.slice(0, 1), later.slice(0, 1)])
    assert score_partition(world.job(), world.parts(both)).accepted == 2


@pytest.mark.parametrize("batches", [[], [loans(3).slice(0, 0)]], ids=["no batch", "an empty batch"])
def test_an_empty_window_is_complete_with_a_marker_and_no_segment(world: World, batches: list[pa.Table]) -> None:
    result = score_partition(world.job(), world.parts(loans(0), rows=lambda contract: batches))
    assert (result.rows, result.accepted, result.segment_id, result.root) == (0, 0, None, None)
    assert nothing_written(world)
    assert score_partition(world.job(), world.parts(loans(5))) == result


def test_a_window_of_refused_rows_only_has_quarantine_and_no_segment(world: World) -> None:
    table = with_values(loans(3), "grade", dict.fromkeys(range(3), "Z"))
    result = score_partition(world.job(), world.parts(table))
    assert (result.accepted, result.refused, result.segment_id) == (0, 3, None)
    assert world.lake.read(QUARANTINE).num_rows == 3
    assert not world.lake.exists(HEADERS)


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_delivery_writes_nothing_and_the_right_one_completes(world: World, name: str) -> None:
    with pytest.raises(PlatformError):
        score_partition(world.job(), world.parts(BAD[name](loans(10))))
    assert nothing_written(world)
    assert score_partition(world.job(), world.parts(loans(10))).accepted == 10


def test_a_column_that_changes_between_batches_is_found(world: World) -> None:
    good, bad = loans(4), BAD["text for number"](loans(4, start=4))
    with pytest.raises(SchemaMismatch):
        score_partition(world.job(), world.parts(good, rows=lambda contract: [good, bad]))
    assert nothing_written(world)


def test_superseding_appends_a_revision_that_names_what_it_follows(world: World) -> None:
    first = score_partition(world.job(), world.parts(loans(25).slice(0, 20)))
    newer = store_artifact(world.objects, train(rounds=3)).digest
    later = END + timedelta(days=9)
    job = world.job(version=2, artifact_digest=newer, decided_at=later, supersede=Supersede("version 1 was wrong"))
    again = score_partition(job, world.parts(loans(25)))
    assert (again.revision, again.version, again.decision_of_record, first.revision) == (1, 2, False, 0)
    headers, personal = by_id(world, HEADERS), by_id(world, PERSONAL)
    assert len(headers) == 45
    for prediction_id, header in headers.items():
        loan = personal[prediction_id]["key_loan_id"]
        if header["version"] == 1:
            assert (header["supersedes"], header["decision_of_record"]) == (None, True)
        else:
            earlier = expected_id(world, loan, personal[prediction_id]["request_time"]) if loan < 20 else None
            assert (header["supersedes"], header["decision_of_record"]) == (earlier, False)
    tree = load_tiles(world.objects, load_segment(world.objects, str(again.segment_id)))
    leaves = [leaf for leaf, _ in world.leaves()]
    assert sum(leaf in set(split(tree.leaves)) for leaf in leaves) == 25
    assert score_partition(world.job(), world.parts(loans(1))) == again


def split(raw: bytes) -> list[bytes]:
    return [raw[at : at + 32] for at in range(0, len(raw), 32)]


def test_superseding_needs_something_to_supersede_and_a_reason(world: World) -> None:
    with pytest.raises(NotFound):
        score_partition(world.job(supersede=Supersede("why not")), world.parts(loans(3)))
    with pytest.raises(DeclarationError):
        Supersede("  ")


def test_an_order_to_supersede_an_unfinished_partition_finishes_it_first(world: World) -> None:
    with pytest.raises(SchemaMismatch):
        score_partition(world.job(), world.parts(BAD["missing"](loans(3))))
    result = score_partition(world.job(supersede=Supersede("again")), world.parts(loans(3)))
    assert (result.revision, result.decision_of_record) == (0, True)


def test_two_runs_at_once_are_one(world: World) -> None:
    with (
        workspace(world.root / "scratch" / "credit_risk" / "2010-05"),
        pytest.raises(Conflict, match="Another process"),
    ):
        score_partition(world.job(), world.parts(loans(3)))
    assert score_partition(world.job(), world.parts(loans(3))).accepted == 3


def test_the_scratch_folder_is_empty_afterwards_whatever_happened(world: World) -> None:
    with pytest.raises(DuplicateKeys):
        score_partition(world.job(chunk_rows=2), world.parts(pa.concat_tables([loans(9), loans(9).slice(0, 1)])))
    score_partition(world.job(chunk_rows=2), world.parts(loans(9)))
    left = [path.name for path in (world.root / "scratch").rglob("*") if path.is_file()]
    assert left == ["lock"]


def test_leaves_survive_compaction_and_a_version_with_another_feature(world: World) -> None:
    score_partition(world.job(), world.parts(loans(20)))
    wider = replace(
        CONTRACT,
        fields=(*CONTRACT.fields, ResolvedField("age", "application@sha256:00:age", "input", "number", "int64")),
    )
    artifact = store_artifact(world.objects, train(wider))
    table = loans(20).append_column("age", pa.array(range(20), pa.int64()))
    june = {"partition": "2010-06", "start": START, "end": END, "version": 2, "artifact_digest": artifact.digest}
    score_partition(world.job(**june), world.parts(table))
    before = leaves_of_both(world, wider)
    compact(world)
    assert leaves_of_both(world, wider) == before
    assert len(before) == 40
    prediction_id = sorted(by_id(world, HEADERS))[3]
    assert world.reader.find(prediction_id).personal is not None


def leaves_of_both(world: World, wider: Contract) -> set[tuple[bytes, int]]:
    from ml_platform.serving.tables import leaf_from_rows

    personal = by_id(world, PERSONAL)
    return {
        (
            leaf_from_rows(row, personal[key], wider if row["contract_digest"] == wider.digest else CONTRACT),
            row["leaf_index"],
        )
        for key, row in by_id(world, HEADERS).items()
    }


def compact(world: World) -> None:
    for name in (HEADERS, PERSONAL, ENTITIES, SEGMENTS):
        table = world.lake.table(name)
        table.optimize.compact()
        assert len(table.file_uris()) == 1


def test_a_feature_may_change_its_kind_between_versions(world: World) -> None:
    score_partition(world.job(), world.parts(loans(8)))
    fields = tuple(
        replace(item, kind="number", type="float64", categories=None, on_unknown="reject")
        if item.name == "term"
        else item
        for item in CONTRACT.fields
    )
    other = replace(CONTRACT, fields=fields)
    artifact = store_artifact(world.objects, train(other))
    score_partition(world.job(partition="again", version=2, artifact_digest=artifact.digest), world.parts(loans(8)))
    assert len(leaves_of_both(world, other)) == 16


def test_an_entity_that_is_not_personal_shares_one_seed_and_is_found_by_its_key(world: World) -> None:
    score_partition(world.job(personal=False), world.parts(loans(30)))
    assert world.subjects.find("loan", encode_row([("i64", 4)])) is None
    found = world.reader.find_by_entity(
        world.subjects, model="credit_risk", entity="loan", personal=False, key=(("i64", 4),)
    )
    assert [world.reader.find(text).personal["key_loan_id"] for text in found] == [4]  # type: ignore[index]
    assert len(list(world.leaves())) == 30


def test_a_corrupt_artifact_is_not_loaded_and_nothing_is_written(world: World) -> None:
    for name in world.artifact.parts:
        world_parts = world.objects
        path = world.root / "objects" / world_parts.path_of(_sha(world.artifact.parts[name]))
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(ArtifactCorrupt):
            score_partition(world.job(), world.parts(loans(3)))
        path.write_bytes(good)
    assert nothing_written(world)


def _sha(raw: bytes) -> str:
    from ml_platform.core.digests import sha256_hex

    return sha256_hex(raw)


def test_an_unknown_artifact_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        score_partition(world.job(artifact_digest="sha256:" + "0" * 64), world.parts(loans(3)))


@pytest.mark.parametrize(
    "change",
    [
        {"partition": "../up"},
        {"partition": ""},
        {"model": "Bad Name"},
        {"start": END},
        {"decided_at": END - timedelta(microseconds=1)},
        {"max_refused_share": 1.5},
        {"chunk_rows": 0},
    ],
    ids=repr,
)
def test_an_impossible_job_is_refused_when_it_is_built(world: World, change: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError):
        world.job(**change)


def test_a_window_in_another_zone_is_the_same_window(world: World) -> None:
    from datetime import timezone

    zone = timezone(timedelta(hours=5))
    result = score_partition(world.job(end=END.astimezone(zone)), world.parts(loans(3)))
    held = json.loads(world.objects.read("batch/credit_risk/2010-05/0/intent.json"))
    assert (result.accepted, held["end"]) == (3, "2010-06-01T00:00:00.000000Z")
    assert held["decided_at"] == datetime(2010, 6, 1, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert history(CONTRACT, loans(1)).num_rows == 1
