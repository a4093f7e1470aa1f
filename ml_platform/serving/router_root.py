"""What a router is made of, and what it reads of its root beside the route."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ml_platform.core.contract import Contract
from ml_platform.core.errors import SettingsError
from ml_platform.core.objects import ObjectStore
from ml_platform.core.settings import Settings
from ml_platform.core.storage import is_remote
from ml_platform.core.subjects import Subjects
from ml_platform.features import definitions
from ml_platform.features.request_view import RequestView
from ml_platform.features.views import FeatureView
from ml_platform.registry.routefile import RouteFile
from ml_platform.serving.features_lookup import FeatureLookup
from ml_platform.serving.router_clock import RouterClock
from ml_platform.serving.scorer import Scorer
from ml_platform.serving.served import Executor
from ml_platform.serving.wal import WalWriter

__all__ = ["RouterParts", "entity_of", "object_store", "root_seed", "shared_seed"]


@dataclass(frozen=True)
class RouterParts:
    """What a router is made of.

    Args:
        root_id, model: whose decisions it records.
        routes: tells before every batch which versions answer.
        clock: ``decided_at``.
        load: the scorer of an artifact digest; reads the object store.
        shared_seed: the seed under which refused rows of a contract's entity are found.
        log: the write-ahead log of this process, made for the boot id ``writer``.
        features: finds stored features; None where no version has any.
        executor: scores a version's rows elsewhere; None: by onnxruntime in this process.
        longest_text: bytes of a key or category beyond which a request is refused.
    """

    root_id: str
    model: str
    routes: RouteFile
    clock: RouterClock
    load: Callable[[str], Scorer]
    shared_seed: Callable[[Contract], bytes]
    log: WalWriter
    writer: str
    features: FeatureLookup | None = None
    executor: Executor | None = None
    longest_text: int = 1024


def object_store(settings: Settings) -> ObjectStore:
    """The store of a root; a relative folder counts from the root, for a server's working folder is nobody's choice."""
    where = settings.objects
    place = where if is_remote(where) or Path(where).is_absolute() else str(settings.root / where)
    return ObjectStore(place, settings.storage)


def entity_of(objects: ObjectStore, contract: Contract) -> str:
    """The name of the entity that a contract's rows are about.

    Raises:
        NotFound: the definition that its fields come from is gone.
        SettingsError: it is no definition of a view.
    """
    # A stored view may be about another entity, such as the purpose of a loan; the request is about the model's own.
    item = (*contract.inputs, *contract.fields)[0]
    found = definitions.load(objects, item.reference.split("@")[1].rpartition(":")[0])
    if not isinstance(found, RequestView | FeatureView):
        raise SettingsError("A contract's field comes from no view.", field=item.name, next_step="Register it again.")
    return found.entity.name


def shared_seed(settings: Settings, objects: ObjectStore, contract: Contract) -> bytes:
    """The seed of the empty key of the contract's entity, made where it is new.

    Raises:
        SettingsError: the root's seed cannot be read.
        StorageFailed: the seeds cannot be read or written.
    """
    subjects = Subjects(settings.root / "subjects" / "subjects.sqlite", root_seed=root_seed(settings))
    return subjects.seeds(entity_of(objects, contract), [b""])[0]


def root_seed(settings: Settings) -> bytes | None:
    """The seed of a replay root; None in a wall root. Raises ``SettingsError`` where it cannot be used."""
    if settings.kind == "wall":
        return None
    path = settings.root / "secrets" / "root_seed"
    try:
        private = not path.stat().st_mode & 0o077
        raw = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            "A secret of this root cannot be read.", field="root_seed", next_step="Restore `secrets` from its backup."
        ) from error
    if not private:
        raise SettingsError(
            "A secret may be read by others.", field="root_seed", next_step="chmod 600 it, and consider it known."
        )
    return raw
