"""A router in a process of its own, for test_router_faults.py: answers batches for ever, and says each answer's id.

Prints one line a batch, after its answers are out: JSON of [prediction id or null for a refused request, loan].
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import numpy as np

from ml_platform.core.settings import load_settings
from ml_platform.serving.router import Router
from ml_platform.serving.router_answers import Answer
from tests.serving.router_support import MODEL, Store, plain


def main() -> None:
    settings = load_settings(Path(sys.argv[1]) / "settings.toml")
    router = Router.open(settings, MODEL, features=Store())
    threads = int(sys.argv[2])
    write = threading.Lock()

    def work(mark: int) -> None:
        batch = 0
        while True:
            loans = [mark * 1_000_000 + batch * 16 + place for place in range(1 + batch % 16)]
            requests = [
                plain(loan, grade=np.array([[b"Z"]], object)) if loan % 11 == 0 else plain(loan) for loan in loans
            ]
            said = [
                (one.prediction_ids[0] if isinstance(one, Answer) else None, loan)
                for one, loan in zip(router.handle(requests), loans, strict=True)
            ]
            with write:
                os.write(1, json.dumps(said).encode() + b"\n")
            batch += 1

    workers = [threading.Thread(target=work, args=(mark,)) for mark in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
