"""Loading a code location of 30 and of 300 models, each in a fresh process.

Counted from the start of the interpreter to a validated repository, imports and declarations included, since every
code server and every run pays that. Reach: 30 models in under 3 s, 300 in under 15 s.
Beside it: ``import dagster`` alone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

REACH_SECONDS = {30: 3.0, 300: 15.0}
RUNS = 3

LOAD = """
import sys
from dataclasses import replace
import dagster as dg
from assets.credit_risk import credit_risk
from ml_platform import FeatureView, mean
from ml_platform.orchestration import definitions

def view(number):
    own = credit_risk.stored_views[0]
    return FeatureView(f"history_{number}", entity=own.entity, source=own.source, refresh="1d",
                       aggregations=[mean("defaulted", over="720d", name="defaulted_mean_720d")])

def model(number):
    features = [credit_risk.request, view(number // 3)]  # three models share a view
    return replace(credit_risk, name=f"model_{number}", features=features)

defs = definitions([model(number) for number in range(int(sys.argv[1]))])
dg.Definitions.validate_loadable(defs)
print(len(list(defs.resolve_all_asset_specs())))
"""


def seconds(code: str, *arguments: str) -> tuple[float, str]:
    """The fastest of a few fresh processes, and what the last one printed."""
    best, printed = float("inf"), ""
    for _ in range(RUNS):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=Path(__file__).resolve().parent.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        best, printed = min(best, time.perf_counter() - started), done.stdout.strip()
    return best, printed


def main() -> None:
    bare, _ = seconds("import dagster")
    print(f"import dagster                     {bare:6.2f} s")
    for models, reach in REACH_SECONDS.items():
        taken, assets = seconds(LOAD, str(models))
        verdict = "reached" if taken < reach else "NOT REACHED"
        print(
            f"{models:4d} models, {assets:>5} assets         {taken:6.2f} s   "
            f"{taken / bare:5.1f} x import dagster   reach < {reach:.0f} s: {verdict}"
        )


if __name__ == "__main__":
    main()
