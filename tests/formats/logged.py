"""Golden vectors of the write-ahead log: frames, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ml_platform.core.contract import Refusal
from ml_platform.serving.online_record import LoggedDecision, LoggedRefusal, encode_decision, encode_refusal
from ml_platform.serving.wal import WriterInfo, frame
from tests.serving.test_record import HEADER, SALT, SECTION

WRITER = "router-00112233445566778899aabbccddeeff"
ONLINE = replace(
    HEADER,
    mode="online",
    role="canary",
    route_digest="sha256:" + "22" * 32,
    epoch=3,
    flip_digest="sha256:" + "33" * 32,
    latency_us=412,
    writer=WRITER,
)
REFUSAL = LoggedRefusal(
    writer=WRITER,
    model="credit_risk",
    version=1,
    contract_digest=HEADER.contract_digest,
    decided_at_us=HEADER.decided_at_us,
    recorded_at_us=HEADER.recorded_at_us,
    row_index=bytes(range(32)),
    refusals=(Refusal(0, "grade", "unknown", "an unknown category"),),
)
INFO = WriterInfo(WRITER, "router", "credit_risk", "0123456789abcdef", "2026-11-23T09:00:00.123456Z", 42)

COMPUTED: dict[str, Callable[[], str]] = {
    "wal frame": lambda: frame(b"abc").hex(),
    "wal decision": lambda: encode_decision(LoggedDecision(ONLINE, SECTION, SALT)).hex(),
    "wal refusal": lambda: encode_refusal(REFUSAL).hex(),
    "wal-writer/1": lambda: INFO.to_bytes().decode(),
}
