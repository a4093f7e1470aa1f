"""``Platform``: the chosen parts of one root, opened from its settings.

A root is a folder with ``settings.toml``, a registry, an object store, a lake, the subjects' seeds and the secrets
(0600, in a 0700 folder). Every process, Dagster's too, opens it the same way.
"""

from __future__ import annotations

import secrets as randomness
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ml_platform.core.clock import Clock, ReplayClock, WallClock
from ml_platform.core.delta import Lake
from ml_platform.core.errors import Conflict, DeclarationError, SettingsError
from ml_platform.core.files import write_atomically
from ml_platform.core.new_store import require_usable
from ml_platform.core.objects import ObjectStore
from ml_platform.core.settings import Settings, load_settings, settings_path, settings_text
from ml_platform.core.storage import is_remote
from ml_platform.core.subjects import Subjects
from ml_platform.registry import genesis as genesis_rules
from ml_platform.registry.checkpoints import CheckpointSigner
from ml_platform.registry.genesis import Member
from ml_platform.registry.keyfiles import load_signer, new_key, public_path
from ml_platform.registry.notes import Signer
from ml_platform.registry.policy import policy_document
from ml_platform.registry.registry import Registry
from ml_platform.registry.sql import require_file

__all__ = ["DEFAULT_POLICY", "Platform", "RootKind", "Secrets"]

RootKind = Literal["wall", "replay"]

# What officers sign when they say nothing else: people approve, calibration may ask them, fairness data may be absent
# where the settings say why.
_STAGES: Final = {"canary": 1, "production": 1}
_RULES: Final = {
    "approvers": _STAGES,
    "gates": [],
    "may_ask": ["calibrated", "brier_skill"],
    "may_be_unavailable": ["group_ratio"],
}
DEFAULT_POLICY: Final[dict[str, Any]] = policy_document(dict.fromkeys(("high", "limited", "minimal"), _RULES))


@dataclass(frozen=True)
class Secrets:
    """The private files of a root. Nothing of their content is ever shown, logged or stored elsewhere."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def make(self, *, root_id: str, root_seed: bytes | None) -> None:
        """Makes every private file of a new root.

        Raises:
            Conflict: one of them exists already.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log_key = Signer(f"ml-platform/{root_id}", Ed25519PrivateKey.generate())
        write_atomically(self.path("log.skey"), log_key.to_skey().encode(), mode=0o600)
        write_atomically(self.path("email_salt"), randomness.token_bytes(32), mode=0o600)
        if root_seed is not None:
            write_atomically(self.path("root_seed"), root_seed, mode=0o600)
        for name in ("service", "evaluator"):
            new_key(self.path(name), comment=f"{name}@ml-platform")

    def raw(self, name: str) -> bytes:
        """A secret's bytes.

        Raises:
            SettingsError: the file is missing or others may read it.
        """
        path = self.path(name)
        try:
            mode = path.stat().st_mode
            raw = path.read_bytes()
        except OSError as error:
            raise SettingsError(
                "A secret of this root cannot be read.", field=name, next_step="Restore `secrets` from its backup."
            ) from error
        if mode & 0o077:
            raise SettingsError(
                "A secret may be read by others.", field=name, next_step="chmod 600 it, and consider it known."
            )
        return raw

    def log_signer(self) -> CheckpointSigner:
        """The key of the audit log, with its high-water mark."""
        return CheckpointSigner(Signer.parse(self.raw("log.skey").decode()), self.path("log.high_water"))

    def evaluator(self) -> Ed25519PrivateKey:
        """The key that signs evaluations."""
        return load_signer(self.path("evaluator"))

    def service(self) -> Ed25519PrivateKey:
        """The key that signs routes."""
        return load_signer(self.path("service"))

    def public_line(self, name: str) -> str:
        return public_path(self.path(name)).read_text().strip()

    @property
    def email_salt(self) -> bytes:
        return self.raw("email_salt")


