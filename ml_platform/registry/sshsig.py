"""Approvals are OpenSSH signatures (SSHSIG), so that an auditor checks them with ``ssh-keygen -Y verify``.

Format: OpenSSH's PROTOCOL.sshsig; keys: ssh-ed25519 only. We sign with ``cryptography`` and verify with the
``sshsig`` package, which is more lenient than an approval may be: the structure is checked here first, strictly.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

import sshsig
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from ml_platform.core.errors import ApprovalInvalid, DeclarationError, SettingsError

__all__ = ["fingerprint", "load_private_key", "public_key_bytes", "public_key_line", "sign", "verify"]

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = (1).to_bytes(4, "big")
_ED25519: Final = b"ssh-ed25519"
_HASHES: Final = (b"sha512", b"sha256")  # the two that PROTOCOL.sshsig allows; ours are sha512
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"
_ARMOR_WIDTH: Final = 70
_MAX_ARMORED: Final = 4_096
_MAX_KEY_FILE_BYTES: Final = 65_536


class _Blob(NamedTuple):
    """The outer structure of a signature."""

    public: bytes
    namespace: bytes
    hash_name: bytes
    signature: bytes

    def armored(self) -> str:
        key = _string(_ED25519) + _string(self.public)
        signature = _string(_ED25519) + _string(self.signature)
        fields = (key, self.namespace, b"", self.hash_name, signature)
        encoded = base64.b64encode(_MAGIC + _VERSION + b"".join(map(_string, fields))).decode()
        lines = [encoded[i : i + _ARMOR_WIDTH] for i in range(0, len(encoded), _ARMOR_WIDTH)]
        return "\n".join([_BEGIN, *lines, _END, ""])


def sign(private_key: Ed25519PrivateKey, message: bytes, namespace: str) -> str:
    """The armored signature, byte for byte what ``ssh-keygen -Y sign`` prints for the same key.

    Raises:
        DeclarationError: the namespace is empty or not plain ASCII.
    """
    purpose = _namespace_bytes(namespace)
    digest = hashlib.sha512(message).digest()
    signed = _MAGIC + b"".join(map(_string, (purpose, b"", _HASHES[0], digest)))
    public = private_key.public_key().public_bytes_raw()
    return _Blob(public, purpose, _HASHES[0], private_key.sign(signed)).armored()


def verify(message: bytes, armored: str, namespace: str, public_key_line: str) -> str:
    """The fingerprint of the key, once its signature of exactly this message and purpose is found to be good.

    Args:
        message: the signed bytes.
        armored: the signature's text.
        namespace: the purpose that it must have been made for, such as ``approval@ml-platform``.
        public_key_line: the only key that counts.

    Raises:
        ApprovalInvalid: malformed, or of another key type, purpose, key or message.
        DeclarationError: the namespace is empty or not plain ASCII.
    """
    expected, purpose = public_key_bytes(public_key_line), _namespace_bytes(namespace)
    blob = _dearmored(armored)
    if blob.namespace != purpose:
        raise _invalid("The signature was made for another purpose.", "namespace", f"Sign with -n {namespace}.")
    if blob.public != expected:
        raise _invalid("The signature is by another key.", "public_key", "Sign with the registered key.")
    key = sshsig.PublicKey.from_openssh_str(_line(expected))
    try:
        # The structure is encoded anew, so that what is verified is what was checked above.
        sshsig.verify(message, blob.armored(), [key], namespace)
    except (sshsig.InvalidSignature, NotImplementedError, ValueError, AssertionError):
        raise _invalid("The signature does not fit the message.", "signature", "Sign this message again.") from None
    return fingerprint(public_key_line)


def public_key_line(key: Ed25519PrivateKey | Ed25519PublicKey, comment: str = "") -> str:
    """``ssh-ed25519 <base64> [comment]``, without a newline.

    Raises:
        DeclarationError: the comment has a line break or another unprintable character.
    """
    if not comment.isprintable():
        raise DeclarationError(
            "The comment of a key must be one printable line.",
            field="comment",
            next_step="Use a name or an e-mail.",
        )
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return f"{_line(public.public_bytes_raw())} {comment}".strip()


def public_key_bytes(public_key_line: str) -> bytes:
    """The raw Ed25519 public key, 32 bytes, of a public key line.

    Raises:
        ApprovalInvalid: the line is malformed or holds another type of key (RSA is refused).
    """
    kind, encoded, *_ = [*public_key_line.strip().split(" ", 2), "", ""]
    if kind != _ED25519.decode():
        raise _invalid("The public key is not of the type ssh-ed25519.", "public_key", "Use ssh-keygen -t ed25519.")
    malformed = _invalid("The public key is malformed.", "public_key", "Copy the line of the .pub file.")
    if not public_key_line.strip().isprintable():  # a second line could be read as another key
        raise malformed
    try:
        return _ed25519_field(_unb64(encoded), _KEY_BYTES)
    except ValueError:
        raise malformed from None


def fingerprint(public_key_line: str) -> str:
    """``SHA256:…`` as ``ssh-keygen -l`` prints it; raises `ApprovalInvalid` as `public_key_bytes`."""
    raw = _string(_ED25519) + _string(public_key_bytes(public_key_line))
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def load_private_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """The key of an OpenSSH private key file; encrypted ones with their passphrase.

    Raises:
        SettingsError: no such file, readable by group or others, malformed, wrong or missing passphrase, or not
            Ed25519. No message shows anything of the file's content.
    """
    raw = _read_private(path)
    try:
        key = load_ssh_private_key(raw, passphrase)
    except (ValueError, TypeError):
        raise _unusable(
            "The private key cannot be read.", "Check that it is an OpenSSH private key, and its passphrase."
        ) from None
    except UnsupportedAlgorithm:
        raise _unusable(
            "The private key's type or cipher is not supported.",
            "Install bcrypt for encrypted keys; use Ed25519.",
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable("The private key is not of the type ssh-ed25519.", "Use ssh-keygen -t ed25519.")
    return key


def _read_private(path: Path) -> bytes:
    try:
        if not path.is_file():  # a directory, or a named pipe that would hold us
            raise _unusable("There is no private key file of this name.", "Check its path.")
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise _unusable("The private key file is open to group or others.", "Run chmod 600 on it.")
            return stream.read(_MAX_KEY_FILE_BYTES)
    except OSError as error:
        what = f"The private key file cannot be read ({type(error).__name__})."
        raise _unusable(what, "Check its path and owner.") from None


def _dearmored(armored: str) -> _Blob:
    lines = armored.replace("\r\n", "\n").strip("\n").split("\n") if len(armored) <= _MAX_ARMORED else [""]
    if lines[0] != _BEGIN or lines[-1] != _END:
        raise _malformed()
    try:
        raw = _unb64("".join(lines[1:-1]))
        key, namespace, reserved, hash_name, signature = _strings(raw[len(_MAGIC + _VERSION) :])
        kind, *_ = _strings(key)
    except ValueError:
        raise _malformed() from None
    if kind != _ED25519:
        raise _invalid("The signing key is not of the type ssh-ed25519.", "signature", "Sign with such a key.")
    if not raw.startswith(_MAGIC + _VERSION) or reserved or hash_name not in _HASHES:
        raise _malformed()
    try:
        public, value = _ed25519_field(key, _KEY_BYTES), _ed25519_field(signature, _SIGNATURE_BYTES)
    except ValueError:
        raise _malformed() from None
    return _Blob(public, namespace, hash_name, value)


def _ed25519_field(raw: bytes, length: int) -> bytes:
    """The second of the two strings (type, value); ValueError when it is anything else."""
    kind, value = _strings(raw)
    if kind != _ED25519 or len(value) != length:
        raise ValueError
    return value


def _strings(raw: bytes) -> list[bytes]:
    """All length-prefixed strings (RFC 4251, 5) of which the bytes consist; ValueError when they do not."""
    strings, offset = list[bytes](), 0
    while offset < len(raw):
        start = offset + 4
        offset = start + int.from_bytes(raw[offset:start], "big")
        if offset > len(raw):
            raise ValueError
        strings.append(raw[start:offset])
    return strings


def _string(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


def _line(public: bytes) -> str:
    return f"{_ED25519.decode()} {base64.b64encode(_string(_ED25519) + _string(public)).decode()}"


def _unb64(encoded: str) -> bytes:
    """Strict: one text per value; else ValueError."""
    raw = base64.b64decode(encoded, validate=True)
    if base64.b64encode(raw).decode() != encoded:
        raise ValueError
    return raw


def _namespace_bytes(namespace: str) -> bytes:
    if not (namespace and namespace.isascii() and namespace.isprintable() and " " not in namespace):
        raise DeclarationError(
            "A namespace must be plain ASCII without spaces.",
            field="namespace",
            next_step="Use <action>@ml-platform.",
        )
    return namespace.encode()


def _malformed() -> ApprovalInvalid:
    return _invalid("The signature is malformed.", "signature", "Use the file that ssh-keygen -Y sign wrote.")


def _invalid(what: str, field: str, next_step: str) -> ApprovalInvalid:
    return ApprovalInvalid(what, field=field, next_step=next_step)


def _unusable(what: str, next_step: str) -> SettingsError:
    return SettingsError(what, field="private_key", next_step=next_step)
