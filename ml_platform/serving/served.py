"""The versions that a route names, loaded, and its arms, ready to decide: so that a flip loads nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml_platform.core.contract import Contract
from ml_platform.registry.route import PRIMARY
from ml_platform.registry.routefile import Routed
from ml_platform.serving.building import Decided
from ml_platform.serving.online_contract import OnlineContract
from ml_platform.serving.online_encoding import DecisionEncoder
from ml_platform.serving.online_request import NULL_SUFFIX
from ml_platform.serving.record import Header
from ml_platform.serving.scorer import Scorer

__all__ = ["Executor", "ServedArm", "ServedRoute", "Versions", "request_names"]

Executor = Callable[[int, npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Scores [n] of a version's encoded rows [n, f] elsewhere; raises ``PlatformError`` when it cannot."""


def request_names(contract: Contract) -> frozenset[str]:
    """The tensors that a version takes."""
    inputs = [item.name for item in contract.inputs]
    keys = [name for name, _ in contract.entity_keys]
    return frozenset([*keys, contract.time, *inputs, *(name + NULL_SUFFIX for name in inputs)])


@dataclass(frozen=True, slots=True)
class ServedArm:
    """One arm of the route that is followed."""

    name: str
    version: int
    scorer: Scorer
    contract: OnlineContract
    encoder: DecisionEncoder

    def decide(self, executor: Executor | None, matrix: npt.NDArray[np.float32]) -> Decided:
        """What the version says of rows; scored by onnxruntime in this process where there is no executor."""
        if executor is None:
            return self.scorer.decide(matrix)
        return self.scorer.judge(matrix, executor(self.version, matrix))


@dataclass(frozen=True, slots=True)
class ServedRoute:
    """The route that is followed, with its arms by name."""

    routed: Routed
    arms: dict[str, ServedArm]

    @property
    def primary(self) -> ServedArm:
        return self.arms[PRIMARY]


class Versions:
    """Loads each artifact once.

    Args:
        load: the scorer of an artifact digest.
        root_id, model, clock, writer: land in every header.
        longest_text: bytes of a key or category beyond which a request is refused.
    """

    def __init__(
        self, load: Callable[[str], Scorer], *, root_id: str, model: str, clock: str, writer: str, longest_text: int
    ) -> None:
        self._load = load
        self._root = (root_id, model, clock, writer)
        self._longest = longest_text
        self._scorers: dict[str, Scorer] = {}

    def serve(self, routed: Routed) -> ServedRoute:
        """Loads what the route names and is not loaded, and makes its arms; forgets what no route names any more.

        Raises:
            PlatformError: a version cannot be loaded; what was loaded stays.
        """
        artifacts = dict.fromkeys(artifact for _, artifact in routed.versions)
        loaded = {digest: self._scorers.get(digest) or self._warmed(digest) for digest in artifacts}
        also = frozenset[str]().union(*(request_names(scorer.contract) for scorer in loaded.values()))
        arms = {arm.arm: self._arm(routed, arm.arm, arm.version, loaded[arm.artifact], also) for arm in routed.arms}
        self._scorers = loaded
        return ServedRoute(routed, arms)

    def _warmed(self, digest: str) -> Scorer:
        scorer = self._load(digest)
        scorer.warm()
        return scorer

    def _arm(self, routed: Routed, name: str, version: int, scorer: Scorer, also: frozenset[str]) -> ServedArm:
        root_id, model, clock, writer = self._root
        header = Header(
            root_id=root_id,
            model=model,
            version=version,
            mode="online",
            role=name,
            decision_of_record=True,
            contract_digest=scorer.contract.digest,
            artifact_digest=scorer.artifact_digest,
            route_digest=routed.digest,
            epoch=routed.epoch,
            flip_digest=routed.flip_digest,
            clock=clock,
            decided_at_us=0,
            recorded_at_us=0,
            latency_us=0,
            supersedes=None,
            pair_of=None,
            writer=writer,
            prediction_id=bytes(16),
            seq=0,
        )
        contract = OnlineContract(scorer.contract, also=also, longest_text=self._longest)
        return ServedArm(name, version, scorer, contract, DecisionEncoder(header))
