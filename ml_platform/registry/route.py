"""The route: which versions answer which share of the requests. A small document that the registry's service key signs.

Route ``ml-platform/route/1``; the file is RFC 8785 JSON {route, signature}, the signature an SSHSIG over the route's
own RFC 8785 bytes under the namespace ``route@ml-platform``. Pure: a router accepts a file by `accept`, against what
was pinned when it was set up (`Pin`) and the newest route that it has ever seen (`Seen`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ml_platform.core.digests import canonical_json, document_digest, parse_canonical
from ml_platform.core.errors import ApprovalInvalid, DeclarationError, Tampered
from ml_platform.registry.bodies import (
    DIGEST,
    HEX32,
    IDENTIFIER,
    INTEGER,
    MODEL,
    POSITIVE,
    TIME,
    Shape,
    choice,
    many,
    optional,
)
from ml_platform.registry.sshsig import fingerprint, public_key_line, sign, verify

__all__ = [
    "ALL_BP",
    "PRIMARY",
    "ROUTE_FORMAT",
    "ROUTE_NAMESPACE",
    "AllowedRollback",
    "Arm",
    "Pin",
    "Reason",
    "Route",
    "Seen",
    "SignedRoute",
    "WhyNot",
    "accept",
    "open_route",
    "sign_route",
]

ROUTE_FORMAT: Final = "ml-platform/route/1"
ROUTE_NAMESPACE: Final = "route@ml-platform"
PRIMARY: Final = "primary"
ALL_BP: Final = 10_000  # basis points: all units

_ARM: Final = Shape({"arm": IDENTIFIER, "version": POSITIVE, "artifact": DIGEST, "share_bp": POSITIVE})
_TARGET: Final = Shape({"version": POSITIVE, "artifact": DIGEST})
_ROUTE: Final = Shape(
    {
        "format": choice(ROUTE_FORMAT),
        "root_id": HEX32,
        "model": MODEL,
        "epoch": POSITIVE,
        "previous": optional(DIGEST),
        "arms": many(_ARM.as_check("{arm, version, artifact, share_bp}"), least=1),
        "salt": HEX32,
        "allowed_rollbacks": many(_TARGET.as_check("{version, artifact}")),
        "supersedes_flip": optional(DIGEST),
        "log_index": INTEGER,
        "issued_at": TIME,
        "key_id": IDENTIFIER,
    }
)


@dataclass(frozen=True, slots=True)
class Arm:
    """A version and the share of the units that it answers, in basis points."""

    arm: str
    version: int
    artifact: str
    share_bp: int


@dataclass(frozen=True, slots=True)
class AllowedRollback:
    """A version to which a local flip may go without the registry."""

    version: int
    artifact: str


@dataclass(frozen=True, slots=True)
class Route:
    """What the registry decided for one model.

    Args:
        root_id: the root.
        model: model name.
        epoch: 1, 2, 3 … without gap.
        previous: digest of the route before; None for the first.
        arms: ``primary`` first; their shares sum to 10,000.
        salt: hex; a new one for each experiment, so that the same units are not always the first.
        allowed_rollbacks: versions that stay loaded, to which a flip may go.
        supersedes_flip: digest of the local rollback that this route ends; None when there was none.
        log_index: the log entry on which it rests.
        issued_at: RFC 3339, wall time.
        key_id: fingerprint of the signing key.

    Raises:
        DeclarationError: a field is wrong, or the arms contradict each other.
    """

    root_id: str
    model: str
    epoch: int
    previous: str | None
    arms: tuple[Arm, ...]
    salt: str
    allowed_rollbacks: tuple[AllowedRollback, ...]
    supersedes_flip: str | None
    log_index: int
    issued_at: str
    key_id: str

    def __post_init__(self) -> None:
        _ROUTE.require(self.document(), what="the route")
        names = [arm.arm for arm in self.arms]
        if names[0] != PRIMARY or len(set(names)) != len(names):
            raise DeclarationError(
                "The first arm is `primary`, and each arm has a name of its own.",
                field="arms",
                next_step="Name the version in production first.",
            )
        if sum(arm.share_bp for arm in self.arms) != ALL_BP:
            raise DeclarationError(
                f"The shares of the arms do not sum to {ALL_BP}.", field="arms", next_step="Share out all units."
            )
        if (self.epoch == 1) != (self.previous is None):
            raise DeclarationError(
                "The first route, and only that, has none before it.",
                field="previous",
                next_step="Name the digest of the route before.",
            )

    def document(self) -> dict[str, Any]:
        """As it is signed."""
        fields = {name: getattr(self, name) for name in _ROUTE.fields if name != "format"}
        fields["arms"] = [asdict(arm) for arm in self.arms]
        fields["allowed_rollbacks"] = [asdict(one) for one in self.allowed_rollbacks]
        return {"format": ROUTE_FORMAT, **fields}

    @property
    def digest(self) -> str:
        """``sha256:…``: the route's identity, in records, flips and the next route."""
        return document_digest("route", self.document())

    @property
    def primary(self) -> Arm:
        return self.arms[0]

    def targets(self) -> dict[int, str]:
        """Versions to which a flip may go, with their artifacts: allowed rollbacks, and the primary itself."""
        allowed = {one.version: one.artifact for one in self.allowed_rollbacks}
        return {**allowed, self.primary.version: self.primary.artifact}

    @property
    def named(self) -> tuple[tuple[int, str], ...]:
        """Every version that must be loaded, with its artifact, each once."""
        arms = [(arm.version, arm.artifact) for arm in self.arms]
        return tuple(dict.fromkeys([*arms, *((one.version, one.artifact) for one in self.allowed_rollbacks)]))


