"""Seeds for workers on other machines: they ask this process, which alone has the subjects' database.

The answers are the seeds of the subjects asked for and nothing else; a new subject's seed is inserted if absent, once,
whoever asks how often. Frames are sealed with ChaCha20-Poly1305 (RFC 8439) under a key that lives as long as one run;
an answer is bound to its question. No seed is written to a disk of a worker.

A frame: length (u32, little-endian), nonce (12 bytes), sealed text. A question: row/1 texts and bytes; an answer:
0x00 and 32 bytes a key, or 0x01 and the error's text.
"""

from __future__ import annotations

import secrets
import socket
import socketserver
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ml_platform.core.errors import PlatformError, ServerUnavailable
from ml_platform.core.subjects import Seeds

__all__ = ["RemoteSeeds", "SeedAddress", "SeedServer"]

_NONCE: Final = 12
_SEED: Final = 32
_GIVEN, _FAILED = b"\x00", b"\x01"
_LONGEST: Final = 1 << 28  # a frame's bytes
_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True)
class SeedAddress:
    """Where to ask, and the key of this run's frames."""

    host: str
    port: int
    key: bytes

    def __repr__(self) -> str:
        return f"SeedAddress({self.host!r}, {self.port})"


def _packed(entity: str, keys: Sequence[bytes]) -> bytes:
    name = entity.encode()
    lengths = np.fromiter(map(len, keys), "<u4", len(keys)).tobytes()
    return struct.pack("<II", len(name), len(keys)) + name + lengths + b"".join(keys)


def _unpacked(raw: bytes) -> tuple[str, list[bytes]]:
    width, count = struct.unpack_from("<II", raw)
    start = 8 + width
    ends = start + 4 * count + np.cumsum(np.frombuffer(raw, "<u4", count, start), dtype=np.int64)
    keys, at = [], start + 4 * count
    for end in ends.tolist():
        keys.append(raw[at:end])
        at = end
    return raw[8:start].decode(), keys


def _received(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = connection.recv(min(size - len(found), 1 << 20))
        if not part:
            raise ConnectionError("closed")
        found += part
    return bytes(found)


def _receive(connection: socket.socket, cipher: ChaCha20Poly1305, about: bytes) -> tuple[bytes, bytes]:
    """A frame's nonce and text; ``about`` is what it must be bound to."""
    (size,) = struct.unpack("<I", _received(connection, 4))
    if size > _LONGEST:
        raise ConnectionError("too long")
    nonce = _received(connection, _NONCE)
    return nonce, cipher.decrypt(nonce, _received(connection, size), about)


def _send(connection: socket.socket, cipher: ChaCha20Poly1305, about: bytes, text: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    sealed = cipher.encrypt(nonce, text, about)
    connection.sendall(struct.pack("<I", len(sealed)) + nonce + sealed)
    return nonce


class SeedServer:
    """Answers while its ``with`` block lasts.

    Args:
        subjects: who knows or makes the seeds.
        entity: the only entity that may be asked for.
        host: the address that the workers reach this process at.
    """

    def __init__(self, subjects: Seeds, entity: str, host: str = "127.0.0.1") -> None:
        key = secrets.token_bytes(32)
        cipher = ChaCha20Poly1305(key)

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    while True:
                        nonce, question = _receive(self.request, cipher, b"question")
                        _send(self.request, cipher, b"answer" + nonce, _answer(subjects, entity, question))
                except (OSError, InvalidTag):
                    return  # the worker has gone, or it is none of ours

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server((host, 0), Handler)
        self.address = SeedAddress(host, self._server.server_address[1], key)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _answer(subjects: Seeds, entity: str, question: bytes) -> bytes:
    asked, keys = _unpacked(question)
    if asked != entity:
        return _FAILED + b"Another entity was asked for."
    try:
        return _GIVEN + b"".join(subjects.seeds(entity, keys))
    except PlatformError as error:
        return _FAILED + str(error).encode()


class RemoteSeeds:
    """The seeds of a ``SeedServer``, for one task; ``close`` it."""

    def __init__(self, address: SeedAddress) -> None:
        self._address = address
        self._cipher = ChaCha20Poly1305(address.key)
        self._connection: socket.socket | None = None

    def seeds(self, entity: str, keys: Sequence[bytes]) -> list[bytes]:
        """The seeds of accepted subjects, in order.

        Raises:
            ServerUnavailable: the server is away or cannot answer; a later try may succeed.
        """
        try:
            text = self._ask(_packed(entity, keys))
        except (OSError, InvalidTag) as error:
            self.close()
            raise ServerUnavailable(
                f"The driver does not answer for seeds ({type(error).__name__}).",
                next_step="Executors must reach the driver's host; see spark.driver.host.",
            ) from error
        if text[:1] != _GIVEN or len(text) != 1 + _SEED * len(keys):
            said = text[1:].decode(errors="replace") if text[:1] == _FAILED else "The answer is cut short."
            raise ServerUnavailable(
                f"The driver has no seeds. {said}",
                next_step="Mend the driver's folder `subjects`, then run it again.",
            )
        return [text[at : at + _SEED] for at in range(1, len(text), _SEED)]

    def _ask(self, question: bytes) -> bytes:
        if self._connection is None:
            where = (self._address.host, self._address.port)
            self._connection = socket.create_connection(where, timeout=_TIMEOUT_SECONDS)
        nonce = _send(self._connection, self._cipher, b"question", question)
        return _receive(self._connection, self._cipher, b"answer" + nonce)[1]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
