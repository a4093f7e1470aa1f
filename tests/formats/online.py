"""Golden vectors of the online store in Redis, and of rejected periods."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from ml_platform import Entity, FeatureView, SameAsEvent, Source, category, number
from ml_platform.core.digests import canonical_json
from ml_platform.features.online import AT, EVENT, KEY, key_bytes
from ml_platform.features.published import lock_text
from ml_platform.features.quality import judge, null_rate, volume
from ml_platform.features.redis_layout import bucket_of, kinds_of, members_of, upper_bound
from ml_platform.features.tables import RejectedPart
from ml_platform.lifecycle.rejected import rejected_document

SOURCE = Source(
    "balances",
    columns={"loan_id": "int64", "at": "timestamp", "amount": "float64", "word": "string"},
    keys=("loan_id",),
    event_time="at",
    known_time=SameAsEvent("the row is the event"),
)
VIEW = FeatureView(
    "balance",
    entity=Entity("loan", ("loan_id",)),
    source=SOURCE,
    columns=(number("amount"), category("word", nullable=True)),
)
POINTS = pa.table(
    {
        KEY: pa.array([key_bytes(VIEW, (42,))], pa.binary()),
        AT: pa.array([1_000_000]),
        EVENT: pa.array([999_999]),
        "amount": [0.5],
        "word": pa.array([None], pa.string()),
    }
)


def rejected() -> str:
    rows = pa.table({"loan_id": [1, 2], "amount": pa.array([0.5, None], pa.float64())})
    judged = judge([null_rate("amount", most=0.25), volume(least=1, change=0.5)], rows, rows_before=4)
    part = RejectedPart("2010-07", rows, tuple(judged))
    return canonical_json(rejected_document(VIEW, part, "sha256:" + "00" * 32)).decode()


COMPUTED: dict[str, Callable[[], str]] = {
    "online/1 kinds": lambda: ",".join(kinds_of(VIEW, POINTS)),
    "online/1 member": members_of(VIEW, POINTS)[0].hex,
    "online/1 bucket": lambda: str(bucket_of(key_bytes(VIEW, (42,)) or b"")),
    "rejected/1": rejected,
    "feature-lock/1 head": lambda: lock_text([VIEW]).decode().splitlines()[0],
    "online/1 bound": lambda: upper_bound(key_bytes(VIEW, (42,)) or b"", 1_000_000).hex(),
}
