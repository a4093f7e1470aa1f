from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from ml_platform.core.errors import SettingsError
from ml_platform.serving.triton import wheel
from ml_platform.serving.triton.wheel import Installation


def test_what_the_wheel_lacks_is_laid_out_beside_it_and_the_packages_stay_as_they_are(tmp_path: Path, triton):
    packages = wheel._wheel()
    before = {path: path.stat().st_mtime_ns for path in packages.rglob("*") if path.is_file()}
    made = Installation.prepare(tmp_path)
    stub = made.backends / "python" / "triton_python_backend_stub"
    assert os.access(made.binary, os.X_OK)
    assert os.access(stub, os.X_OK)
    assert (made.backends / "python" / "libtriton_python.so").is_file()
    assert all(folder.is_dir() for folder in made.libraries)
    inode = stub.stat().st_ino
    assert Installation.prepare(tmp_path) == made
    assert stub.stat().st_ino == inode  # nothing was made again
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_binary_without_its_executable_bit_is_copied(tmp_path: Path):
    binary = tmp_path / "tritonserver"
    binary.write_bytes(b"#!")
    binary.chmod(0o644)
    found = wheel._executable(binary, tmp_path)
    assert found != binary
    assert os.access(found, os.X_OK)
    assert stat.S_IMODE(binary.stat().st_mode) == 0o644
    binary.chmod(0o755)
    assert wheel._executable(binary, tmp_path) == binary


def test_the_servers_python_takes_its_packages_from_this_environment(tmp_path: Path, triton):
    made = Installation.prepare(tmp_path)
    environ = made.environment({"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/opt/lib", "HOME": "/home/me"})
    assert environ["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert environ["LD_LIBRARY_PATH"].split(os.pathsep) == [*map(str, made.libraries), "/opt/lib"]
    assert environ["HOME"] == "/home/me"


def test_without_the_wheel_the_next_step_is_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(wheel, "_WHEEL", "no_such_wheel")
    assert not wheel.is_installed()
    with pytest.raises(SettingsError, match=r"\[triton\]"):
        Installation.prepare(tmp_path)


def test_a_python_without_a_shared_library_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, triton):
    monkeypatch.setattr(wheel.sysconfig, "get_config_var", lambda _name: None)
    with pytest.raises(SettingsError, match="shared library"):
        Installation.prepare(tmp_path)
