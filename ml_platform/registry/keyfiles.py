"""Key pairs as files: log, service, evaluator and approver keys, each in a file of its own.

The private half is an OpenSSH private key of mode 0600, the public half a line beside it in ``<name>.pub``, so
that ``ssh-keygen`` works with both. Nothing of a private key reaches a message, a log or a representation.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ml_platform.core.errors import ApprovalInvalid, Conflict, SettingsError, StorageFailed
from ml_platform.registry.sshsig import load_private_key, public_key_bytes, public_key_line

__all__ = ["load_signer", "new_key", "public_path", "raw_public"]

_PRIVATE_MODE: Final = 0o600
_PUBLIC_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o700
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PUBLIC_SUFFIX: Final = ".pub"
_MAX_PUBLIC_BYTES: Final = 4_096


def public_path(path: Path) -> Path:
    """Where the public half of a private key file lies: the same name with ``.pub`` added."""
    return path.with_name(path.name + _PUBLIC_SUFFIX)


def new_key(path: Path, comment: str = "") -> str:
    """A fresh Ed25519 key pair in two new files, unencrypted; returns the public key line.

    The folder is made with mode 0700 where it is missing. After an error neither file is there, save those that
    were there before.

    Raises:
        Conflict: one of the two files exists; neither is touched.
        SettingsError: the folder is open to group or others, or the name is that of a public file.
        StorageFailed: the files cannot be written.
        DeclarationError: the comment is not one printable line.
    """
    if path.suffix == _PUBLIC_SUFFIX:
        raise _unusable("A private key file cannot end in .pub.", "Choose a name without that ending.")
    key = Ed25519PrivateKey.generate()
    line = public_key_line(key, comment)
    made: list[Path] = []
    complete = False
    try:
        _own_folder(path.parent)
        _create(public_path(path), _PUBLIC_MODE, f"{line}\n".encode(), made)
        _create(path, _PRIVATE_MODE, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), made)
        _sync_folder(path.parent)
        complete = True
    except FileExistsError:
        raise Conflict(
            "A key file of this name exists.", field="path", next_step="Choose another name; keys are kept."
        ) from None
    except OSError as error:
        what = f"The key files cannot be written ({type(error).__name__})."
        raise StorageFailed(what, field="path", next_step="Check the folder and the free space.") from None
    finally:
        if not complete:
            for target in made:
                target.unlink(missing_ok=True)
    return line


def load_signer(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """The private key of a file, after a check that the public half beside it belongs to it.

    Raises:
        SettingsError: as `load_private_key` and `raw_public`, or the two halves differ.
    """
    key = load_private_key(path, passphrase)
    if raw_public(path) != key.public_key().public_bytes_raw():
        raise _unusable("The public key file belongs to another private key.", "Restore both files of the pair.")
    return key


def raw_public(path: Path) -> bytes:
    """The 32 bytes of the public key of a pair, named by either file; the private one stays closed.

    Raises:
        SettingsError: the public file is missing or malformed.
    """
    try:
        with (path if path.suffix == _PUBLIC_SUFFIX else public_path(path)).open("rb") as stream:
            line = stream.read(_MAX_PUBLIC_BYTES).decode()
        return public_key_bytes(line)
    except OSError as error:
        raise _unusable(
            f"The public key file cannot be read ({type(error).__name__}).", "Restore the .pub file."
        ) from None
    except (ApprovalInvalid, UnicodeDecodeError):
        raise _unusable("The public key file is malformed.", "Restore the .pub file.") from None


def _own_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) & ~_FOLDER_MODE & 0o777:
        raise SettingsError(
            "The key folder is open to group or others.",
            field="path",
            next_step="Run chmod 700 on the folder.",
        )


def _create(target: Path, mode: int, raw: bytes, made: list[Path]) -> None:
    handle = os.open(target, _CREATE, mode)
    made.append(target)
    with os.fdopen(handle, "wb") as stream:
        os.fchmod(handle, mode)  # whatever the umask made of it
        stream.write(raw)
        stream.flush()
        os.fsync(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(what: str, next_step: str) -> SettingsError:
    return SettingsError(what, field="key_file", next_step=next_step)
