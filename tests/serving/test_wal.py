"""The write-ahead log: whole batches or nothing, through crashes and full disks."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.core.errors import Conflict, DataError, StorageFailed
from ml_platform.serving import wal
from ml_platform.serving.online_writers import complete_now
from ml_platform.serving.wal import WAL_FOLDER, WalWriter, WriterInfo, frame, read_frames, wal_folder
from ml_platform.serving.wal_room import PIECE

WRITER = "router-" + "ab" * 16
INFO = WriterInfo(WRITER, "router", "credit_risk", "0" * 32, "2026-11-24T09:00:00.000000Z", 7)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.wal"))


def payloads(folder: Path) -> list[bytes]:
    return [payload for path in files(folder) for payload in read_frames(path).frames]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[WalWriter]:
    made = WalWriter(wal_folder(tmp_path, "credit_risk", WRITER), INFO)
    yield made
    made.close()


def test_a_frame_is_length_checksum_and_payload() -> None:
    assert frame(b"abc") == struct.pack("<II", 3, zlib.crc32(b"abc")) + b"abc"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_a_file_cut_anywhere_gives_the_frames_that_are_whole(
    tmp_path_factory: pytest.TempPathFactory, given_payloads: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.wal"
    raw = b"".join(map(frame, given_payloads))
    cut = data.draw(st.integers(0, len(raw)))
    path.write_bytes(raw[:cut])
    ends = [sum(len(frame(one)) for one in given_payloads[:count]) for count in range(len(given_payloads) + 1)]
    whole = sum(end <= cut for end in ends) - 1
    assert read_frames(path) == (given_payloads[:whole], len(raw[ends[whole] : cut].rstrip(b"\0")))


@given(st.integers(0, 63), st.integers(1, 255))
def test_a_changed_byte_ends_the_frames_before_it(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.wal"
    raw = bytearray(b"".join(frame(bytes([number]) * 8) for number in range(4)))
    raw[at] ^= change
    path.write_bytes(raw)
    assert read_frames(path) == ([bytes([number]) * 8 for number in range(at // 16)], 64 - at // 16 * 16)


def test_zeros_behind_the_frames_are_room_and_a_torn_frame_before_them_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "zeros.wal"
    path.write_bytes(frame(b"abc") + bytes(64))
    assert read_frames(path) == ([b"abc"], 0)
    path.write_bytes(frame(b"abc") + frame(b"torn")[:-1] + bytes(64))
    assert read_frames(path) == ([b"abc"], 8 + 3)
    path.write_bytes(frame(b"abc") + bytes(64) + frame(b"behind a lost block"))
    assert read_frames(path) == ([b"abc"], 64 + 8 + 19)


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "more.wal"
    path.write_bytes(frame(b"abc") + frame(b"de"))
    assert read_frames(path, len(frame(b"abc"))) == ([b"de"], 0)


@pytest.mark.parametrize("size", [0, 16 * 1024 * 1024 + 1])
def test_a_payload_of_an_impossible_size_is_refused_before_anything_is_written(writer: WalWriter, size: int) -> None:
    with pytest.raises(DataError, match="16 MiB"):
        writer.append([b"good", bytes(size)])
    assert payloads(writer.folder) == []


def test_the_largest_payload_is_read_back(writer: WalWriter) -> None:
    writer.append([b"x" * (16 * 1024 * 1024)])
    assert len(payloads(writer.folder)[0]) == 16 * 1024 * 1024


def test_a_batch_is_one_write_and_one_sync(writer: WalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    write, sync = os.pwrite, os.fdatasync
    monkeypatch.setattr(os, "pwrite", lambda *given: (seen.append("write"), write(*given))[1])
    monkeypatch.setattr(os, "fdatasync", lambda *given: (seen.append("sync"), sync(*given))[1])
    writer.append([b"a", b"b", b"c"])
    assert seen == ["write", "sync"]
    writer.append([])
    assert seen == ["write", "sync"]
    assert (payloads(writer.folder), writer.frames) == ([b"a", b"b", b"c"], 3)


def test_the_writer_describes_itself_and_holds_its_lock_until_it_closes(tmp_path: Path) -> None:
    writer = WalWriter(wal_folder(tmp_path, "credit_risk", WRITER), INFO)
    raw = (writer.folder / "writer.json").read_bytes()
    assert WriterInfo.from_bytes(raw) == INFO
    assert json.loads(raw)["format"] == "ml-platform/wal-writer/1"
    with (writer.folder / "lock").open("rb") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        writer.close()
        writer.close()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(StorageFailed, match="closed"):
        writer.append([b"late"])
    assert not writer.rotate_if_due()
    assert files(writer.folder) == []


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"format":"other/1"}', b'{"format":"ml-platform/wal-writer/1"}'])
def test_another_description_is_refused(raw: bytes) -> None:
    with pytest.raises(DataError, match="wal-writer"):
        WriterInfo.from_bytes(raw)


def test_a_boot_id_is_used_once(writer: WalWriter) -> None:
    with pytest.raises(Conflict, match="boot id"):
        WalWriter(writer.folder, INFO)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "wal").write_text("a file in the way")
    with pytest.raises(StorageFailed, match="Free space"):
        WalWriter(wal_folder(tmp_path, "credit_risk", WRITER), INFO)


def test_a_large_file_is_followed_by_one_named_after_its_first_frame(tmp_path: Path) -> None:
    writer = WalWriter(tmp_path / WRITER, INFO, rotate_bytes=2 * len(frame(b"x" * 10)))
    for _ in range(5):
        writer.append([b"x" * 10])
    assert [path.name for path in files(writer.folder)] == [f"{number:020d}.wal" for number in (0, 2, 4)]
    writer.close()
    assert payloads(writer.folder) == [b"x" * 10] * 5
    assert all(read_frames(path).torn_bytes == 0 for path in files(writer.folder))


def test_an_old_file_is_completed_without_a_call_and_an_empty_one_never(tmp_path: Path) -> None:
    now = [100.0]
    writer = WalWriter(tmp_path / WRITER, INFO, rotate_seconds=20.0, monotonic=lambda: now[0])
    now[0] = 1000.0
    assert not writer.rotate_if_due()
    writer.append([b"a"])
    now[0] = 1019.9
    assert not writer.rotate_if_due()
    now[0] = 1020.0
    assert writer.rotate_if_due()
    assert not writer.rotate_if_due()
    assert [path.name[-5:] for path in files(writer.folder)] == ["0.wal", "1.wal"]
    assert (writer.last_sync, writer.bytes_written) == (1000.0, len(frame(b"a")))
    writer.close()
    assert payloads(writer.folder) == [b"a"]


def test_appends_of_several_threads_are_whole(tmp_path: Path) -> None:
    writer = WalWriter(tmp_path / WRITER, INFO, rotate_bytes=500)

    def append(mark: int) -> None:
        for number in range(40):
            writer.append([bytes([mark, number, part]) for part in range(3)])

    threads = [threading.Thread(target=append, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        writer.make_room()
    found = payloads(writer.folder)
    batches = [found[at : at + 3] for at in range(0, len(found), 3)]
    assert len(found) == writer.frames == 480
    assert all([one[2] for one in batch] == [0, 1, 2] and len({one[:2] for one in batch}) == 1 for batch in batches)


def test_frames_go_into_room_that_is_made_for_them_and_a_finished_file_has_none_left(tmp_path: Path) -> None:
    writer = WalWriter(tmp_path / WRITER, INFO, rotate_bytes=2 * PIECE)
    (path,) = files(writer.folder)
    writer.make_room()
    assert path.stat().st_size == PIECE
    assert not any(path.read_bytes())
    writer.append([b"x" * 100])
    writer.make_room()
    assert path.stat().st_size == 2 * PIECE
    writer.make_room()
    writer.append([b"y" * (2 * PIECE - 3 * 108)])
    assert path.stat().st_size == 2 * PIECE
    assert read_frames(path) == ([b"x" * 100, b"y" * (2 * PIECE - 3 * 108)], 0)
    writer.append([b"over the end of the room" * 10])
    writer.append([b"the last"])
    assert path.stat().st_size == writer.bytes_written - len(frame(b"the last"))
    (_, path) = files(writer.folder)
    writer.make_room()
    assert path.stat().st_size == len(frame(b"the last")) + PIECE
    assert read_frames(path) == ([b"the last"], 0)
    writer.close()
    assert path.stat().st_size == len(frame(b"the last"))


def test_room_is_made_behind_the_last_frame_wherever_that_ends(writer: WalWriter, monkeypatch) -> None:
    writer.make_room()
    writer.append([b"x" * (PIECE + 100)])  # goes over the end of the room
    writer.make_room()
    (path,) = files(writer.folder)
    assert path.stat().st_size == writer.bytes_written + PIECE
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda *given: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageFailed, match="No space left"):
            writer.append([b"lost"])
        writer.make_room()  # that there is no room is no error
    assert path.stat().st_size == writer.bytes_written
    writer.make_room()
    assert path.stat().st_size == writer.bytes_written + PIECE
    writer.append([b"more"])
    writer.close()
    assert payloads(writer.folder) == [b"x" * (PIECE + 100), b"more"]


def test_room_alone_is_no_record(tmp_path: Path) -> None:
    writer = WalWriter(wal_folder(tmp_path, "credit_risk", WRITER), INFO)
    writer.make_room()
    assert complete_now(tmp_path / WAL_FOLDER, 0.2) == 0
    assert not (writer.folder / "complete").exists()
    writer.close()
    assert files(writer.folder) == []
    writer.make_room()
    assert files(writer.folder) == []


def test_an_append_that_fails_in_its_room_is_cut_with_the_room(
    writer: WalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.append([b"before"])
    writer.make_room()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(StorageFailed, match="Input/output error"):
            writer.append([b"lost"])
        writer.make_room()
    (path,) = files(writer.folder)
    assert path.read_bytes() == frame(b"before")
    writer.append([b"after"])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        writer.make_room()  # that there is no room is no error
    writer.append([b"more"])
    writer.close()
    assert payloads(writer.folder) == [b"before", b"after", b"more"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.getuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=False).returncode
    ):
        pytest.skip("mounting a small disk needs root; the file size limit is tested beside this")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_refuses_the_whole_batch_and_the_log_goes_on_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    writer = WalWriter(small_disk / WRITER, INFO)
    writer.append([b"before"])
    writer.make_room()
    assert files(writer.folder)[0].stat().st_size == len(frame(b"before")), "the last of a disk is for records"
    ballast.write_bytes(b"x" * 32_768)
    size = files(writer.folder)[0].stat().st_size
    for _ in range(2):
        with pytest.raises(StorageFailed, match="No space left"):
            writer.append([b"a" * 5_000, b"b" * 40_000])
        assert files(writer.folder)[0].stat().st_size == size
        assert writer.frames == 1
    ballast.unlink()
    writer.append([b"after"])
    writer.close()
    assert payloads(writer.folder) == [b"before", b"after"]
    assert [read_frames(path).torn_bytes for path in files(writer.folder)] == [0]


def test_a_disk_too_full_for_the_next_file_keeps_the_old_one_going(tmp_path: Path, monkeypatch) -> None:
    writer = WalWriter(tmp_path / WRITER, INFO, rotate_bytes=1)

    def full(*given: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(wal.WalWriter, "_create", full)
        writer.append([b"a"])
        writer.append([b"b"])
        assert len(files(writer.folder)) == 1
    writer.append([b"c"])
    writer.close()
    assert payloads(writer.folder) == [b"a", b"b", b"c"]


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    program = f"""
        import resource, signal
        from pathlib import Path
        from ml_platform.core.errors import StorageFailed
        from ml_platform.serving.wal import WalWriter, WriterInfo
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        writer = WalWriter(Path({str(tmp_path / WRITER)!r}), WriterInfo("w", "router", "m", "r", "t", 1))
        writer.append([b"before"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        try:
            writer.append([b"x" * 60, b"y" * 60])
        except StorageFailed:
            pass
        else:
            raise SystemExit("the limit did not bite")
        writer.append([b"after"])
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
    assert payloads(tmp_path / WRITER) == [b"before", b"after"]


def test_after_a_failed_sync_nothing_of_the_batch_is_left_and_a_new_file_begins(
    writer: WalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.append([b"before"])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(StorageFailed, match="Input/output error"):
            writer.append([b"lost"])
    writer.append([b"after"])
    assert [read_frames(path) for path in files(writer.folder)] == [([b"before"], 0), ([b"after"], 0)]


def test_what_cannot_be_cut_now_is_cut_before_the_next_append(writer: WalWriter, monkeypatch) -> None:
    writer.append([b"before"])
    cut = os.ftruncate
    with monkeypatch.context() as patched:
        fail = lambda *given: (_ for _ in ()).throw(OSError(5, "Input/output error"))  # noqa: E731
        patched.setattr(os, "ftruncate", fail)
        patched.setattr(os, "fdatasync", fail)
        for _ in range(2):
            with pytest.raises(StorageFailed):
                writer.append([b"lost" * 100])
        patched.setattr(os, "ftruncate", cut)
    writer.append([b"after"])
    assert payloads(writer.folder) == [b"before", b"after"]
    assert all(read_frames(path).torn_bytes == 0 for path in files(writer.folder))


WRITING = """
    import sys, threading, time
    from pathlib import Path
    from ml_platform.serving.wal import WalWriter, WriterInfo
    writer = WalWriter(Path(sys.argv[1]), WriterInfo("w", "router", "m", "r", "t", 1), rotate_bytes=200_000)
    writer.make_room()
    threading.Thread(target=lambda: [writer.make_room() or time.sleep(0.001) for _ in iter(int, 1)], daemon=True).start()
    number = 0
    while True:
        writer.append([number.to_bytes(8, "big") + bytes([number % 251]) * (number % 900) for number in range(number, number + 7)])
        number += 7
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


@pytest.mark.parametrize("after", [1, 40, 200])
def test_whatever_was_acknowledged_before_a_kill_is_in_the_log_once_and_in_order(tmp_path: Path, after: int) -> None:
    folder = tmp_path / WRITER
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITING), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = 0
    for _ in range(after):
        acknowledged = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    acknowledged = int(([str(acknowledged), *process.stdout.read().split("\n")[:-1]])[-1])
    process.wait()
    process.stdout.close()
    found = payloads(folder)
    assert len(found) >= acknowledged
    assert [int.from_bytes(one[:8], "big") for one in found] == list(range(len(found)))
    assert all(
        one == number.to_bytes(8, "big") + bytes([number % 251]) * (number % 900) for number, one in enumerate(found)
    )
    with (folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_kill_in_mid_write_leaves_a_torn_tail_of_an_unanswered_batch(tmp_path: Path) -> None:
    folder = tmp_path / WRITER
    program = WRITING.replace(
        "number = 0\n",
        "writer.append([b'whole'])\n"
        "    import os, signal\n"
        "    write = os.pwrite\n"
        "    def torn(descriptor, raw, at):\n"
        "        if not any(raw):\n"
        "            return write(descriptor, raw, at)\n"
        "        write(descriptor, bytes(raw)[:1000], at)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    os.pwrite = torn\n"
        "    number = 893\n",
    )
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program), folder], capture_output=True, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, b"")
    (path,) = files(folder)
    written = len(path.read_bytes().rstrip(b"\0"))
    assert written < path.stat().st_size, "there is room behind what was torn"
    assert read_frames(path) == ([b"whole", *read_frames(path).frames[1:]], written - 13 - 909)
    assert len(read_frames(path).frames) == 2


def test_a_log_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="Reading"):
        read_frames(tmp_path / "absent.wal")


def test_a_living_writer_completes_its_file_when_it_is_asked(tmp_path: Path) -> None:
    folder = wal_folder(tmp_path, "credit_risk", "router-1")
    log = WalWriter(
        folder, WriterInfo("router-1", "router", "credit_risk", "00" * 16, "2026-01-01T00:00:00.000000Z", 1)
    )
    assert complete_now(tmp_path / WAL_FOLDER, 0.2) == 0, "an empty file has nothing to complete"
    log.append([b"one", b"two"])
    looking = threading.Thread(target=lambda: [log.rotate_if_due() or time.sleep(0.01) for _ in range(100)])
    looking.start()
    assert complete_now(tmp_path / WAL_FOLDER, 5.0) == 1
    looking.join()
    (done, _) = sorted(folder.glob("*.wal"))
    assert read_frames(done).frames == [b"one", b"two"]
    assert not (folder / "complete").exists()
    log.append([b"three"])
    assert complete_now(tmp_path / WAL_FOLDER, 0.1) == 0, "a writer that does not look is not waited for"
    assert log.rotate_if_due(), "and does it later"
    log.close()
    assert complete_now(tmp_path / WAL_FOLDER, 0.1) == 0, "a dead writer is adopted, not asked"
