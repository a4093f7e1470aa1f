"""Looking at write-ahead logs while a sealer is at work: nobody is held up, nothing is taken for lost."""

from __future__ import annotations

import fcntl
import threading
import time
from pathlib import Path

import pytest

from ml_platform.core.errors import StorageFailed
from ml_platform.serving import unsealed
from ml_platform.serving.online_writers import STREAM_WRITER, WriterFolder, frames_of, writer_folders
from ml_platform.serving.unsealed import count_unsealed
from ml_platform.serving.wal import LOCK, WAL_FOLDER
from tests.serving.online_support import (
    WRITER,
    OnlineWorld,
    decisions,
    log_all,
    make_online,
    open_log,
    payloads,
    sealer,
)


@pytest.fixture
def online(tmp_path: Path, artifact_parts: dict[str, bytes]) -> OnlineWorld:
    return make_online(tmp_path / "root", artifact_parts)


def folder_of(online: OnlineWorld) -> WriterFolder:
    (found,) = writer_folders(online.root / WAL_FOLDER)
    return found


def test_a_count_does_not_make_a_sealer_pass_by_a_dead_writer(online: OnlineWorld, monkeypatch) -> None:
    log_all(online, decisions(online, 10))
    sealed: list[int] = []

    def while_sealing(file: Path) -> object:
        if not sealed:
            sealed.append(sealer(online).run().records)
        return frames_of(file)

    monkeypatch.setattr(unsealed, "frames_of", while_sealing)
    found = count_unsealed(folder_of(online), None)
    assert sealed == [10]
    assert (found.decisions, found.missing, found.living) == (0, None, False)


def test_a_sealer_waits_for_whoever_looks_at_a_dead_writer(online: OnlineWorld) -> None:
    log_all(online, decisions(online, 10))
    stream = (folder_of(online).path / LOCK).open("rb+")
    fcntl.flock(stream, fcntl.LOCK_SH)
    looked = threading.Thread(target=lambda: (time.sleep(0.2), stream.close()))
    looked.start()
    report = sealer(online).run()
    looked.join()
    assert (report.records, report.adopted) == (10, [WRITER])


def test_a_look_tells_the_living_from_the_dead_and_holds_up_no_second_look(online: OnlineWorld) -> None:
    log = open_log(online)
    log.append(payloads(decisions(online, 3)))
    folder = folder_of(online)
    assert folder.held
    log.close()
    with (folder.path / LOCK).open("rb+") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        assert not folder.held
    with folder.adopted() as dead:
        assert dead
        assert folder.held, "an adopted log is its sealer's"
    (folder.path / LOCK).unlink()
    assert not folder.held


@pytest.mark.parametrize("removed", [{0}, {1}, {0, 1}, {2}, {0, 1, 2}])
def test_files_that_a_sealer_removes_between_the_list_and_the_look_are_not_missed(
    online: OnlineWorld, monkeypatch, removed: set[int]
) -> None:
    log_all(online, decisions(online, 30), files=3)
    gone = [file for number, file in enumerate(folder_of(online).files()) if number in removed]

    def removing(file: Path) -> object:
        for one in gone:
            one.unlink(missing_ok=True)
        return frames_of(file)

    kept = {path: path.read_bytes() for path in folder_of(online).path.iterdir()}
    assert sealer(online).run().records == 30
    known = online.log.state().writers[WRITER]
    folder = WriterFolder("credit_risk", WRITER, next(iter(kept)).parent)
    folder.path.mkdir(exist_ok=True)
    for path, raw in kept.items():  # as they lie between the entry in the audit log and their removal
        path.write_bytes(raw)
    monkeypatch.setattr(unsealed, "frames_of", removing)
    found = count_unsealed(folder_of(online), known)
    assert (found.decisions, found.missing) == (0, None)


def test_a_file_that_was_gone_before_the_look_is_missed(online: OnlineWorld) -> None:
    log_all(online, decisions(online, 30), files=3)
    folder_of(online).files()[1].unlink()
    assert count_unsealed(folder_of(online), None).missing == "frame 10"


def test_a_file_that_cannot_be_read_is_no_removed_file(online: OnlineWorld) -> None:
    log_all(online, decisions(online, 10))
    (file,) = folder_of(online).files()
    file.unlink()
    file.mkdir()
    with pytest.raises(StorageFailed, match="Reading"):
        count_unsealed(folder_of(online), None)


def test_the_inbox_of_a_topic_is_never_taken_for_a_dead_writers(tmp_path: Path) -> None:
    inbox = WriterFolder("credit_risk", f"{STREAM_WRITER}0-0", tmp_path)
    assert inbox.held
    with inbox.adopted() as dead:
        assert not dead
