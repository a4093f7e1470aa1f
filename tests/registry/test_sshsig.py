from __future__ import annotations

import base64
import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ecdsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as new_rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import ApprovalInvalid, DeclarationError, SettingsError
from ml_platform.registry.sshsig import fingerprint, load_private_key, public_key_bytes, public_key_line, sign, verify

_KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
_OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
_LINE = public_key_line(_KEY, "officer@example.org")
_MESSAGE = b'{"action":"approval","model":"credit_risk"}'
_NAMESPACE = "approval@ml-platform"
_ARMORED = sign(_KEY, _MESSAGE, _NAMESPACE)
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


def _string(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


def _armor(raw: bytes) -> str:
    return f"{_BEGIN}\n{base64.b64encode(raw).decode()}\n{_END}\n"


def _blob(**changed: bytes) -> bytes:
    """A signature's structure, built by hand from PROTOCOL.sshsig; good unless something is changed."""
    hash_name = changed.get("hash_name", b"sha512")
    hasher = hashlib.new(hash_name.decode()) if hash_name in (b"sha512", b"sha256", b"md5") else hashlib.sha512()
    hasher.update(_MESSAGE)
    namespace, reserved = changed.get("namespace", _NAMESPACE.encode()), changed.get("reserved", b"")
    signed = b"SSHSIG" + b"".join(map(_string, (namespace, b"", hash_name, hasher.digest())))
    kind, public = changed.get("kind", b"ssh-ed25519"), _KEY.public_key().public_bytes_raw()
    key = _string(kind) + _string(public)
    signature = _string(changed.get("signature_kind", kind)) + _string(changed.get("value", _KEY.sign(signed)))
    head = changed.get("magic", b"SSHSIG") + changed.get("version", b"\x00\x00\x00\x01")
    fields = b"".join(map(_string, (changed.get("key", key), namespace, reserved, hash_name, signature)))
    return head + fields + changed.get("trailing", b"")


def _keygen(command: str, *arguments: str | Path, message: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([command, *map(str, arguments)], input=message, capture_output=True, check=False)


def _write_key(path: Path, key: Ed25519PrivateKey = _KEY) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return path


def test_a_signature_verifies_and_names_its_key() -> None:
    assert verify(_MESSAGE, _ARMORED, _NAMESPACE, _LINE) == fingerprint(_LINE)


def test_the_structure_is_that_of_the_protocol() -> None:
    assert "".join(_ARMORED.splitlines()[1:-1]) == base64.b64encode(_blob()).decode()


def test_an_altered_message_is_refused() -> None:
    for message in (b"", _MESSAGE + b"\n", _MESSAGE.replace(b"credit", b"Credit")):
        with pytest.raises(ApprovalInvalid, match="message"):
            verify(message, _ARMORED, _NAMESPACE, _LINE)


def test_a_signature_for_another_purpose_is_refused() -> None:
    for namespace in ("revocation@ml-platform", "git", _NAMESPACE + "x"):
        with pytest.raises(ApprovalInvalid, match="purpose"):
            verify(_MESSAGE, _ARMORED, namespace, _LINE)


def test_a_signature_by_another_key_is_refused() -> None:
    with pytest.raises(ApprovalInvalid, match="another key"):
        verify(_MESSAGE, _ARMORED, _NAMESPACE, public_key_line(_OTHER))


def test_a_signature_relabelled_with_the_expected_key_is_refused() -> None:
    forged = _blob(value=_OTHER.sign(b"anything"))
    with pytest.raises(ApprovalInvalid, match="message"):
        verify(_MESSAGE, _armor(forged), _NAMESPACE, _LINE)


def test_a_signature_relabelled_with_another_purpose_is_refused() -> None:
    raw = base64.b64decode("".join(_ARMORED.splitlines()[1:-1])).replace(b"approval@", b"override@")
    with pytest.raises(ApprovalInvalid, match="message"):
        verify(_MESSAGE, _armor(raw), "override@ml-platform", _LINE)


def test_both_hashes_of_the_protocol_count() -> None:
    for name in (b"sha256", b"sha512"):
        assert verify(_MESSAGE, _armor(_blob(hash_name=name)), _NAMESPACE, _LINE)


@pytest.mark.parametrize(
    "changed",
    [
        {"magic": b"SSHSIK"},
        {"version": b"\x00\x00\x00\x02"},
        {"reserved": b"x"},
        {"hash_name": b"md5"},
        {"hash_name": b"shake_128"},
        {"hash_name": b"SHA512"},
        {"hash_name": b""},
        {"trailing": b"\x00"},
        {"trailing": _string(b"")},
        {"signature_kind": b"ssh-rsa"},
        {"value": b"s" * 63},
        {"value": b"s" * 65},
        {"key": b""},
        {"key": _string(b"ssh-ed25519")},
        {"key": _string(b"ssh-ed25519") + _string(b"k" * 31)},
        {"key": _string(b"ssh-ed25519") + _string(b"k" * 32) + _string(b"")},
    ],
)
def test_structures_that_the_protocol_does_not_write_are_refused(changed: dict[str, bytes]) -> None:
    with pytest.raises(ApprovalInvalid, match="malformed"):
        verify(_MESSAGE, _armor(_blob(**changed)), _NAMESPACE, _LINE)


@pytest.mark.parametrize("kind", [b"ssh-rsa", b"ecdsa-sha2-nistp256", b"sk-ssh-ed25519@openssh.com"])
def test_signatures_by_other_key_types_are_refused(kind: bytes) -> None:
    with pytest.raises(ApprovalInvalid, match="not of the type ssh-ed25519"):
        verify(_MESSAGE, _armor(_blob(kind=kind)), _NAMESPACE, _LINE)


def test_public_keys_of_other_types_are_refused() -> None:
    for key in (new_rsa(65537, 2048), new_ecdsa(SECP256R1())):
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        with pytest.raises(ApprovalInvalid, match="not of the type ssh-ed25519"):
            verify(_MESSAGE, _ARMORED, _NAMESPACE, line)


_WORD = _LINE.split()[1]


@pytest.mark.parametrize(
    "line",
    [
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        f"ssh-ed25519 {_WORD[:-4]}",
        f"ssh-ed25519 {_WORD}AAAA",
        f"ssh-ed25519 {_WORD}=",
        f"ssh-ed25519 {_WORD} a\nssh-ed25519 {_WORD}",
        f"ssh-ed25519  {_WORD}",
        "ssh-ed25519 " + base64.b64encode(_string(b"ssh-rsa") + _string(b"k" * 32)).decode(),
    ],
)
def test_malformed_public_keys_are_refused(line: str) -> None:
    for use in (public_key_bytes, fingerprint, lambda text: verify(_MESSAGE, _ARMORED, _NAMESPACE, text)):
        with pytest.raises(ApprovalInvalid, match="public key is malformed"):
            use(line)


@pytest.mark.parametrize(
    "armored",
    [
        "",
        f"{_BEGIN}\n{_END}\n",
        _ARMORED.replace(_BEGIN, "-----BEGIN PGP SIGNATURE-----"),
        _ARMORED.replace(_END, ""),
        "noise\n" + _ARMORED,
        _ARMORED + "noise\n",
        _ARMORED + _ARMORED,
        _ARMORED.replace("A", "A ", 1),
        _ARMORED.replace("U1NI", "U1N\u0130"),
        _ARMORED.ljust(4_097, "\n"),
    ],
)
def test_malformed_armor_is_refused(armored: str) -> None:
    with pytest.raises(ApprovalInvalid, match="malformed"):
        verify(_MESSAGE, armored, _NAMESPACE, _LINE)


def test_line_ends_of_other_systems_are_tolerated() -> None:
    for armored in (_ARMORED.replace("\n", "\r\n"), _ARMORED.ljust(4_096, "\n")):
        assert verify(_MESSAGE, armored, _NAMESPACE, _LINE)


@settings(max_examples=100)
@given(noise=st.one_of(st.text(max_size=200), st.binary(max_size=200).map(_armor)))
def test_noise_raises_nothing_but_our_error(noise: str) -> None:
    for armored in (noise, f"{_BEGIN}\n{noise}\n{_END}\n"):
        with pytest.raises(ApprovalInvalid):
            verify(_MESSAGE, armored, _NAMESPACE, _LINE)


@settings(max_examples=150)
@given(place=st.integers(0, len(_blob()) - 1), bit=st.integers(0, 7), cut=st.booleans())
def test_no_flipped_bit_and_no_cut_passes(place: int, bit: int, cut: bool) -> None:
    altered = bytearray(_blob())
    altered[place] ^= 1 << bit
    with pytest.raises(ApprovalInvalid):
        verify(_MESSAGE, _armor(bytes(altered[:place] if cut else altered)), _NAMESPACE, _LINE)


@pytest.mark.parametrize("namespace", ["", "a b", "a\nb", "ü"])
def test_unusable_namespaces_are_refused(namespace: str) -> None:
    with pytest.raises(DeclarationError):
        sign(_KEY, _MESSAGE, namespace)
    with pytest.raises(DeclarationError):
        verify(_MESSAGE, _ARMORED, namespace, _LINE)


def test_a_public_line_is_type_key_and_comment() -> None:
    assert public_key_line(_KEY) == public_key_line(_KEY.public_key()) == _LINE.removesuffix(" officer@example.org")
    assert public_key_bytes(_LINE + "\n") == _KEY.public_key().public_bytes_raw()


def test_a_comment_cannot_smuggle_in_a_second_line() -> None:
    with pytest.raises(DeclarationError):
        public_key_line(_KEY, f"me\n{_LINE}")


def test_ssh_keygen_accepts_our_signature(tmp_path: Path, ssh_keygen: str) -> None:
    (tmp_path / "allowed").write_text(f'officer namespaces="{_NAMESPACE}" {_LINE}\n')
    (tmp_path / "sig").write_text(_ARMORED)
    check = ("-Y", "verify", "-f", tmp_path / "allowed", "-I", "officer", "-n", _NAMESPACE, "-s", tmp_path / "sig")
    assert _keygen(ssh_keygen, *check, message=_MESSAGE).returncode == 0
    assert _keygen(ssh_keygen, *check, message=_MESSAGE + b"x").returncode != 0


def test_we_sign_byte_for_byte_as_ssh_keygen_does(tmp_path: Path, ssh_keygen: str) -> None:
    path = _write_key(tmp_path / "key")
    signed = _keygen(ssh_keygen, "-Y", "sign", "-f", path, "-n", _NAMESPACE, message=_MESSAGE)
    assert signed.stdout.decode() == _ARMORED


def test_we_accept_a_sha256_signature_of_ssh_keygen(tmp_path: Path, ssh_keygen: str) -> None:
    path = _write_key(tmp_path / "key")
    signed = _keygen(ssh_keygen, "-Y", "sign", "-f", path, "-n", _NAMESPACE, "-O", "hashalg=sha256", message=_MESSAGE)
    assert verify(_MESSAGE, signed.stdout.decode(), _NAMESPACE, _LINE)


def test_we_refuse_an_rsa_signature_of_ssh_keygen(tmp_path: Path, ssh_keygen: str) -> None:
    path = tmp_path / "rsa"
    assert _keygen(ssh_keygen, "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", path).returncode == 0
    signed = _keygen(ssh_keygen, "-Y", "sign", "-f", path, "-n", _NAMESPACE, message=_MESSAGE).stdout.decode()
    with pytest.raises(ApprovalInvalid, match="not of the type ssh-ed25519"):
        verify(_MESSAGE, signed, _NAMESPACE, _LINE)
    with pytest.raises(SettingsError, match="not of the type ssh-ed25519"):
        load_private_key(path)


def test_fingerprint_is_that_of_ssh_keygen(tmp_path: Path, ssh_keygen: str) -> None:
    (tmp_path / "key.pub").write_text(_LINE + "\n")
    assert fingerprint(_LINE) in _keygen(ssh_keygen, "-l", "-f", tmp_path / "key.pub").stdout.decode().split()


def test_encrypted_keys_of_ssh_keygen_open_with_their_passphrase_only(tmp_path: Path, ssh_keygen: str) -> None:
    path = tmp_path / "key"
    made = _keygen(ssh_keygen, "-q", "-t", "ed25519", "-a", "4", "-N", "a long secret", "-C", "me", "-f", path)
    assert made.returncode == 0
    key = load_private_key(path, b"a long secret")
    assert public_key_line(key, "me") == path.with_suffix(".pub").read_text().strip()
    for wrong in (None, b"another secret", b""):
        with pytest.raises(SettingsError) as caught:
            load_private_key(path, wrong)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_private_key_is_read_back(tmp_path: Path) -> None:
    path = _write_key(tmp_path / "key")
    for mode in (0o600, 0o400):
        path.chmod(mode)
        assert load_private_key(path).private_bytes_raw() == _KEY.private_bytes_raw()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644])
def test_a_private_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = _write_key(tmp_path / "key")
    path.chmod(mode)
    with pytest.raises(SettingsError, match="open to group or others"):
        load_private_key(path)


def test_what_is_no_private_key_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "empty").touch(mode=0o600)
    (tmp_path / "noise").touch(mode=0o600)
    (tmp_path / "noise").write_bytes(
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"
    )
    for name in ("absent", "pipe", "empty", "noise", "."):
        with pytest.raises(SettingsError) as caught:
            load_private_key(tmp_path / name)
        assert "c2VjcmV0" not in str(caught.value)
