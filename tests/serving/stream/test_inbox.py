"""Records come from the topic into the inbox once: whatever dies between, and however full the disk is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ml_platform.core.errors import StorageFailed, Tampered
from ml_platform.serving.online_plan import Plan
from ml_platform.serving.online_record import (
    DECISION,
    LoggedDecision,
    decision_parts,
    decode_header,
    encode_decision,
    encode_refusal,
)
from ml_platform.serving.online_writers import WriterFolder, first_frame, writer_folders
from ml_platform.serving.stream.inbox import Inbox, InboxState
from ml_platform.serving.stream.kafka import Message
from ml_platform.serving.wal import read_frames
from tests.formats.logged import ONLINE, REFUSAL
from tests.serving import crash_driver
from tests.serving.crash_driver import die_at, in_child
from tests.serving.test_record import SALT, SECTION
from tests.serving.test_router_faults import small_disk

__all__ = ["small_disk"]
WRITER = "stream-" + "ab" * 16 + "-0"
AT = "2026-11-24T09:00:00.000000Z"
EFFECTS: list[tuple[Any, str]] = [
    (Inbox, "_own"),
    (Inbox, "_write"),
    (InboxState, "write"),
    (Inbox, "_name"),
    (Path, "unlink"),
]


def record(seq: int, **changes: Any) -> bytes:
    header = replace(ONLINE, mode="stream", writer=WRITER, seq=seq, prediction_id=seq.to_bytes(16, "big"), **changes)
    return encode_decision(LoggedDecision(header, SECTION, SALT))


@dataclass
class Committed:
    """A partition's committed messages: real payloads at offsets that are not contiguous, in small pieces."""

    messages: list[Message] = field(default_factory=list)
    first: int = 0
    piece: int = 3

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self.first, self.end

    @property
    def end(self) -> int:
        return self.messages[-1].offset + 2 if self.messages else self.first  # behind the last message is its marker

    def rest(self, topic: str, partition: int, offset: int) -> Iterator[tuple[list[Message], int]]:
        left = [one for one in self.messages if one.offset >= offset]
        for at in range(0, len(left), self.piece):
            some = left[at : at + self.piece]
            last = at + self.piece >= len(left)
            yield some, self.end if last else some[-1].offset + 1
        if not left:
            yield [], max(offset, self.end)


def topic(number: int) -> Committed:
    """Decisions, with a refusal before every fifth."""
    made, offset = Committed(), 0
    for seq in range(number):
        if seq % 5 == 0:
            made.messages.append(Message(offset, None, encode_refusal(replace(REFUSAL, writer=WRITER))))
            offset += 1
        made.messages.append(Message(offset, None, record(seq)))
        offset += 1 + seq % 3  # an aborted transaction, a marker
    return made


def inbox(folder: Path) -> Inbox:
    return Inbox(folder / "wal", ONLINE.model, WRITER, ONLINE.root_id, "m.predictions", 0)


def held(folder: Path) -> list[bytes]:
    """All frames in the inbox; its files follow each other."""
    found: list[bytes] = []
    for file in WriterFolder(ONLINE.model, WRITER, inbox(folder).folder).files():
        assert first_frame(file) == len(found)
        frames = read_frames(file)
        assert frames.torn_bytes == 0
        found += frames.frames
    return found


def test_records_are_taken_once_and_in_order(tmp_path: Path) -> None:
    source = topic(20)
    whole = [one.value for one in source.messages]
    source.messages, later = source.messages[:10], source.messages[10:]
    assert inbox(tmp_path).pull(source, sealed_seq=0, at=AT) == 10
    assert inbox(tmp_path).pull(source, sealed_seq=0, at=AT) == 0
    source.messages += later
    assert inbox(tmp_path).pull(source, sealed_seq=0, at=AT) == len(later)
    assert held(tmp_path) == whole
    (folder,) = writer_folders(tmp_path / "wal")
    assert (folder.info().kind, folder.of_topic) == ("stream", True)
    with folder.adopted() as dead:
        assert not dead


def test_a_pull_that_dies_at_any_step_is_completed_by_the_next(tmp_path: Path) -> None:
    source = topic(8)
    whole = [one.value for one in source.messages]
    codes = []
    for step in range(200):
        folder = tmp_path / f"{step}"

        def doomed(folder: Path = folder, step: int = step) -> None:
            crash_driver.EFFECTS[:] = EFFECTS
            die_at(step)
            inbox(folder).pull(source, sealed_seq=0, at=AT)

        code = in_child(doomed)
        if code == 0:
            break
        codes.append(code)
        inbox(folder).pull(source, sealed_seq=0, at=AT)
        assert held(folder) == whole, step
        assert not list((tmp_path / f"{step}").rglob("*.part"))
    assert set(codes) == {-9}
    assert len(codes) >= 12


def test_a_full_disk_loses_no_record_and_the_next_pull_goes_on(small_disk: Path, tmp_path: Path) -> None:
    source = topic(400)
    with pytest.raises(StorageFailed, match="inbox"):
        inbox(tmp_path / "root").pull(source, sealed_seq=0, at=AT)
    taken = held(tmp_path / "root")
    whole = [one.value for one in source.messages]
    assert 0 < len(taken) < len(whole)
    assert taken == whole[: len(taken)]
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    inbox(tmp_path / "root").pull(source, sealed_seq=0, at=AT)
    assert held(tmp_path / "root") == whole


def test_an_inbox_that_was_lost_takes_no_sealed_decision_again(tmp_path: Path) -> None:
    source = topic(12)
    assert inbox(tmp_path).pull(source, sealed_seq=7, at=AT) > 0
    found = [decode_header(decision_parts(one)[0]) for one in read_all(tmp_path) if one[0] == DECISION]
    assert [one.seq for one in found] == list(range(7, 12))


def read_all(folder: Path) -> list[bytes]:
    files = WriterFolder(ONLINE.model, WRITER, inbox(folder).folder).files()
    return [frame for file in files for frame in read_frames(file).frames]


@pytest.mark.parametrize("changes", [{"model": "other"}, {"root_id": "f" * 32}])
def test_a_record_of_somebody_else_stops_the_inbox_and_is_named_by_its_place(tmp_path: Path, changes: Any) -> None:
    source = Committed([Message(0, None, record(0)), Message(5, None, record(1, **changes))])
    with pytest.raises(Tampered, match="offset 5"):
        inbox(tmp_path).pull(source, sealed_seq=0, at=AT)
    assert read_all(tmp_path) == []


def test_only_what_is_wholly_sealed_may_be_deleted_and_the_last_message_never(tmp_path: Path) -> None:
    source, box = topic(6), inbox(tmp_path)
    box.pull(source, sealed_seq=0, at=AT)
    assert box.sealed_until() is None
    frames = len(held(tmp_path))
    files = WriterFolder(ONLINE.model, WRITER, box.folder).files()
    Plan(0, 0, tuple(one.name for one in files), end=frames).write(box.folder)
    assert box.sealed_until() is None, "its files are still there"
    for one in files:
        one.unlink()
    last = source.messages[-1].offset
    assert box.sealed_until() == last
    box.deleted(last)
    assert box.sealed_until() is None
