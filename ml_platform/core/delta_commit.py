"""One commit to a Delta table, at most once, whoever races and whatever answer is lost.

Delta records a transaction (application id, version) and refuses it where another of the same application came between
the version on which a commit builds and its own; it accepts a repeated one otherwise. So the transaction is looked for
in the very version on which the commit builds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ml_platform.core.delta_log import commit_info
from ml_platform.core.errors import Conflict, NotFound, StorageFailed
from ml_platform.core.objects import ObjectStore
from ml_platform.core.storage import failure

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["COMMIT_ATTEMPTS", "Commit"]

COMMIT_ATTEMPTS: Final = 16


class Tables(Protocol):
    """What a commit needs of a lake."""

    @property
    def store(self) -> ObjectStore: ...
    def table(self, name: str) -> DeltaTable: ...
    def version_of(self, name: str, app_id: str, txn_version: int) -> int: ...


@dataclass(frozen=True)
class Commit:
    """What is to be committed.

    Args:
        tables: the lake.
        name: the table.
        write: commits to the handle that it is given, with the transaction, and its ``ml_txn`` in the metadata.
        make: makes the table where there is none.
        transaction: application id and version; None for a commit that may be repeated.
    """

    tables: Tables
    name: str
    write: Callable[[DeltaTable], None]
    make: Callable[[], None]
    transaction: tuple[str, int] | None

    def run(self, attempts: int = COMMIT_ATTEMPTS) -> int:
        """The table version that holds the transaction; tries again while others are faster.

        Raises:
            Conflict: others were faster, every time.
            StorageFailed: the disk is full or the store refused; the table is as before, unless the error says that the
                store did not even tell so.
        """
        from deltalake.exceptions import CommitFailedError, DeltaError

        for _ in range(attempts):
            delta = self._opened()
            if self._in(delta):
                return self._found()
            try:
                self.write(delta)
                return self._written(int(delta.version()))
            except CommitFailedError:
                continue  # another commit came between: ours may even be that one, where an answer was lost
            except (DeltaError, OSError) as error:
                if not self._landed(error):
                    raise failure(f"Writing the table {self.name}", error, "it is as before") from error
        raise Conflict(
            f"Others wrote to the table {self.name} at the same time, {attempts} times; nothing of ours is in it.",
            next_step="Run it again.",
        )

    def _opened(self) -> DeltaTable:
        try:
            return self.tables.table(self.name)
        except NotFound:
            self.make()
            return self.tables.table(self.name)

    def _in(self, delta: DeltaTable) -> bool:
        if self.transaction is None:
            return False
        done = delta.transaction_version(self.transaction[0])
        return done is not None and done >= self.transaction[1]

    def _found(self) -> int:
        application, number = self.transaction or ("", 0)
        return self.tables.version_of(self.name, application, number)

    def _written(self, version: int) -> int:
        """The version of a commit that was just made; the handle does not know it where another came between."""
        if self.transaction is None:
            return version
        try:
            newest = commit_info(self.tables.store, self.name, version) or {}
            return version if newest.get("ml_txn") == "{}@{}".format(*self.transaction) else self._found()
        except StorageFailed as error:
            raise StorageFailed(
                f"The table {self.name} holds the commit, and the store does not say any more at which version.",
                next_step="Run it again: it happens at most once.",
            ) from error

    def _landed(self, error: Exception) -> bool:
        """Whether a commit of which we were told that it failed is there nevertheless: its answer may have been lost.

        Raises:
            StorageFailed: the store says nothing at all.
        """
        try:
            return self._in(self.tables.table(self.name))
        except StorageFailed:
            stands = "whether it was committed is seen when the store answers: run again, it happens at most once"
            raise failure(f"Writing the table {self.name}", error, stands) from error
