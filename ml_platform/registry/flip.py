"""The flip: a local rollback, which needs neither registry nor network. Pure.

Flip ``ml-platform/flip/1``: RFC 8785 JSON, not signed: it may only choose among the versions that a signed route
allows. It outranks the route that it names until a route with a higher epoch names the flip's digest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from ml_platform.core.digests import canonical_json, document_digest, parse_canonical
from ml_platform.core.errors import DeclarationError, Tampered
from ml_platform.registry.bodies import DIGEST, EVIDENCE, HEX32, MODEL, POSITIVE, PRINCIPAL, TIME, Shape, choice
from ml_platform.registry.route import ALL_BP, PRIMARY, Arm, Route

__all__ = ["FLIP_FORMAT", "Flip", "effective_arms", "open_flip", "why_not_flip"]

FLIP_FORMAT: Final = "ml-platform/flip/1"
_FLIP: Final = Shape(
    {
        "format": choice(FLIP_FORMAT),
        "root_id": HEX32,
        "model": MODEL,
        "route": DIGEST,
        "target": POSITIVE,
        "artifact": DIGEST,
        "counter": POSITIVE,
        "principal": PRINCIPAL,
        "reason_digest": EVIDENCE,
        "issued_at": TIME,
    }
)


@dataclass(frozen=True, slots=True)
class Flip:
    """Somebody sends all requests to one version, here and now.

    Args:
        root_id: the root.
        model: model name.
        route: digest of the route that it outranks.
        target: the version that answers.
        artifact: that version's artifact.
        counter: 1, 2, 3 … among the flips of one route; the highest holds.
        principal: who did it.
        reason_digest: digest of the written reason.
        issued_at: RFC 3339, wall time.

    Raises:
        DeclarationError: a field is wrong.
    """

    root_id: str
    model: str
    route: str
    target: int
    artifact: str
    counter: int
    principal: str
    reason_digest: str
    issued_at: str

    def __post_init__(self) -> None:
        _FLIP.require(self.document(), what="the flip")

    def document(self) -> dict[str, Any]:
        return {"format": FLIP_FORMAT, **asdict(self)}

    @property
    def raw(self) -> bytes:
        """The bytes of its file."""
        return canonical_json(self.document())

    @property
    def digest(self) -> str:
        """``sha256:…``: the flip's identity, in records and in the route that ends it."""
        return document_digest("flip", self.document())


def open_flip(raw: bytes) -> Flip:
    """The flip of a file; raises `Tampered` when the bytes are no whole one."""
    try:
        document = parse_canonical(raw)
        _FLIP.require(document, what="the flip")
        return Flip(**{name: value for name, value in document.items() if name != "format"})
    except (ValueError, TypeError, RecursionError, DeclarationError):
        raise Tampered(
            "The bytes are no whole flip file.", field="flip", next_step="Roll back again with `mlp rollback`."
        ) from None


def why_not_flip(flip: Flip, route: Route, digest: str) -> str | None:
    """Why a flip does not hold beside a route; None when it does, or when the route has ended it.

    Args:
        flip: what lies beside the route.
        route: the route that is followed.
        digest: its digest.
    """
    if (flip.root_id, flip.model) != (route.root_id, route.model):
        return "The flip is of another root or model."
    if flip.route != digest and route.supersedes_flip == flip.digest:
        return None
    if route.targets().get(flip.target) != flip.artifact:
        return f"Version {flip.target} is none of the rollbacks that the route allows."
    return None


def effective_arms(route: Route, digest: str, flip: Flip | None) -> tuple[tuple[Arm, ...], Flip | None]:
    """Which versions answer, and the flip that says so (None: the route itself does).

    A flip that does not hold, or that the route has ended, changes nothing. One that names another route and was
    not ended holds wherever its target is allowed: a person's rollback is not lost by a route that overlooked it.
    """
    if flip is None or route.supersedes_flip == flip.digest or why_not_flip(flip, route, digest) is not None:
        return route.arms, None
    return (Arm(PRIMARY, flip.target, flip.artifact, ALL_BP),), flip
