"""The object store: content-addressed evidence and create-if-absent documents, on a folder or a bucket (obstore)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_platform.core.digests import sha256_hex
from ml_platform.core.errors import ArtifactCorrupt, Conflict, NotFound, StorageFailed

if TYPE_CHECKING:
    from obstore.store import ObjectStore as _Store

__all__ = ["ObjectStore"]

_DIGEST_LENGTH: Final = len("sha256:") + 64


class ObjectStore:
    """Bytes by digest (``objects/sha256/ab/…``) and small documents by path.

    ``url`` is a folder or any URL that ``obstore`` knows (``s3://bucket/prefix``, ``gs://…``, ``az://…``); credentials
    come from the environment's normal chain. What is read by digest is hashed before it is returned.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        self._opened: _Store | None = None

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    @property
    def _store(self) -> _Store:
        if self._opened is None:
            from obstore.store import LocalStore, from_url

            if "://" in self.url:
                self._opened = from_url(self.url)
            else:
                self._opened = LocalStore(self.url, mkdir=True)
        return self._opened

    @staticmethod
    def path_of(digest: str) -> str:
        """Where a digest's bytes lie below the store."""
        if len(digest) != _DIGEST_LENGTH or not digest.startswith("sha256:"):
            raise NotFound("This is not a digest.", next_step='A digest is "sha256:" and 64 hex characters.')
        return f"objects/sha256/{digest[7:9]}/{digest[7:]}"

    def put(self, raw: bytes) -> str:
        """Stores bytes under their SHA-256 and returns it; storing the same bytes again changes nothing."""
        digest = sha256_hex(raw)
        self.create(self.path_of(digest), raw)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a digest.

        Raises:
            NotFound: nothing is stored under it.
            ArtifactCorrupt: the stored bytes have another digest; they are not returned.
        """
        raw = self.read(self.path_of(digest))
        if sha256_hex(raw) != digest:
            raise ArtifactCorrupt(
                f"The stored bytes of {digest} have another digest.",
                next_step="Restore the object from a backup, or rebuild it with `mlp reproduce`.",
            )
        return raw

    def has(self, digest: str) -> bool:
        return self.exists(self.path_of(digest))

    def exists(self, path: str) -> bool:
        from obstore.exceptions import NotFoundError

        try:
            self._store.head(path)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def create(self, path: str, raw: bytes) -> bool:
        """Writes a new document; False if the path already holds something (which is left as it is).

        Raises:
            StorageFailed: the store refused; nothing half-written is visible.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            self._store.put(path, raw, mode="create")
        except (AlreadyExistsError, FileExistsError):
            return False
        except (BaseError, OSError) as error:
            raise StorageFailed(
                f"Writing {path} failed ({type(error).__name__}).",
                next_step="Free space or mend the store, then run it again; nothing half-written is visible.",
            ) from error
        return True

    def create_same(self, path: str, raw: bytes) -> None:
        """Writes a document that may already be there with the same bytes.

        Raises:
            Conflict: the path holds other bytes.
        """
        if not self.create(path, raw) and self.read(path) != raw:
            raise Conflict(
                f"{path} already holds other content; it was not changed.",
                next_step="Equal inputs give equal bytes: find which input differs, or use a new key.",
            )

    def read(self, path: str) -> bytes:
        """The bytes at a path.

        Raises:
            NotFound: there is nothing.
        """
        from obstore.exceptions import NotFoundError

        try:
            return bytes(self._store.get(path).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            raise NotFound(f"Nothing is stored at {path}.", next_step="Check the root and the name.") from error

    def list(self, prefix: str) -> list[str]:
        """All paths below a prefix, sorted."""
        return sorted(str(meta["path"]) for batch in self._store.list(prefix) for meta in batch)
