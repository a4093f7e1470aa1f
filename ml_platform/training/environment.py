"""What a model was trained in: packages, interpreter, image, processor, graphics cards, threads."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final

from ml_platform.training.absent import Absent, as_json

__all__ = ["Environment", "capture"]

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Environment:
    """A process's surroundings as far as they can change a result. Holds no host name, user or path."""

    packages: Mapping[str, str] = field(hash=False)
    runtime: Mapping[str, str] = field(hash=False)
    image: str | Absent
    cpu: str | Absent
    gpu: tuple[str, ...] | Absent
    threads: int

    def items(self) -> dict[str, object]:
        """The items of the run record: ``packages``, ``runtime``, ``image``, ``hardware``."""
        hardware = {"cpu": self.cpu, "gpu": self.gpu, "threads": self.threads}
        return {
            "packages": dict(self.packages),
            "runtime": dict(self.runtime),
            "image": self.image,
            "hardware": hardware,
        }

    def to_json(self) -> dict[str, object]:
        return {name: as_json(item) for name, item in self.items().items()}


def capture(*, threads: int, image_digest: str | None = None, proc: Path = Path("/proc")) -> Environment:
    """Reads the surroundings of this process.

    Args:
        threads: what the run pins.
        image_digest: the container image's digest, from the settings or the image itself; ``sha256:…`` may stand
            behind a name.
        proc: where the kernel describes the hardware.
    """
    return Environment(
        packages=_packages(),
        runtime={
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "system": platform.system(),
            "machine": platform.machine(),
            "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        },
        image=_image(image_digest),
        cpu=_cpu(proc),
        gpu=_gpu(proc),
        threads=threads,
    )


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            # The first on the path is the one that is imported.
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return dict(sorted(found.items()))


def _image(digest: str | None) -> str | Absent:
    if not digest:
        return Absent("The process was not told of a container image.")
    if not _DIGEST.search(digest):
        return Absent("What the process was told of its container image has no digest.")
    return digest


def _cpu(proc: Path) -> str | Absent:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", (proc / "cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    model = found.group(1).strip() if found else platform.processor()
    return model or Absent("The system does not name its processor.")


def _gpu(proc: Path) -> tuple[str, ...] | Absent:
    described = sorted((proc / "driver" / "nvidia" / "gpus").glob("*/information"))
    if not described:
        return Absent("No GPU driver is loaded on this machine.")
    texts = [re.search(r"^Model:\s*(.+)$", path.read_text(), re.MULTILINE) for path in described]
    return tuple(sorted(found.group(1).strip() if found else "unknown" for found in texts))
