from __future__ import annotations

import logging
import os
import stat
import subprocess
from pathlib import Path

import pytest

from ml_platform.core.errors import Conflict, DeclarationError, SettingsError, StorageFailed
from ml_platform.registry.keyfiles import load_signer, new_key, public_path, raw_public
from ml_platform.registry.sshsig import public_key_line, sign, verify


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_key_signs_under_its_public_line(tmp_path: Path) -> None:
    line = new_key(tmp_path / "keys" / "log", "the log")
    signer = load_signer(tmp_path / "keys" / "log")
    assert line == public_key_line(signer, "the log")
    assert (tmp_path / "keys" / "log.pub").read_text() == line + "\n"
    assert raw_public(tmp_path / "keys" / "log") == signer.public_key().public_bytes_raw()
    assert raw_public(tmp_path / "keys" / "log.pub") == signer.public_key().public_bytes_raw()
    assert verify(b"m", sign(signer, b"m", "test@ml-platform"), "test@ml-platform", line)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_and_folder_are_for_their_owner_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        new_key(tmp_path / "keys" / "log")
    finally:
        os.umask(before)
    assert _mode(tmp_path / "keys") == 0o700
    assert _mode(tmp_path / "keys" / "log") == 0o600
    assert _mode(tmp_path / "keys" / "log.pub") == 0o644


def test_no_two_keys_are_equal(tmp_path: Path) -> None:
    assert new_key(tmp_path / "a") != new_key(tmp_path / "b")


def test_an_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    new_key(tmp_path / "log")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Conflict):
        new_key(tmp_path / "log")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["log", "log.pub"])
def test_half_a_pair_in_the_way_is_kept_and_nothing_is_added(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("kept")
    with pytest.raises(Conflict):
        new_key(tmp_path / "log")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "kept"


def test_a_dangling_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict):
        new_key(tmp_path / "log")
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "log.pub").exists()


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o720, 0o702, 0o711, 0o755])
def test_a_folder_open_to_others_gets_no_key(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(SettingsError, match="folder is open"):
        new_key(folder / "log")
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_a_file_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file")
    with pytest.raises(StorageFailed, match="NotADirectoryError"):
        new_key(tmp_path / "keys" / "log")


def test_after_a_failed_write_neither_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def full_disk(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageFailed):
        new_key(tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_a_private_file_cannot_be_named_as_a_public_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        new_key(tmp_path / "log.pub")
    assert list(tmp_path.iterdir()) == []


def test_a_comment_of_two_lines_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError):
        new_key(tmp_path / "log", "a\nb")
    assert list(tmp_path.iterdir()) == []


def test_a_pair_of_two_different_keys_is_refused(tmp_path: Path) -> None:
    new_key(tmp_path / "a")
    new_key(tmp_path / "b")
    public_path(tmp_path / "b").replace(public_path(tmp_path / "a"))
    with pytest.raises(SettingsError, match="another private key"):
        load_signer(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"noise", b"\xff\xfe", b"ssh-rsa AAAA"])
def test_a_malformed_public_file_is_refused(tmp_path: Path, content: bytes) -> None:
    new_key(tmp_path / "log")
    public_path(tmp_path / "log").write_bytes(content)
    with pytest.raises(SettingsError, match="malformed"):
        raw_public(tmp_path / "log")


def test_missing_files_are_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        load_signer(tmp_path / "log")
    with pytest.raises(SettingsError):
        raw_public(tmp_path / "log")


def test_a_key_opened_to_others_later_is_refused(tmp_path: Path) -> None:
    new_key(tmp_path / "log")
    (tmp_path / "log").chmod(0o640)
    with pytest.raises(SettingsError, match="open to group or others"):
        load_signer(tmp_path / "log")


def test_nothing_private_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        line = new_key(tmp_path / "log")
        signer = load_signer(tmp_path / "log")
        with pytest.raises(Conflict) as caught:
            new_key(tmp_path / "log")
    shown = "\n".join([line, repr(signer), str(signer), repr(caught.value), caplog.text])
    assert signer.private_bytes_raw().hex() not in shown
    private_lines = (tmp_path / "log").read_text().splitlines()[1:-1]
    assert not any(one in shown for one in private_lines)


def test_ssh_keygen_reads_the_private_file(tmp_path: Path, ssh_keygen: str) -> None:
    line = new_key(tmp_path / "log")
    shown = subprocess.run(
        [ssh_keygen, "-y", "-f", tmp_path / "log"], capture_output=True, check=True, text=True
    ).stdout
    assert shown.split()[:2] == line.split()
