"""The sealer: every logged decision lands in the lake and the audit log once, and what is missing is never passed over."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_platform.core.errors import Conflict, NotFound, Tampered
from ml_platform.core.ids import id_text
from ml_platform.serving import online_segments
from ml_platform.serving.online_plan import read_plan
from ml_platform.serving.online_record import encode_decision
from ml_platform.serving.record import SUBJECT_ROLE, commitment, entity_index, record_leaf
from ml_platform.serving.tables import leaf_from_rows
from ml_platform.serving.wal import frame, wal_folder
from tests.serving.online_support import (
    MODEL,
    NOON,
    WALL,
    WRITER,
    OnlineWorld,
    decisions,
    log_all,
    make_online,
    open_log,
    payloads,
    refusal,
    sealer,
)
from tests.serving.support import CONTRACT

OTHER = "router-" + "cd" * 16


@pytest.fixture
def online(tmp_path: Path, artifact_parts: dict[str, bytes]) -> OnlineWorld:
    return make_online(tmp_path / "root", artifact_parts)


def left(online: OnlineWorld) -> list[str]:
    return sorted(str(path.relative_to(online.root / "wal")) for path in (online.root / "wal").rglob("*"))


def test_a_dead_writers_records_are_sealed_and_proven_and_its_folder_is_gone(online: OnlineWorld) -> None:
    made = decisions(online, 60)
    log_all(online, made, files=3)
    report = sealer(online).run()
    assert (report.records, report.adopted, report.closed) == (60, [WRITER], [WRITER])
    assert report.segments == [f"{WRITER}.0"]
    assert online.proven() == 60
    (sealed,) = online.sealed()
    assert (sealed["first_seq"], sealed["last_seq"], sealed["size"]) == (0, 59, 60)
    assert sealed["counts"] == {
        "accepted": 60,
        "declined": sum(one.section.decision == "declined" for one in made),
        "flagged": sum(bool(one.section.flags) for one in made),
        "refused": 0,
    }
    assert online.log.state().writers[WRITER].closed
    assert left(online) == [MODEL, "seal.lock"]


def test_the_rows_are_those_that_were_logged(online: OnlineWorld) -> None:
    made = decisions(online, 30)
    log_all(online, made)
    sealer(online).run()
    for one in made:
        found = online.world.reader.find(id_text(one.header.prediction_id))
        committed = commitment(one.salt, one.section.to_bytes())
        leaf = record_leaf(one.header.to_bytes(), [(SUBJECT_ROLE, committed)])
        assert found.leaf(CONTRACT) == leaf
        assert found.personal is not None
        assert leaf_from_rows(found.header, found.personal, CONTRACT) == leaf


def test_a_sealed_decision_is_found_by_its_entity(online: OnlineWorld) -> None:
    made = decisions(online, 20)
    log_all(online, made)
    sealer(online).run()
    one = made[7]
    found = online.world.reader.find_by_entity(
        online.world.subjects, model=MODEL, entity="loan", personal=True, key=one.section.keys
    )
    assert found == [id_text(one.header.prediction_id)]
    rows = online.world.lake.read("index/entities").to_pylist()
    from ml_platform.core.rows import encode_row

    seed = online.world.subjects.find("loan", encode_row(list(one.section.keys)))
    assert seed is not None
    index = entity_index(seed, model=MODEL, month="2010-06", entity_key=None)
    (row,) = [row for row in rows if row["prediction_id"] == found[0]]
    assert (row["entity_index"], row["bucket"]) == (index.hex(), index[0])


def test_a_living_writers_newest_file_is_left_alone(online: OnlineWorld) -> None:
    made = decisions(online, 30)
    log = open_log(online, rotate_bytes=1)
    log.append(payloads(made[:10]))
    log.append(payloads(made[10:20]))
    kept = open_log(online, OTHER)
    kept.append(payloads(decisions(online, 5, writer=OTHER)))
    report = sealer(online).run()
    assert (report.records, report.adopted, report.closed) == (20, [], [])
    log.append(payloads(made[20:]))
    log.close()
    report = sealer(online).run()
    assert (report.records, report.closed, report.segments) == (10, [WRITER], [f"{WRITER}.20"])
    assert [one["first_seq"] for one in online.sealed()] == [0, 20]
    assert online.proven() == 30
    kept.close()
    assert sealer(online).run().records == 5
    assert online.proven() == 35


def test_a_pass_with_nothing_to_do_writes_nothing(online: OnlineWorld) -> None:
    size = online.log.state().size
    assert sealer(online).run().idle
    log_all(online, decisions(online, 5))
    assert not sealer(online).run().idle
    size = online.log.state().size
    assert sealer(online).run().idle
    assert online.log.state().size == size


def test_records_of_two_dates_are_two_segments(online: OnlineWorld) -> None:
    late = NOON + timedelta(hours=11, minutes=59, seconds=59, milliseconds=990)
    log_all(online, decisions(online, 25, decided_at=late))
    report = sealer(online).run()
    assert report.segments == [f"{WRITER}.0", f"{WRITER}.10"]
    dates = [row["decided_date"] for row in online.world.lake.read("index/segments").to_pylist()]
    assert sorted(dates) == ["2010-06-01", "2010-06-02"]
    assert online.proven() == 25


def test_a_segment_has_no_more_records_than_the_most(online: OnlineWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_segments, "SEGMENT_RECORDS", 20)
    monkeypatch.setattr(online_segments, "_BLOCK_RECORDS", 8)
    log_all(online, decisions(online, 50))
    sealer(online).run()
    assert [one["size"] for one in online.sealed()] == [20, 20, 10]
    assert online.proven() == 50


def test_refusals_are_counted_and_kept_without_values(online: OnlineWorld) -> None:
    made = decisions(online, 4)
    log_all(online, [made[0], refusal(7), *made[1:], refusal(8, at=NOON + timedelta(days=1))], files=2)
    report = sealer(online).run()
    assert (report.records, report.refused) == (4, 2)
    assert online.sealed()[0]["counts"]["refused"] == 2
    rows = online.world.lake.read(f"{MODEL}/quarantine").to_pylist()
    assert {(row["field"], row["rule"], row["kind"]) for row in rows} == {
        ("amount", "range", "number"), ("grade", "unknown", "text"),
    }  # fmt: skip
    assert [(row["partition"], row["writer"]) for row in rows] == [("online", WRITER)] * 4
    assert sorted({row["decided_date"] for row in rows}) == ["2010-06-01", "2010-06-02"]


def test_a_writer_that_only_refused_leaves_its_refusals_and_no_segment(online: OnlineWorld) -> None:
    log_all(online, [refusal(7), refusal(8)])
    report = sealer(online).run()
    assert (report.records, report.refused, report.closed, report.segments) == (0, 2, [WRITER], [])
    assert online.world.lake.read(f"{MODEL}/quarantine").num_rows == 4
    assert WRITER not in online.log.state().writers
    assert sealer(online).run().idle


def test_refusals_between_decisions_do_not_disturb_the_sequence(online: OnlineWorld) -> None:
    made = decisions(online, 6)
    log = open_log(online, rotate_bytes=1)
    for items in ([refusal(1)], made[:3], [refusal(2), refusal(3)], made[3:]):
        log.append(payloads(items))
        sealer(online).run()
    log.close()
    sealer(online).run()
    assert [(one["id"], one["first_seq"]) for one in online.sealed()] == [(f"{WRITER}.1", 0), (f"{WRITER}.6", 3)]
    assert online.world.lake.read(f"{MODEL}/quarantine").num_rows == 6
    assert online.proven() == 6


def test_a_torn_tail_is_cut_and_reported(online: OnlineWorld) -> None:
    made = decisions(online, 6)
    log_all(online, made[:5])
    (file,) = wal_folder(online.root, MODEL, WRITER).glob("*.wal")
    with file.open("ab") as stream:
        stream.write(frame(encode_decision(made[5]))[:-3])
    report = sealer(online).run()
    assert report.records == 5
    assert report.torn == {f"{WRITER}/{file.name}": len(frame(encode_decision(made[5]))) - 3}
    assert online.proven() == 5
    with pytest.raises(NotFound):
        online.world.reader.find(id_text(made[5].header.prediction_id))


def test_a_missing_file_stops_its_writer_and_no_other(online: OnlineWorld) -> None:
    log_all(online, decisions(online, 9), files=3)
    log_all(online, decisions(online, 4, writer=OTHER), writer=OTHER)
    second = sorted(wal_folder(online.root, MODEL, WRITER).glob("*.wal"))[1]
    kept = second.read_bytes()
    second.unlink()
    report = sealer(online).run()
    assert list(report.problems) == [WRITER]
    assert isinstance(report.problems[WRITER], Tampered)
    assert report.closed == [OTHER]
    assert [one["writer"] for one in online.sealed()] == [OTHER]
    second.write_bytes(kept)
    (wal_folder(online.root, MODEL, WRITER) / "seal.json").unlink()
    assert sealer(online).run().records == 9
    assert online.proven() == 13


def test_a_damaged_record_in_the_middle_is_no_torn_tail(online: OnlineWorld) -> None:
    log_all(online, decisions(online, 9), files=3)
    first = min(wal_folder(online.root, MODEL, WRITER).glob("*.wal"))
    raw = bytearray(first.read_bytes())
    raw[len(raw) // 2] ^= 1
    first.write_bytes(raw)
    report = sealer(online).run()
    assert isinstance(report.problems[WRITER], Tampered)
    assert online.sealed() == []


def test_a_folder_of_another_root_is_not_sealed(online: OnlineWorld, tmp_path: Path, artifact_parts: Any) -> None:
    other = make_online(tmp_path / "other", artifact_parts)
    log_all(other, decisions(other, 3))
    (online.root / "wal").mkdir()
    (other.root / "wal" / MODEL).rename(online.root / "wal" / MODEL)
    report = sealer(online).run()
    assert "another root" in report.problems[WRITER].what
    assert online.sealed() == []


def test_a_record_in_another_writers_folder_is_refused(online: OnlineWorld) -> None:
    log_all(online, decisions(online, 3, writer=OTHER), writer=WRITER)
    report = sealer(online).run()
    assert isinstance(report.problems[WRITER], Tampered)


def test_only_one_sealer_works_at_a_time(online: OnlineWorld) -> None:
    log_all(online, decisions(online, 3))
    busy = sealer(online)
    with busy._lease(0), pytest.raises(Conflict, match="Another sealer"):
        sealer(online).run()
    assert sealer(online).run().records == 3


def test_what_waited_longer_than_the_lag_is_late(online: OnlineWorld) -> None:
    log_all(online, decisions(online, 10))  # recorded a millionth of a second apart from WALL on
    report = sealer(online, wall=WALL + timedelta(seconds=60, microseconds=4)).run()
    assert report.late == 4


def test_small_files_of_a_living_writer_wait(online: OnlineWorld) -> None:
    log = open_log(online, rotate_bytes=1)
    log.append(payloads(decisions(online, 3)))
    waiting = sealer(online)
    waiting.hold_seconds = 30.0
    assert waiting.run().idle
    (old,) = [path for path in wal_folder(online.root, MODEL, WRITER).glob("*.wal") if path.stat().st_size]
    os.utime(old, (0, 0))
    assert waiting.run().records == 3
    log.close()


def test_the_plan_is_fixed_before_anything_is_written(online: OnlineWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(online, rotate_bytes=1)
    made = decisions(online, 8)
    log.append(payloads(made[:4]))

    def full(*given: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("ml_platform.serving.online_tables.store_segment", full)
    with pytest.raises(MemoryError):
        sealer(online).run()
    monkeypatch.undo()
    log.append(payloads(made[4:]))
    log.close()
    assert sealer(online).run().segments == [f"{WRITER}.0", f"{WRITER}.4"]
    assert [one["size"] for one in online.sealed()] == [4, 4]
    assert online.proven() == 8


def test_a_killed_process_is_a_dead_writer(online: OnlineWorld, repository: Path) -> None:
    made = decisions(online, 4)
    (online.root / "frames").write_bytes(b"".join(frame(one) for one in payloads(made)))
    code = f"""
import os, signal
from pathlib import Path
from ml_platform.serving.wal import WalWriter, WriterInfo, read_frames, wal_folder
root = Path({str(online.root)!r})
info = WriterInfo({WRITER!r}, "router", {MODEL!r}, {online.platform.root_id!r}, "2026-11-24T09:00:00.000000Z", 1)
log = WalWriter(wal_folder(root, {MODEL!r}, {WRITER!r}), info)
log.append(read_frames(root / "frames").frames)
print("logged", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-9, "logged\n"), done.stderr
    report = sealer(online).run()
    assert (report.records, report.closed) == (4, [WRITER])
    assert online.proven() == 4


def test_the_plan_of_a_writer_is_read_as_one_or_not_at_all(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    (tmp_path / "seal.json").write_bytes(b'{"format":"ml-platform/other/1"}')
    with pytest.raises(Tampered, match="plan"):
        read_plan(tmp_path)
