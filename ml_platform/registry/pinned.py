"""``serving/pinned.json``: what every router of a root knows beforehand: it judges routes without the registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from ml_platform.core.errors import NotFound, Tampered
from ml_platform.core.files import write_atomically
from ml_platform.registry.bodies import DIGEST, HEX32, PUBLIC_KEY, Shape, choice
from ml_platform.registry.route import Pin

__all__ = ["PINNED_FORMAT", "pin_root", "pinned"]

PINNED_FORMAT: Final = "ml-platform/pinned/1"
_PINNED: Final = Shape(
    {"format": choice(PINNED_FORMAT), "root_id": HEX32, "genesis": DIGEST, "service_key": PUBLIC_KEY}
)
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


def pin_root(serving: Path, *, root_id: str, genesis: str, service_key: str) -> None:
    """Writes what every router of a root knows beforehand, once.

    Args:
        serving: the root's folder ``serving``.
        root_id: the root.
        genesis: the platform's identity, ``sha256:…``.
        service_key: public key line of the key that signs routes.

    Raises:
        Tampered: something else is pinned there.
        StorageFailed: the file cannot be written.
    """
    document = {"format": PINNED_FORMAT, "root_id": root_id, "genesis": genesis, "service_key": service_key}
    _PINNED.require(document, what="the pinned identity")
    path = serving / "pinned.json"
    if path.exists():
        if _read_pinned(path) != document:
            raise Tampered(
                "Another platform is pinned for the routers of this root.",
                field="pinned.json",
                next_step="Find out who wrote it; remove it only if it is this root's own mistake.",
            )
        return
    serving.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    write_atomically(path, json.dumps(document, indent=1, sort_keys=True).encode(), mode=_FILE_MODE)


def pinned(serving: Path, model: str) -> Pin:
    """What a router of a model knows beforehand.

    Raises:
        NotFound: nothing is pinned: no route was ever written here.
        Tampered: the file is not what we wrote.
    """
    document = _read_pinned(serving / "pinned.json")
    return Pin(document["service_key"], document["root_id"], model)


def _read_pinned(path: Path) -> dict[str, str]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(
            "No route was ever written in this root.",
            field="pinned.json",
            next_step="A promotion to production writes the first one.",
        ) from None
    except (OSError, ValueError):
        document = None
    if _PINNED.first_wrong(document) is not None:
        raise Tampered("The pinned identity is unreadable.", field="pinned.json", next_step="Restore it from a backup.")
    return document  # type: ignore[no-any-return]