@dataclass(frozen=True)
class Platform:
    """The parts of one root. Frozen: another choice of parts is another platform."""

    settings: Settings
    clock: Clock
    wall: Clock
    objects: ObjectStore
    lake: Lake
    subjects: Subjects
    registry: Registry
    secrets: Secrets

    @property
    def root(self) -> Path:
        return self.settings.root

    @property
    def replay(self) -> ReplayClock:
        """The clock of a replay root.

        Raises:
            SettingsError: this is a wall root: nobody sets its clock.
        """
        if isinstance(self.clock, ReplayClock):
            return self.clock
        raise SettingsError("A wall root's clock cannot be set.", field="kind", next_step="Use a replay root.")

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        kind: RootKind,
        members: Sequence[Member] = (),
        member_emails: Mapping[str, Sequence[str]] | None = None,
        member_keys: Mapping[str, Sequence[str]] | None = None,
        policy: Mapping[str, Any] | None = None,
        published_seed: bytes | None = None,
        unavailable: Mapping[str, str] | None = None,
        threshold: int = 1,
        starts_at: datetime | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """Makes a root and its genesis.

        Args:
            root: an empty or absent folder.
            kind: ``wall`` or ``replay``, for ever.
            members: the first people; their keys were made elsewhere.
            member_emails: principal → e-mails of these people, by which commit authors are recognised; the log holds
                salted commitments only.
            member_keys: instead: principal → e-mails, for whom keys are made under ``secrets/people/``.
            policy: the first policy; ``DEFAULT_POLICY`` if none is given.
            published_seed: the root seed of a replay root that everybody may know (a demo); random and private if none.
            unavailable: protected attributes without data here, with the written reason.
            threshold: how many officers sign for a key or a policy.
            starts_at: where the clock of a replay root stands at first.
            settings: further settings of its file, such as ``lake``, ``objects`` and ``storage``.

        Raises:
            Conflict: the folder, or a store that the settings name, already holds something.
            DeclarationError: a wrong policy, or no officers.
            SettingsError: a wrong setting, or a store that does not honour create-if-absent.
            StorageFailed: such a store cannot be reached.
        """
        if root.exists() and any(root.iterdir()):
            raise Conflict("The folder is not empty.", field=root.name, next_step="Use an empty or a new folder.")
        root.parent.mkdir(parents=True, exist_ok=True)
        # Built beside and renamed: a root is whole or absent, whenever the process is killed.
        building = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-"))
        try:
            seed = (published_seed or randomness.token_bytes(32)) if kind == "replay" else None
            root_id = randomness.token_hex(16)
            keeper = Secrets(building / "secrets")
            keeper.make(root_id=root_id, root_seed=seed)
            body = genesis_rules.create(
                root_id=root_id,
                root_kind=kind,
                seed_class="published" if published_seed is not None and kind == "replay" else "private",
                seed=seed,
                log_vkey=keeper.log_signer().key.verifier.vkey,
                service_key=keeper.public_line("service"),
                evaluator_key=keeper.public_line("evaluator"),
                members=[*_known_by(keeper, members, member_emails or {}), *_make_people(keeper, member_keys or {})],
                policy=policy or DEFAULT_POLICY,
                threshold=threshold,
            )
            file = building / "settings.toml"
            text = settings_text({"kind": kind, **(settings or {}), "unavailable": dict(unavailable or {})})
            write_atomically(file, text.encode())
            _require_stores(load_settings(file))
            if kind == "replay":
                ReplayClock(building / "clock").move(starts_at or datetime(1970, 1, 1, tzinfo=UTC))
            platform = cls.from_settings(file, genesis=body)
            platform.registry.close()
            building.rename(root)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return cls.local(root)

    @classmethod
    def local(cls, root: Path) -> Self:
        """Opens the root in a folder."""
        return cls.from_settings(settings_path(root))

    @classmethod
    def from_settings(cls, path: Path, *, genesis: Mapping[str, Any] | None = None) -> Self:
        """Opens the root that a settings file names; with ``genesis``, writes it first.

        Raises:
            SettingsError: the settings or a secret cannot be used.
        """
        settings = load_settings(path)
        wall = WallClock()
        keeper = Secrets(settings.root / "secrets")
        replay = settings.kind == "replay"
        clock: Clock = ReplayClock(settings.root / "clock") if replay else wall
        objects = ObjectStore(settings.objects, settings.storage)
        parts: dict[str, Any] = {"signer": keeper.log_signer(), "clock": clock, "wall": wall}
        if genesis is None:
            require_file(settings.registry)
            registry = Registry.open(settings.registry, objects, **parts)
        else:
            registry = Registry.create(settings.registry, objects, genesis, **parts)
        return cls(
            settings=settings,
            clock=clock,
            wall=wall,
            objects=objects,
            lake=Lake(settings.lake, settings.storage, scratch=settings.root / "scratch"),
            subjects=Subjects(
                settings.root / "subjects" / "subjects.sqlite", root_seed=keeper.raw("root_seed") if replay else None
            ),
            registry=registry,
            secrets=keeper,
        )

    @property
    def root_id(self) -> str:
        genesis = self.registry.state().genesis
        if genesis is None:
            raise SettingsError("The registry has no genesis.", field="registry", next_step="Restore it from a backup.")
        return genesis.root_id


def _require_stores(settings: Settings) -> None:
    for name, place in (("lake", settings.lake), ("objects", settings.objects)):
        if is_remote(place):
            require_usable(ObjectStore(place, settings.storage), name)


def _known_by(keeper: Secrets, members: Sequence[Member], emails: Mapping[str, Sequence[str]]) -> list[Member]:
    strangers = sorted(set(emails) - {member.principal for member in members})
    if strangers:
        raise DeclarationError(
            f"E-mails of people who are no members: {', '.join(strangers)}.",
            field="member_emails",
            next_step="Name a member for each.",
        )
    salt = keeper.email_salt
    return [
        replace(
            member,
            emails=(
                *member.emails,
                *(genesis_rules.email_commitment(salt, email) for email in emails.get(member.principal, ())),
            ),
        )
        for member in members
    ]


def _make_people(keeper: Secrets, people: Mapping[str, Sequence[str]]) -> list[Member]:
    salt = keeper.email_salt
    folder = keeper.path("people")
    folder.mkdir(mode=0o700, exist_ok=True)
    return [
        Member(
            principal,
            new_key(folder / principal, comment=principal),
            emails=tuple(genesis_rules.email_commitment(salt, email) for email in emails),
        )
        for principal, emails in people.items()
    ]