@dataclass(frozen=True, slots=True)
class SignedRoute:
    """A route and the exact bytes of its file."""

    route: Route
    raw: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Pin:
    """What a router knows beforehand: whose routes it follows (a public key line, the root), and for which model."""

    service_key: str
    root_id: str
    model: str


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest route that was ever followed: an older one is refused, however well it is signed."""

    epoch: int
    digest: str


Reason = Literal[
    "torn",
    "forged",
    "other_model",
    "lower_epoch",
    "same_epoch_other_digest",
    "other_previous",
    "missing",
    "unreadable",
    "not_stored",
    "flip_torn",
    "flip_not_allowed",
    "flip_older",
    "flip_missing",
]


@dataclass(frozen=True, slots=True)
class WhyNot:
    """Why an offered file is not followed: a reason to count and to alert by, and a sentence."""

    reason: Reason
    what: str


def sign_route(route: Route, key: Ed25519PrivateKey) -> SignedRoute:
    """The file of a route, signed with the registry's service key.

    Raises:
        DeclarationError: ``key_id`` names another key.
    """
    if route.key_id != fingerprint(public_key_line(key)):
        raise DeclarationError(
            "The route names another key than the one that signs it.",
            field="key_id",
            next_step="Name the fingerprint of the service key.",
        )
    document = route.document()
    signature = sign(key, canonical_json(document), ROUTE_NAMESPACE)
    return SignedRoute(route, canonical_json({"route": document, "signature": signature}), route.digest)


def open_route(raw: bytes, service_key: str) -> SignedRoute:
    """The route of a file, once its signature by the service key is found to be good.

    Raises:
        Tampered: the bytes are no whole route file (field ``route``), or the signature is not the service key's
            (field ``signature``).
    """
    try:
        file = parse_canonical(raw)
        document, armored = dict(file["route"]), str(file["signature"])
        if file.keys() != {"route", "signature"}:
            raise _torn()
        route = _route(document)
    except (ValueError, KeyError, TypeError, RecursionError, DeclarationError):
        raise _torn() from None
    try:
        verify(canonical_json(document), armored, ROUTE_NAMESPACE, service_key)
        known = route.key_id == fingerprint(service_key)
    except ApprovalInvalid:
        known = False
    if not known:
        raise Tampered(
            "The route is not signed by this platform's service key.",
            field="signature",
            next_step="Have the registry write the route again; find out who wrote this one.",
        )
    return SignedRoute(route, raw, route.digest)


def accept(seen: Seen | None, raw: bytes, pin: Pin) -> SignedRoute | WhyNot:
    """Whether a router follows an offered file; the route that it follows already is accepted again.

    Args:
        seen: the newest route that it has ever followed, also before a restart; None: none.
        raw: the bytes of the offered file.
        pin: what it knows beforehand.
    """
    try:
        offered = open_route(raw, pin.service_key)
    except Tampered as error:
        return WhyNot("forged" if error.field == "signature" else "torn", error.what)
    route = offered.route
    if (route.root_id, route.model) != (pin.root_id, pin.model):
        return WhyNot("other_model", "The route is of another root or model.")
    return offered if seen is None else _why_older(seen, offered) or offered


def _why_older(seen: Seen, offered: SignedRoute) -> WhyNot | None:
    route = offered.route
    if route.epoch < seen.epoch:
        return WhyNot("lower_epoch", f"The route has epoch {route.epoch}; {seen.epoch} was followed before.")
    if route.epoch == seen.epoch and offered.digest != seen.digest:
        return WhyNot("same_epoch_other_digest", f"There are two routes of epoch {route.epoch}.")
    if route.epoch == seen.epoch + 1 and route.previous != seen.digest:
        return WhyNot("other_previous", "The route does not follow the one that was followed before.")
    return None


def _route(document: Mapping[str, Any]) -> Route:
    _ROUTE.require(document, what="the route")
    fields = {name: value for name, value in document.items() if name != "format"}
    fields["arms"] = tuple(Arm(**arm) for arm in document["arms"])
    fields["allowed_rollbacks"] = tuple(AllowedRollback(**one) for one in document["allowed_rollbacks"])
    return Route(**fields)


def _torn() -> Tampered:
    return Tampered(
        "The bytes are no whole route file.",
        field="route",
        next_step="Have the registry write the route again.",
    )
