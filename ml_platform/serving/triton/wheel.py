"""The Triton server that the ``nvidia-pytriton`` wheel carries: found, and prepared to run below a root.

Only its binary, its Python backend and its stub are used, never the wheel's own Python API. Nothing in the
environment's packages is changed: what lacks the executable bit is copied.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ml_platform.core.errors import SettingsError

__all__ = ["Installation", "is_installed"]

_WHEEL: Final = "pytriton"
_STUB: Final = "triton_python_backend_stub"
_INSTALL: Final = "Install the extra: pip install 'dagster-ml-platform[triton]'."


@dataclass(frozen=True)
class Installation:
    """A server that can be started.

    Attributes:
        binary: ``tritonserver``.
        backends: the folder of backends; it holds ``python/`` with the stub of the running interpreter.
        libraries: folders for ``LD_LIBRARY_PATH``.
    """

    binary: Path
    backends: Path
    libraries: tuple[Path, ...]

    @classmethod
    def prepare(cls, folder: Path) -> Self:
        """Finds the wheel and lays out below ``folder`` what it lacks; doing it again changes nothing.

        Raises:
            SettingsError: the wheel is absent, has no stub for this Python, or the interpreter has no shared library.
        """
        wheel = _wheel()
        server = wheel / "tritonserver"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = server / "python_backend_stubs" / version / _STUB
        if not stub.is_file():
            raise SettingsError(
                f"The inference server has no part for Python {version}.",
                field="nvidia-pytriton",
                next_step="Use a Python that it supports, such as 3.11.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        backend = folder / "backends" / "python"
        backend.mkdir(parents=True, exist_ok=True)
        for found in (server / "backends" / "python").iterdir():
            if found.is_file():
                _copy(found, backend / found.name)
        _copy(stub, backend / _STUB, executable=True)
        return cls(
            binary=_executable(server / "bin" / "tritonserver", folder),
            backends=backend.parent,
            libraries=(wheel.parent / "nvidia_pytriton.libs", _interpreter_library()),
        )

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The server's environment.

        The stub's Python is isolated: it takes its packages from the first ``python3`` on PATH, so the running
        environment comes first there.
        """
        libraries = [*map(str, self.libraries), *filter(None, [environ.get("LD_LIBRARY_PATH")])]
        paths = [str(Path(sys.executable).parent), *filter(None, [environ.get("PATH")])]
        return {**environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries), "PATH": os.pathsep.join(paths)}


def is_installed() -> bool:
    """Whether this environment has the wheel."""
    return importlib.util.find_spec(_WHEEL) is not None


def _wheel() -> Path:
    found = importlib.util.find_spec(_WHEEL)  # located, never imported: it would start threads and loggers
    if found is None or not found.submodule_search_locations:
        raise SettingsError("The inference server is not installed here.", field="triton", next_step=_INSTALL)
    return Path(found.submodule_search_locations[0])


def _copy(source: Path, target: Path, *, executable: bool = False) -> None:
    """A copy that is whole or absent, and made again only when the wheel changed."""
    size, when = source.stat().st_size, source.stat().st_mtime_ns
    if target.exists() and (target.stat().st_size, target.stat().st_mtime_ns) == (size, when):
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, temporary)
    temporary.chmod(0o755 if executable else 0o644)
    os.utime(temporary, ns=(when, when))
    temporary.replace(target)


def _executable(binary: Path, folder: Path) -> Path:
    if os.access(binary, os.X_OK):
        return binary
    _copy(binary, folder / "bin_tritonserver", executable=True)
    return folder / "bin_tritonserver"


def _interpreter_library() -> Path:
    """The folder of ``libpython3.x.so``, to which the stub is linked."""
    name = sysconfig.get_config_var("INSTSONAME") or ""
    folders = [sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LIBPL")]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += [f"/usr/lib/{multiarch}"] if multiarch else []
    for folder in filter(None, folders):
        if ".so" in name and (Path(folder) / name).exists():
            return Path(folder)
    raise SettingsError(
        "This Python has no shared library, to which the inference server's Python backend is linked.",
        field="python",
        next_step="Use a Python that was built with --enable-shared (Debian: libpython3-dev).",
    )
