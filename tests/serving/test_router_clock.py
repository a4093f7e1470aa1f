"""The router's clock: now in a wall root; in a replay root what the file says, read again only when it changed."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from ml_platform.core.clock import ReplayClock
from ml_platform.core.errors import PlatformError
from ml_platform.core.rows import micros
from ml_platform.core.settings import Settings, load_settings
from ml_platform.serving.router_clock import clock_of, wall_us
from tests.serving.support import END

LATER = END + timedelta(days=1)


def settings(root: Path, kind: str) -> Settings:
    (root / "settings.toml").write_text(f'kind = "{kind}"\n')
    return load_settings(root / "settings.toml")


def test_a_wall_root_has_the_machines_clock(tmp_path: Path) -> None:
    clock = clock_of(settings(tmp_path, "wall"))
    before = time.time_ns() // 1000
    assert clock.kind == "wall"
    assert before <= clock.now_us() <= wall_us() <= time.time_ns() // 1000


def test_a_replay_root_has_the_files_and_reads_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ReplayClock(tmp_path / "clock")
    file.move(END)
    old = time.time_ns() - 10**9
    os.utime(tmp_path / "clock", ns=(old, old))
    clock = clock_of(settings(tmp_path, "replay"))
    reads: list[Path] = []
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *given: (reads.append(path), read(path, *given))[1])
    assert [clock.now_us() for _ in range(3)] == [micros(END)] * 3
    assert (clock.kind, len(reads)) == ("replay", 1)
    file.move(LATER)
    assert clock.now_us() == micros(LATER)


def test_two_moves_within_a_tick_of_the_file_system_are_both_seen(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    ReplayClock(path).move(END)
    clock = clock_of(settings(tmp_path, "replay"))
    clock.now_us()
    was = path.stat()
    text = path.read_text().replace("2010-06-01", "2010-06-02")
    path.write_text(text)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_ino == was.st_ino
    assert clock.now_us() == micros(LATER)


@pytest.mark.parametrize("text", [None, "", "soon", "2010-06-01T00:00:00"])
def test_a_clock_that_cannot_be_read_is_said(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "clock").write_text(text)
    clock = clock_of(settings(tmp_path, "replay"))
    with pytest.raises(PlatformError, match=r"clock|zone"):
        clock.now_us()
