"""What starting costs: `import ml_platform` and `mlp --help`, beside an empty Python in the same run.

Each command runs in a process of its own, in turns, so that a busy moment of the machine touches all of them alike.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import ml_platform": ["-c", "import ml_platform"],
    "mlp --help": ["-m", "ml_platform.cli", "--help"],
    "mlp trace --help": ["-m", "ml_platform.cli", "trace", "--help"],
}
REACH_SECONDS = {"import ml_platform": 0.3, "mlp --help": 0.3}


def seconds(arguments: list[str]) -> float:
    """Wall time of one process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        seconds(arguments)  # compiled files and the disk cache
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            taken[name].append(seconds(arguments))
    empty = statistics.median(taken["python -c pass"])
    print(f"{'command':<22}{'median s':>10}{'worst s':>10}{'x empty':>10}{'reach s':>10}")
    for name, found in taken.items():
        median, reach = statistics.median(found), REACH_SECONDS.get(name)
        verdict = "" if reach is None else f"{reach:>10.1f}  {'reached' if median < reach else 'NOT reached'}"
        print(f"{name:<22}{median:>10.3f}{max(found):>10.3f}{median / empty:>10.1f}{verdict}")


if __name__ == "__main__":
    main()
