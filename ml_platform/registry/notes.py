"""Signed notes and checkpoints of the audit log, in the formats of the transparency ecosystem.

C2SP ``signed-note`` and ``tlog-checkpoint`` with Ed25519 (signature type 0x01), so that Go's ``sumdb/note``
and outside witnesses read what we write. Signatures by unknown keys (witnesses) are kept, and prove nothing to us.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ml_platform.core.errors import DeclarationError, SettingsError, Tampered
from ml_platform.core.merkle import HASH_BYTES

__all__ = [
    "Checkpoint",
    "OpenedNote",
    "Signer",
    "Verifier",
    "add_signature",
    "open_checkpoint",
    "open_note",
    "sign_checkpoint",
    "sign_note",
]

_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_HASH_BYTES: Final = 4
_MAX_NOTE_BYTES: Final = 1_000_000
_MAX_SIGNATURES: Final = 100
_MAX_SIZE: Final = 2**63
_SIGNATURE_MARK: Final = "\u2014 "
_SKEY_MARK: Final = "PRIVATE+KEY+"
# ASCII control characters but newlines, and what UTF-8 cannot say.
_FORBIDDEN: Final = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Verifier:
    """A signer's name (no space, no plus sign) and raw Ed25519 public key, 32 bytes; or `SettingsError`."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        if not _is_name(self.name) or len(self.public) != _KEY_BYTES:
            raise _unusable("A note key's name has a space or a plus sign, or its key is not 32 bytes long.")

    @property
    def key_hash(self) -> bytes:
        """The first 4 bytes of SHA-256(name ‖ newline ‖ 0x01 ‖ public key): which key, not a proof."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_HASH_BYTES]

    @property
    def vkey(self) -> str:
        """``<name>+<key hash>+<base64 of 0x01 ‖ public key>``, to be published."""
        return f"{self.name}+{self.key_hash.hex()}+{_b64(_ED25519 + self.public)}"

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """The verifier of a published ``vkey``; `SettingsError` if malformed or of another algorithm."""
        name, key_hash, public = _parse_key(vkey)
        return _with_hash(cls(name, public), key_hash)

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """True when this key made this signature over this text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """A name, as in `Verifier`, and a private key, which no representation shows."""

    name: str
    key: Ed25519PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        _ = self.verifier

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        return Verifier(self.name, self.key.public_key().public_bytes_raw())

    @classmethod
    def parse(cls, skey: str) -> Signer:
        """The signer of a ``PRIVATE+KEY+<name>+<hash>+<key>`` text; `SettingsError` if malformed."""
        if not skey.startswith(_SKEY_MARK):
            raise _unusable("The text is no private note key.")
        name, key_hash, seed = _parse_key(skey.removeprefix(_SKEY_MARK))
        signer = cls(name, Ed25519PrivateKey.from_private_bytes(seed))
        _with_hash(signer.verifier, key_hash)
        return signer

    def to_skey(self) -> str:
        """The private key as text: a secret, for a 0600 file only."""
        secret = _b64(_ED25519 + self.key.private_bytes_raw())
        return f"{_SKEY_MARK}{self.name}+{self.verifier.key_hash.hex()}+{secret}"

    def signature_line(self, text: bytes) -> str:
        """The line that stands below a note's text, without its newline."""
        return f"{_SIGNATURE_MARK}{self.name} {_b64(self.verifier.key_hash + self.key.sign(text))}"


class OpenedNote(NamedTuple):
    """The text of a note and the names of the known keys that signed it."""

    text: str
    names: tuple[str, ...]


class _Line(NamedTuple):
    name: str
    key_hash: bytes
    signature: bytes
    raw: str


def sign_note(text: str, *signers: Signer) -> bytes:
    """The note: text, a blank line, one signature line per signer; `DeclarationError` if it has no such form."""
    if not signers or not _is_text(text) or not text.endswith("\n"):
        raise DeclarationError(
            "The text cannot be signed as a note.",
            next_step="Pass a signer, and a text without control characters that ends in a newline.",
        )
    raw = text.encode()
    return "\n".join([text, *(signer.signature_line(raw) for signer in signers), ""]).encode()


def add_signature(note: bytes, signer: Signer) -> bytes:
    """The same note with one more signature; those of others stay, one by the same key is replaced."""
    text, lines = _split(note)
    verifier = signer.verifier
    kept = [line.raw for line in lines if (line.name, line.key_hash) != (verifier.name, verifier.key_hash)]
    return "\n".join([text, *kept, signer.signature_line(text.encode()), ""]).encode()


