"""Views of other teams, by reference: ``feature_view("name@sha256:…")`` from a lock file, without their code.

The lock file holds the canonical forms, so that loading a code location opens no store; each form is hashed when it is
read, so nobody can change one without changing the reference that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ml_platform.core.digests import canonical_json, document_digest
from ml_platform.core.errors import ArtifactCorrupt, DeclarationError, NotFound
from ml_platform.core.files import write_atomically
from ml_platform.features.declaration import Declaration
from ml_platform.features.definitions import rebuild
from ml_platform.features.views import FeatureView

__all__ = ["LOCK_FILE", "LOCK_FORMAT", "feature_view", "lock_text", "locked_references", "read_lock", "write_lock"]

LOCK_FORMAT: Final = "ml-platform/feature-lock/1"
LOCK_FILE: Final = "features.lock"
_REFERENCE: Final = re.compile(r"[a-z][a-z0-9_.]*@sha256:[0-9a-f]{64}")


def feature_view(reference: str, *, lock: str | Path = LOCK_FILE) -> FeatureView:
    """The published view of a reference, as its owners declared it.

    Args:
        reference: ``name@sha256:…`` with all 64 digits.
        lock: the lock file; a relative path counts from the working directory, as that of a code location does.

    Raises:
        DeclarationError: the reference is none, or names no feature view.
        NotFound: the lock file does not have it; names the command that adds it.
        ArtifactCorrupt: the locked definition has another digest.
    """
    if not _REFERENCE.fullmatch(reference):
        raise DeclarationError(
            "This is no reference of a published view.",
            field="reference",
            next_step='Write it as "name@sha256:…"; `mlp features search` shows references.',
        )
    documents = read_lock(Path(lock))
    if reference not in documents:
        raise NotFound(
            "The lock file does not have this definition.",
            field=reference,
            next_step=f"`mlp features lock {reference} --file {Path(lock).name}` adds it.",
        )
    spec = documents[reference]
    name, _, digest = reference.partition("@")
    if document_digest("definition", spec) != digest or spec.get("name") != name:
        raise ArtifactCorrupt(
            "The locked definition is not what its reference says.",
            field=reference,
            next_step="Lock it again; who changed the file changed what the view would compute.",
        )
    view = rebuild(spec)
    if not isinstance(view, FeatureView):
        raise DeclarationError(
            f"This is no feature view but a {view.kind}.", field="reference", next_step="Name a feature view."
        )
    return view


def read_lock(path: Path) -> dict[str, dict[str, Any]]:
    """Reference → canonical form of everything that a lock file holds; not hashed yet.

    Raises:
        NotFound: there is no such file.
        ArtifactCorrupt: it is no lock file.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(
            "There is no lock file.", field=path.name, next_step="`mlp features lock REFERENCE` makes one."
        ) from None
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("format") != LOCK_FORMAT:
        raise ArtifactCorrupt("This is no lock file of features.", field=path.name, next_step="Lock the views again.")
    found: dict[str, dict[str, Any]] = document["definitions"]
    return found


def locked_references(path: Path) -> list[str]:
    """What a lock file holds; nothing where there is none."""
    return sorted(read_lock(path)) if path.exists() else []


def lock_text(declarations: Iterable[Declaration]) -> bytes:
    """The bytes of a lock file: one line a definition, sorted, so that a review sees what changed."""
    lines = sorted(f"{json.dumps(one.reference)}: {canonical_json(one.spec()).decode()}" for one in set(declarations))
    head = f'{{"format": "{LOCK_FORMAT}", "definitions": {{\n'
    return (head + ",\n".join(lines) + "\n}}\n").encode()


def write_lock(path: Path, declarations: Iterable[Declaration]) -> None:
    """Replaces a lock file whole.

    Raises:
        StorageFailed: it cannot be written; the old one stands.
    """
    write_atomically(path, lock_text(declarations))
