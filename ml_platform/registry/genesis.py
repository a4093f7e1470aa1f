"""Genesis: the first entry of a log, whose leaf hash is the platform's identity.

Made once per root by `create`; everything in it holds for ever, except that later entries add and revoke keys and
replace the policy. Pure: keys are made elsewhere (`ml_platform.registry.keyfiles`), randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ml_platform.core.digests import keyed, tagged_hash
from ml_platform.core.errors import ApprovalInvalid, DeclarationError, SettingsError
from ml_platform.registry.kinds import KINDS
from ml_platform.registry.notes import Verifier
from ml_platform.registry.policy import check_policy
from ml_platform.registry.sshsig import public_key_bytes

__all__ = [
    "GENESIS_FORMAT",
    "ORIGIN_PREFIX",
    "Member",
    "check_genesis",
    "create",
    "email_commitment",
    "seed_commitment",
]

GENESIS_FORMAT: Final = "ml-platform/genesis/1"
ORIGIN_PREFIX: Final = "ml-platform/"


@dataclass(frozen=True)
class Member:
    """A person: one principal, whose id says nothing about who it is.

    Args:
        principal: id, lower case.
        public_key: ``ssh-ed25519 <base64>``; a comment is dropped.
        roles: ``approver`` and ``officer``.
        emails: commitments by `email_commitment`.
    """

    principal: str
    public_key: str
    roles: tuple[str, ...] = ("approver", "officer")
    emails: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        """The fields of a key entry."""
        return {
            "principal": self.principal,
            "public_key": " ".join(self.public_key.split()[:2]),
            "roles": sorted(self.roles),
            "emails": sorted(self.emails),
        }


def email_commitment(salt: bytes, email: str) -> str:
    """``hmac-sha256:…`` of an e-mail, which is compared in lower case and without surrounding space.

    Args:
        salt: 32 secret bytes of the root, the same for all e-mails, so that the same person is recognised.
        email: the address.
    """
    return "hmac-sha256:" + keyed(salt, "ml-platform/email/1", ("text", email.strip().lower())).hex()


def seed_commitment(root_seed: bytes) -> str:
    """``sha256:…`` of a replay root's seed, which stays a secret of its own file."""
    return "sha256:" + tagged_hash("ml-platform/seed-commitment/1", ("bytes", root_seed)).hex()


def create(
    *,
    root_id: str,
    root_kind: Literal["wall", "replay"],
    seed_class: Literal["published", "private"],
    seed: bytes | None,
    log_vkey: str,
    service_key: str,
    evaluator_key: str,
    members: Sequence[Member],
    policy: Mapping[str, Any],
    threshold: int = 1,
    recovery_key: str | None = None,
    witness_vkeys: Sequence[str] = (),
    quorum: int = 0,
) -> dict[str, Any]:
    """The body of the genesis entry.

    Args:
        root_id: 16–64 hex characters, random.
        root_kind: ``wall`` or ``replay``, for ever.
        seed_class: ``published`` (the demo: pseudonymous only) or ``private``.
        seed: the root seed of a replay root; None in a wall root.
        log_vkey: the log's note key, named ``ml-platform/<root id>``.
        service_key: public key line that signs routes.
        evaluator_key: public key line that signs evaluations.
        members: the first people and their keys.
        policy: the first policy (`policy_document`).
        threshold: how many officers a key or policy entry needs.
        recovery_key: public key line, kept off line.
        witness_vkeys: note keys of outside witnesses.
        quorum: how many of them must cosign.

    Raises:
        DeclarationError: a wrong field, equal keys, or fewer officers than the threshold.
    """
    body = {
        "format": GENESIS_FORMAT,
        "root_id": root_id,
        "root_kind": root_kind,
        "seed_class": seed_class,
        "seed_commitment": None if seed is None else seed_commitment(seed),
        "origin": ORIGIN_PREFIX + root_id,
        "log_vkey": log_vkey,
        "service_key": _plain(service_key),
        "evaluator_key": _plain(evaluator_key),
        "witnesses": {"vkeys": sorted(witness_vkeys), "quorum": quorum},
        "officers": {
            "members": sorted({member.principal for member in members if "officer" in member.roles}),
            "threshold": threshold,
        },
        "recovery_key": None if recovery_key is None else _plain(recovery_key),
        "keys": [member.body() for member in members],
        "policy": dict(policy),
    }
    check_genesis(body)
    return body


def check_genesis(body: Mapping[str, Any]) -> None:
    """Raises `DeclarationError` when a body is no genesis."""
    KINDS["genesis"].shape.require(body, what="the genesis")
    check_policy(body["policy"])
    _check_officers(body)
    _check_keys(body)
    witnesses = body["witnesses"]
    if witnesses["quorum"] > len(witnesses["vkeys"]):
        raise _wrong("witnesses", "The quorum is larger than the number of witnesses.", "Lower it.")
    if body["origin"] != ORIGIN_PREFIX + body["root_id"]:
        raise _wrong("origin", "The origin does not name this root.", "Use ml-platform/<root id>.")
    if (body["root_kind"] == "replay") != (body["seed_commitment"] is not None):
        raise _wrong("seed_commitment", "A replay root, and only such a one, commits to a seed.", "Pass the seed.")


def _check_officers(body: Mapping[str, Any]) -> None:
    officers = {key["principal"] for key in body["keys"] if "officer" in key["roles"]}
    if officers != set(body["officers"]["members"]) or len(officers) < body["officers"]["threshold"]:
        raise _wrong(
            "officers", "The officers are not those who hold officer keys, or too few.", "Name at least the threshold."
        )
    owners: dict[str, str] = {}
    for key in body["keys"]:
        for email in key["emails"]:
            if owners.setdefault(email, key["principal"]) != key["principal"]:
                raise _wrong("keys", "One e-mail belongs to two principals.", "A person is one principal.")


def _check_keys(body: Mapping[str, Any]) -> None:
    lines = [body["service_key"], body["evaluator_key"], *(key["public_key"] for key in body["keys"])]
    if body["recovery_key"] is not None:
        lines.append(body["recovery_key"])
    try:
        log = Verifier.parse(body["log_vkey"])
        for vkey in body["witnesses"]["vkeys"]:
            Verifier.parse(vkey)
        raw = [log.public, *map(public_key_bytes, lines)]
    except (SettingsError, ApprovalInvalid):
        raise _wrong("keys", "A key is malformed or not Ed25519.", "Copy the public halves again.") from None
    if log.name != body["origin"]:
        raise _wrong("log_vkey", "The log's key does not bear the log's name.", "Name it ml-platform/<root id>.")
    if len(set(raw)) != len(raw):
        raise _wrong("keys", "Two keys are equal; each has one purpose.", "Make a key for each purpose.")


def _plain(line: str) -> str:
    return " ".join(line.split()[:2])


def _wrong(field: str, what: str, next_step: str) -> DeclarationError:
    return DeclarationError(what, field=field, next_step=next_step)
