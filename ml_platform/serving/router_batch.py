"""A batch on its way through a router: who answers which of its rows, and the answers put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_platform.serving.building import Decided
from ml_platform.serving.online_contract import Admitted
from ml_platform.serving.online_encoding import id_texts_of
from ml_platform.serving.online_request import Request
from ml_platform.serving.router_answers import Answer, Rejection, joined
from ml_platform.serving.served import ServedArm, ServedRoute

__all__ = ["Group", "answers_of", "groups_of", "leave_out"]


@dataclass(slots=True)
class Group:
    """The requests, or rows of requests, that one arm answers: (request's number, its rows; None: all)."""

    arm: ServedArm
    parts: list[tuple[int, Sequence[int] | None]]
    requests: list[Request]
    admitted: Admitted | None = None
    decided: Decided | None = None

    def taken(self) -> list[tuple[int, Sequence[int] | None, int]]:
        """Of each accepted part: the request's number, which of its rows, and how many."""
        if self.admitted is None:
            return []
        return [(*self.parts[place], rows) for place, rows in self.admitted.requests]


def groups_of(served: ServedRoute, requests: Sequence[Request]) -> list[Group]:
    """Who answers what: units by their salted hash, rows of one request perhaps by several arms."""
    primary = served.primary
    if len(served.arms) == 1:
        return [Group(primary, [(number, None) for number in range(len(requests))], list(requests))]
    groups = {name: Group(arm, [], []) for name, arm in served.arms.items()}
    arm_of = served.routed.arm_of
    for number, request in enumerate(requests):
        keys = primary.contract.entity_keys(request)
        names = [arm_of(key).arm for key in keys] if keys else [primary.name]  # the primary says what is wrong
        for name in dict.fromkeys(names):
            rows = None if len(set(names)) == 1 else [row for row, one in enumerate(names) if one == name]
            groups[name].parts.append((number, rows))
            groups[name].requests.append(request if rows is None else _some(request, rows))
    return [group for group in groups.values() if group.parts]


def _some(request: Request, rows: Sequence[int]) -> Request:
    return {name: array[rows] for name, array in request.items()}


def leave_out(group: Group, rejected: dict[int, Rejection]) -> None:
    """Takes out the rows of requests that another arm rejected: all rows of a request are decided, or none."""
    admitted, decided = group.admitted, group.decided
    if admitted is None:
        return
    kept: list[int] = []
    requests: list[tuple[int, int]] = []
    at = 0
    for place, rows in admitted.requests:
        if group.parts[place][0] not in rejected:
            requests.append((place, rows))
            kept += range(at, at + rows)
        at += rows
    if len(kept) == at:
        return
    admitted.requests = requests
    admitted.entity_keys = [admitted.entity_keys[row] for row in kept]
    admitted.bodies = [admitted.bodies[row] for row in kept]
    admitted.flags = {place: admitted.flags[row] for place, row in enumerate(kept) if row in admitted.flags}
    admitted.matrix = admitted.matrix[kept]
    group.decided = None if decided is None or not kept else decided.taken(np.array(kept))


def answers_of(
    groups: Sequence[Group], ids: Sequence[Sequence[bytes]], rejected: dict[int, Rejection], requests: int
) -> list[Answer | Rejection]:
    """Each request's answer, or its rejection, in the order of the requests; ``ids`` are those of each group's rows."""
    found: list[Answer | Rejection | None] = [rejected.get(number) for number in range(requests)]
    split: dict[int, list[tuple[Any, Answer]]] = {}
    for group, made in zip(groups, ids, strict=True):
        decided = group.decided
        if decided is None:
            continue
        epoch = group.arm.encoder.header.epoch or 0
        outputs = {name: values.reshape(-1, 1) for name, values in decided.outputs.items()}
        decisions = [decided.decision_texts[code] for code in decided.decisions.tolist()]
        reasons = [decided.reasons.lists[code] for code in decided.reasons.codes.tolist()]
        texts = id_texts_of(made)
        at = 0
        for number, places, rows in group.taken():
            end = at + rows
            answer = Answer(
                {name: values[at:end] for name, values in outputs.items()},
                decisions[at:end],
                [group.arm.version] * rows,
                texts[at:end],
                reasons[at:end],
                epoch,
            )
            at = end
            if places is None:
                found[number] = answer
            else:
                split.setdefault(number, []).append((places, answer))
    for number, parts in split.items():
        found[number] = joined(parts, sum(len(places) for places, _ in parts))
    return [one for one in found if one is not None]
