"""One of two machines that score the same partition: a scratch folder of its own, the store shared."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ml_platform.core.storage import StorageSettings
from ml_platform.serving import score_partition
from tests.serving.support import loans, make_world, train


def main(order: dict[str, Any]) -> None:
    root = Path(order["root"])
    storage = StorageSettings(**order["storage"])
    world = make_world(root, train(), store=order["store"], storage=storage)
    parts = world.parts(loans(400), scratch=root / order["machine"])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps(score_partition(world.job(), parts).to_json(), sort_keys=True))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
