"""One batch of recorded decisions through a shadow version: its records, and what became of those without one."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_platform.core.contract import Contract
from ml_platform.core.errors import PlatformError
from ml_platform.core.ids import uuid_v7
from ml_platform.core.rows import micros
from ml_platform.governance.contracts import KnownContracts
from ml_platform.lifecycle.shadow_source import Primary
from ml_platform.platform import Platform
from ml_platform.registry.state import VersionState
from ml_platform.rollout.isolated import IsolatedScorer
from ml_platform.rollout.shadow import not_held, see, shadow_header, shadow_section
from ml_platform.serving.building import Decided
from ml_platform.serving.online_record import LoggedDecision, encode_decision
from ml_platform.serving.record import Header, Section

__all__ = ["ShadowRecorder"]


@dataclass
class ShadowRecorder:
    """Makes the records of one writer, numbered without a gap.

    Attributes:
        recorded: decisions beside which an earlier run has recorded already, without having counted them.
        unanswered: batches in a row that the version failed or did not answer in time.
        writer: its boot id.
    """

    platform: Platform
    version: VersionState
    scorer: IsolatedScorer
    recorded: set[bytes] = field(default_factory=set)
    unanswered: int = 0
    writer: str = field(default_factory=lambda: f"shadow-{secrets.token_hex(16)}")
    _seq: int = 0

    def __post_init__(self) -> None:
        self._contracts = KnownContracts(self.platform)
        self._contract = self._contracts(self.version.digests.contract)

    def frames(self, batch: Sequence[Primary], counts: Counter[str]) -> list[bytes]:
        """The records to append; ``counts`` takes one of ``shadow_cursor.COUNTS`` for each decision."""
        groups: dict[str, list[tuple[Header, Section]]] = {}
        for one in batch:
            if one.header.version == self.version.number:
                counts["own"] += 1
            elif one.header.prediction_id in self.recorded:
                counts["pairs"] += 1
            elif one.section is None:
                counts["erased"] += 1
            else:
                groups.setdefault(one.header.contract_digest, []).append((one.header, one.section))
        made: list[bytes] = []
        for digest, rows in groups.items():
            recorded = self._contracts(digest)
            if not_held(recorded, self._contract):
                counts["not_comparable"] += len(rows)
            else:
                made += self._decided(rows, recorded, counts)
        counts["pairs"] += len(made)
        return made

    def _decided(self, rows: Sequence[tuple[Header, Section]], recorded: Contract, counts: Counter[str]) -> list[bytes]:
        """The records of the rows that the version accepts and answers."""
        seen = see([section for _, section in rows], recorded, self._contract)
        counts["refused"] += seen.refused
        counts["not_comparable"] += seen.lost
        decided = self._asked(seen.matrix, counts) if len(seen.accepted) else None
        if decided is None:
            return []
        template, now, made = self._template(), self.platform.clock.now(), []
        for row, place in enumerate(seen.accepted.tolist()):
            primary, section = rows[place]
            prediction_id = uuid_v7(now, secrets.token_bytes(10))
            header = shadow_header(template, primary, prediction_id=prediction_id, seq=self._seq)
            own = shadow_section(section, recorded, self._contract, seen, row, decided)
            made.append(encode_decision(LoggedDecision(header, own, secrets.token_bytes(32))))
            self._seq += 1
        return made

    def _asked(self, matrix: Any, counts: Counter[str]) -> Decided | None:
        try:
            decided = self.scorer.decide(matrix)
        except PlatformError:
            self.unanswered += 1
            counts["failed"] += len(matrix)
            return None
        self.unanswered = self.unanswered + 1 if decided is None else 0
        counts["timed_out"] += len(matrix) if decided is None else 0
        return decided

    def _template(self) -> dict[str, Any]:
        """What the headers of one batch have in common."""
        return {
            "root_id": self.platform.root_id,
            "model": self.version.model,
            "version": self.version.number,
            "contract_digest": self._contract.digest,
            "artifact_digest": self.version.digests.artifact,
            "clock": "replay" if self.platform.settings.kind == "replay" else "wall",
            "decided_at_us": micros(self.platform.clock.now()),
            "recorded_at_us": micros(self.platform.wall.now()),
            "writer": self.writer,
        }
