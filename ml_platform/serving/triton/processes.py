"""What the operating system knows of a server's processes (Linux)."""

from __future__ import annotations

from pathlib import Path

__all__ = ["dead_children", "is_running"]

_PROC = Path("/proc")


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    return _state(pid) not in {"", "Z", "X"}


def dead_children(pid: int) -> frozenset[int]:
    """Children of a process that have died and that it has not taken note of.

    Triton never replaces a Python process that was killed: the model answers with errors until the server is started
    again. A child that ends in order is a zombie for a moment as well: look twice.
    """
    children: set[int] = set()
    for listing in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            children.update(map(int, listing.read_text().split()))
        except (OSError, ValueError):
            continue  # the thread has just ended
    return frozenset(child for child in children if _state(child) == "Z")


def _state(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
