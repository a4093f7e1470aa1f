"""The object store: content-addressed evidence and create-if-absent documents, on a folder or a bucket (obstore)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ml_platform.core.digests import sha256_hex
from ml_platform.core.errors import ArtifactCorrupt, Conflict, NotFound, SettingsError
from ml_platform.core.storage import StorageSettings, failure, is_remote, obstore_arguments, trouble, uses_profile_files

if TYPE_CHECKING:
    from obstore.store import ObjectStore as _Store

__all__ = ["ObjectStore"]

_DIGEST_LENGTH: Final = len("sha256:") + 64


class ObjectStore:
    """Bytes by digest (``objects/sha256/ab/…``) and small documents by path.

    ``url`` is a folder or any URL that ``obstore`` knows (``s3://bucket/prefix``, ``gs://…``, ``az://…``); credentials
    come from the environment's normal chain. What is read by digest is hashed before it is returned. Requests that
    the store throttles or that break off are tried again, as often and as long as ``storage`` says.
    """

    def __init__(self, url: str | Path, storage: StorageSettings | None = None) -> None:
        self.url = str(url)
        self.storage = storage or StorageSettings()
        self._opened: _Store | None = None

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    @property
    def _store(self) -> _Store:
        if self._opened is None:
            from obstore.store import LocalStore

            self._opened = _remote(self.url, self.storage) if is_remote(self.url) else LocalStore(self.url, mkdir=True)
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
            with _said(f"Looking for {path}", "nothing was changed", but=(NotFoundError, FileNotFoundError)):
                self._store.head(path)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def create(self, path: str, raw: bytes) -> bool:
        """Writes a new document; False if the path already holds something (which is left as it is).

        False may also be said of one's own document: where the answer to the first attempt was lost, the second finds
        it there. Who must know reads it back.

        Raises:
            StorageFailed: the store refused; nothing half-written is visible.
        """
        from obstore.exceptions import AlreadyExistsError

        try:
            with _said(f"Writing {path}", _WHOLE, but=(AlreadyExistsError, FileExistsError)):
                self._store.put(path, raw, mode="create")
        except (AlreadyExistsError, FileExistsError):
            return False
        return True

    def upload(self, path: str, file: IO[bytes]) -> None:
        """Writes a whole file, in parts where it is large, over whatever was there.

        Raises:
            StorageFailed: the store refused; what was there before stands, nothing half-written is visible.
        """
        with _said(f"Writing {path}", _WHOLE):
            self._store.put(path, file)

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
            with _said(f"Reading {path}", "nothing was changed", but=(NotFoundError, FileNotFoundError)):
                return bytes(self._store.get(path).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            if is_remote(self.url) and trouble(error) is not None:  # no bucket, or nobody that it knows: no absence
                raise failure(f"Reading {path}", error, "nothing was changed") from error
            raise NotFound(f"Nothing is stored at {path}.", next_step="Check the root and the name.") from error

    def list(self, prefix: str) -> list[str]:
        """All paths below a prefix, sorted.

        Raises:
            StorageFailed: the store cannot be read.
        """
        with _said(f"Listing {prefix}", "nothing was changed"):
            return sorted(str(meta["path"]) for batch in self._store.list(prefix) for meta in batch)

    def any_below(self, prefix: str) -> bool:
        """Whether anything lies below a prefix; reads no more than the first names.

        Raises:
            StorageFailed: the store cannot be read.
        """
        with _said(f"Listing {prefix or self.url}", "nothing was changed"):
            return any(len(batch) for batch in self._store.list(prefix or None))

    def delete(self, path: str) -> None:
        """Removes a document; one that is not there is fine.

        Raises:
            StorageFailed: the store refused.
        """
        with _said(f"Removing {path}", "it may still be there"), suppress(FileNotFoundError):
            self._store.delete(path)


_WHOLE: Final = "nothing half-written is visible"


@contextmanager
def _said(doing: str, stands: str, *, but: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """Says what a store or disk raised as `StorageFailed`, except what the caller answers itself."""
    from obstore.exceptions import BaseError

    try:
        yield
    except but:
        raise
    except (BaseError, OSError) as error:
        raise failure(doing, error, stands) from error


def _remote(url: str, storage: StorageSettings) -> _Store:
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    given: dict[str, Any] = obstore_arguments(url, storage)
    if uses_profile_files(url):
        given["credential_provider"] = _profile_files()
    try:
        return from_url(url, **given)
    except (BaseError, ValueError) as error:
        raise SettingsError(
            f"The store cannot be used as it is set ({type(error).__name__}).",
            field="storage",
            next_step="Check its URL, [storage], and the environment's variables that begin with the cloud's name.",
        ) from error


def _profile_files() -> Any:
    """Credentials of S3 from profile files, as AWS's own library reads them."""
    try:
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]  # has none
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise SettingsError(
            "Profile files of AWS are read by boto3, which is not installed.",
            field="storage",
            next_step="Install the extra `aws`, or give the credentials by AWS_ACCESS_KEY_ID and its companions.",
        ) from error
    try:
        return Boto3CredentialProvider()
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(
            "The profile files hold no credentials for the profile in use.",
            field="AWS_PROFILE",
            next_step="Name a profile that has some.",
        ) from error