def open_note(note: bytes, verifiers: Sequence[Verifier]) -> OpenedNote:
    """The text, and the names of those verifiers that signed it, each once, in the order of the lines.

    Raises:
        Tampered: the note is malformed, no verifier signed it, or a signature said to be by one is false.
    """
    text, lines = _split(note)
    known = {(verifier.name, verifier.key_hash): verifier for verifier in verifiers}
    raw, names = text.encode(), dict[str, None]()
    for line in lines:
        verifier = known.get((line.name, line.key_hash))
        if verifier is None:
            continue
        if not verifier.verifies(raw, line.signature):
            raise _tampered("A signature of a note is false.")
        names[line.name] = None
    if not names:
        raise _tampered("No known key signed the note.")
    return OpenedNote(text, tuple(names))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the log commits to: its name, its size and its root (C2SP ``tlog-checkpoint``).

    Args:
        origin: the log's name, one line.
        size: number of entries, below 2^63.
        root: the RFC 6962 root over them, 32 bytes.
        extensions: further lines, kept and signed but not understood.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lines = (self.origin, *self.extensions)
        well_formed = all(line and "\n" not in line and _is_text(line) for line in lines)
        if not (well_formed and 0 <= self.size < _MAX_SIZE and len(self.root) == HASH_BYTES):
            raise DeclarationError(
                "These values have no form in a checkpoint.",
                next_step="Use single-line texts, a size from 0 to 2^63 - 1, and a root of 32 bytes.",
            )

    def body(self) -> str:
        """The text that is signed: origin, size, base64 of the root, extensions, each a line."""
        return "\n".join([self.origin, str(self.size), _b64(self.root), *self.extensions, ""])

    @classmethod
    def parse(cls, body: str) -> Checkpoint:
        """The checkpoint of a signed text, in the exact form that `body` writes; else `Tampered`."""
        origin, *rest = body.split("\n")
        if len(rest) < 3 or rest[-1] or not _DECIMAL.fullmatch(rest[0]):
            raise _tampered("The text is no checkpoint.")
        try:
            return cls(origin, int(rest[0]), _unb64(rest[1]), tuple(rest[2:-1]))
        except (DeclarationError, ValueError) as error:
            raise _tampered("The text is no checkpoint.") from error


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """The checkpoint as a note signed by the log; `DeclarationError` if the signer is not the origin."""
    if signer.name != checkpoint.origin:
        raise DeclarationError("Only the log signs its checkpoint.", field="origin", next_step="Use the log's key.")
    return sign_note(checkpoint.body(), signer)


def open_checkpoint(note: bytes, verifiers: Sequence[Verifier]) -> Checkpoint:
    """The checkpoint, once the key that bears the name of its origin is found to have signed it.

    A witness's signature is not enough, and no witness may bear the log's name. Raises `Tampered` as `open_note`.
    """
    text, names = open_note(note, verifiers)
    checkpoint = Checkpoint.parse(text)
    if checkpoint.origin not in names:
        raise _tampered("The checkpoint is not signed by the log that it names.")
    return checkpoint


def _split(note: bytes) -> tuple[str, list[_Line]]:
    """Text (with its last newline) and signature lines of a note."""
    malformed = _tampered("The note is malformed.")
    if len(note) > _MAX_NOTE_BYTES:
        raise malformed
    try:
        whole = note.decode()
        head, blank, tail = whole.rpartition("\n\n")
        if not blank or not _is_text(whole) or not tail.endswith("\n") or tail.count("\n") > _MAX_SIGNATURES:
            raise malformed
        return head + "\n", [_parse_line(line) for line in tail.removesuffix("\n").split("\n")]
    except ValueError:
        raise malformed from None


def _parse_line(raw: str) -> _Line:
    name, _, encoded = raw.removeprefix(_SIGNATURE_MARK).partition(" ")
    signature = _unb64(encoded)
    if not raw.startswith(_SIGNATURE_MARK) or not _is_name(name) or len(signature) <= _HASH_BYTES:
        raise ValueError
    return _Line(name, signature[:_HASH_BYTES], signature[_HASH_BYTES:], raw)


def _parse_key(text: str) -> tuple[str, str, bytes]:
    """Name, claimed key hash and the 32 bytes of a key."""
    name, _, rest = text.partition("+")
    key_hash, _, encoded = rest.partition("+")
    try:
        data = _unb64(encoded)
    except ValueError:
        data = b""
    if data[:1] != _ED25519 or len(data) != 1 + _KEY_BYTES:
        raise _unusable("A note key is malformed or not an Ed25519 key.")
    return name, key_hash, data[1:]


def _with_hash(verifier: Verifier, key_hash: str) -> Verifier:
    if key_hash != verifier.key_hash.hex():
        raise _unusable("The hash in a note key does not fit its name and key.")
    return verifier


def _is_text(text: str) -> bool:
    return not _FORBIDDEN.search(text)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and _is_text(name) and not any(map(str.isspace, name))


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unb64(encoded: str) -> bytes:
    """Strict: one text per value, or a signature could be respelled; else `ValueError`."""
    raw = base64.b64decode(encoded, validate=True)  # binascii.Error is a ValueError
    if _b64(raw) != encoded:
        raise ValueError
    return raw


def _tampered(what: str) -> Tampered:
    return Tampered(what, field="note", next_step="Fetch the note again, or compare it with an older copy.")


def _unusable(what: str) -> SettingsError:
    return SettingsError(what, field="key", next_step="Copy the key again from where it was published.")
