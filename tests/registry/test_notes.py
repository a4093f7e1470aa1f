from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import DeclarationError, SettingsError, Tampered
from ml_platform.core.merkle import EMPTY_ROOT, leaf_hash
from ml_platform.registry.notes import (
    Checkpoint,
    Signer,
    Verifier,
    add_signature,
    open_checkpoint,
    open_note,
    sign_checkpoint,
    sign_note,
)

# The key, text and signature with which Go documents its package golang.org/x/mod/sumdb/note.
_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
_ENOCH = "\u2014 EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ="
_NOTE = f"{_TEXT}\n\u2014 PeterNeumann {_SIGNATURE}\n".encode()

_LOG = Signer("ml-platform/0a1b", Ed25519PrivateKey.from_private_bytes(b"l" * 32))
_WITNESS = Signer("witness.example", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
_ROOT = leaf_hash(b"genesis")


def test_the_documented_key_signs_the_documented_note() -> None:
    signer = Signer.parse(_SKEY)
    assert signer.verifier.vkey == _VKEY
    assert signer.to_skey() == _SKEY
    assert sign_note(_TEXT, signer) == _NOTE


def test_the_documented_note_opens_under_the_documented_key() -> None:
    opened = open_note(_NOTE, [Verifier.parse(_VKEY)])
    assert opened == (_TEXT, ("PeterNeumann",))


def test_signatures_by_unknown_keys_are_tolerated_and_kept() -> None:
    note = _NOTE + _ENOCH.encode() + b"\n"
    assert open_note(note, [Verifier.parse(_VKEY)]).names == ("PeterNeumann",)
    cosigned = add_signature(note, _WITNESS)
    assert cosigned.startswith(note)
    assert open_note(cosigned, [_WITNESS.verifier, Verifier.parse(_VKEY)]).names == ("PeterNeumann", "witness.example")
    assert open_note(cosigned, [_WITNESS.verifier]).names == ("witness.example",)


def test_signing_twice_with_one_key_changes_nothing() -> None:
    note = add_signature(_NOTE, _WITNESS)
    assert add_signature(note, _WITNESS) == note


def test_a_note_without_a_known_signature_is_refused() -> None:
    for verifiers in ([], [_LOG.verifier]):
        with pytest.raises(Tampered, match="No known key"):
            open_note(_NOTE, verifiers)


def test_a_false_signature_by_a_known_key_is_refused_though_another_is_good() -> None:
    altered = add_signature(_NOTE, _WITNESS).replace(b"you think", b"we think")
    resigned = add_signature(altered, _WITNESS)
    assert open_note(resigned, [_WITNESS.verifier]).names == ("witness.example",)
    with pytest.raises(Tampered, match="false"):
        open_note(resigned, [_WITNESS.verifier, Verifier.parse(_VKEY)])


def test_a_key_of_the_same_name_is_another_key() -> None:
    namesake = Signer(_LOG.name, Ed25519PrivateKey.from_private_bytes(b"n" * 32))
    with pytest.raises(Tampered):
        open_note(sign_note("text\n", namesake), [_LOG.verifier])


def test_a_text_may_hold_blank_lines_and_what_looks_like_signatures() -> None:
    text = f"one\n\n{_ENOCH}\n\n\nünï\n"
    assert open_note(sign_note(text, _LOG, _WITNESS), [_LOG.verifier]).text == text


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "bell\a\n", "return\r\n", "\ud800\n"])
def test_texts_that_a_note_cannot_hold_are_refused(text: str) -> None:
    with pytest.raises(DeclarationError):
        sign_note(text, _LOG)


def test_a_note_needs_a_signer() -> None:
    with pytest.raises(DeclarationError):
        sign_note("text\n")


_LINE = sign_note("t\n", _LOG).decode().split("\n")[2]
_LINES = _LINE + "\n"
_NO_BREAK = _LINE.replace(_LOG.name, "no\u00a0break")
_HYPHEN = _LINE.replace("\u2014", "-")


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        b"t\n\n",
        f"t\n{_LINE}\n".encode(),
        f"t\n\n{_LINE}".encode(),
        f"t\n\n{_LINE}\n\n".encode(),
        f"t\n\n{_LINE}\nnoise\n".encode(),
        f"t\n\n{_LINE.replace(_LOG.name, 'na+me')}\n".encode(),
        f"t\n\n{_LINE.replace(_LOG.name, '')}\n".encode(),
        f"t\n\n{_NO_BREAK}\n{_LINE}\n".encode(),
        f"t\n\n{_LINE}=\n".encode(),
        f"t\n\n{_LINE} \n".encode(),
        f"t\n\n{_LINE}\n\u2014 x AAAAAA==\n".encode(),
        f"t\n\n{_HYPHEN}\n{_LINE}\n".encode(),
        f"t\x00\n\n{_LINE}\n".encode(),
        b"\xff" + f"t\n\n{_LINE}\n".encode(),
        f"t\n\n{_LINES * 101}".encode(),
        f"{'t' * 1_000_000}\n\n{_LINE}\n".encode(),
    ],
)
def test_malformed_notes_are_refused(note: bytes) -> None:
    with pytest.raises(Tampered):
        open_note(note, [_LOG.verifier])


def test_a_million_bytes_are_not_too_many() -> None:
    text = "t" * (1_000_000 - len(f"\n\n{_LINE}\n".encode())) + "\n"
    note = sign_note(text, _LOG)
    assert len(note) == 1_000_000
    assert open_note(note, [_LOG.verifier]).text == text


def test_a_hundred_signatures_are_not_too_many() -> None:
    assert open_note(f"t\n\n{_LINES * 100}".encode(), [_LOG.verifier]).names == (_LOG.name,)


def test_a_shortest_unknown_signature_is_kept() -> None:
    assert open_note(f"t\n\n{_LINE}\n\u2014 x AAAAAAA=\n".encode(), [_LOG.verifier]).names == (_LOG.name,)


@settings(max_examples=100)
@given(place=st.integers(0, len(_NOTE) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_note_passes(place: int, bit: int) -> None:
    altered = bytearray(_NOTE)
    altered[place] ^= 1 << bit
    with pytest.raises(Tampered):
        open_note(bytes(altered), [Verifier.parse(_VKEY)])


@settings(max_examples=100)
@given(noise=st.binary(max_size=300))
def test_noise_is_refused_with_our_error(noise: bytes) -> None:
    for note in (noise, b"t\n\n" + noise, f"t\n\n{_LINE}\n".encode() + noise + b"!"):
        with pytest.raises(Tampered):
            open_note(note, [_LOG.verifier])


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "PeterNeumann",
        _VKEY.replace("PeterNeumann", "Peter Neumann"),
        _VKEY.replace("PeterNeumann", ""),
        _VKEY.replace("PeterNeumann", "Other"),
        _VKEY.replace("c74f20a3", "c74f20a4"),
        _VKEY.replace("c74f20a3", "C74F20A3"),
        _VKEY.replace("ARpc", "AQpc"),
        _VKEY[:-4],
        _VKEY + "AAAA",
        _VKEY[:-1] + "!",
        "x+00000000+" + base64.b64encode(b"\x02" + b"k" * 32).decode(),
        "x+00000000+" + base64.b64encode(b"\x01" + b"k" * 31).decode(),
    ],
)
def test_malformed_keys_are_refused(vkey: str) -> None:
    with pytest.raises(SettingsError):
        Verifier.parse(vkey)


@pytest.mark.parametrize("skey", ["", _VKEY, _SKEY.replace("c74f20a3", "c74f20a4"), _SKEY[:-4], f"PRIVATE+KEY+{_VKEY}"])
def test_malformed_private_keys_are_refused_without_showing_them(skey: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Signer.parse(skey)
    assert "AYEKFALV" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "\x7f\x1f", "\ud800"])
def test_unusable_names_are_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        Verifier(name, b"k" * 32)
    with pytest.raises(SettingsError):
        Signer(name, Ed25519PrivateKey.generate())


def test_a_signer_shows_its_name_only() -> None:
    assert repr(Signer.parse(_SKEY)) == "Signer(name='PeterNeumann')"


def test_a_checkpoint_is_origin_size_and_root_in_three_lines() -> None:
    checkpoint = Checkpoint(_LOG.name, 17, _ROOT)
    assert checkpoint.body() == f"ml-platform/0a1b\n17\n{base64.b64encode(_ROOT).decode()}\n"
    assert open_checkpoint(sign_checkpoint(checkpoint, _LOG), [_LOG.verifier]) == checkpoint


@settings(max_examples=100)
@given(
    size=st.integers(0, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
    extensions=st.lists(st.text("ab cü", min_size=1), max_size=3),
)
def test_every_checkpoint_survives_the_round_trip(size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(_LOG.name, size, root, tuple(extensions))
    assert Checkpoint.parse(checkpoint.body()) == checkpoint


_B64 = base64.b64encode(_ROOT).decode()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "o\n1\n",
        f"o\n1\n{_B64}",
        f"\n1\n{_B64}\n",
        f"o\n01\n{_B64}\n",
        f"o\n-1\n{_B64}\n",
        f"o\n+1\n{_B64}\n",
        f"o\n1_0\n{_B64}\n",
        f"o\n 1\n{_B64}\n",
        f"o\n١\n{_B64}\n",
        f"o\n{2**63}\n{_B64}\n",
        f"o\n{'9' * 5000}\n{_B64}\n",
        f"o\n1\n{_B64[:-4]}\n",
        f"o\n1\n{_B64}AAAA\n",
        f"o\n1\n{_B64}\n\n",
        f"o\n1\n{_B64}\n\nx\n",
        f"o\n1\n{_B64}\nx",
    ],
)
def test_texts_that_are_no_checkpoint_are_refused(body: str) -> None:
    with pytest.raises(Tampered):
        Checkpoint.parse(body)


@pytest.mark.parametrize(
    ("origin", "size", "root", "extensions"),
    [
        ("", 1, _ROOT, ()),
        ("a\nb", 1, _ROOT, ()),
        ("o", -1, _ROOT, ()),
        ("o", 2**63, _ROOT, ()),
        ("o", 1, _ROOT[:-1], ()),
        ("o", 1, _ROOT, ("",)),
        ("o", 1, _ROOT, ("a\nb",)),
    ],
)
def test_values_without_a_form_in_a_checkpoint_are_refused(
    origin: str, size: int, root: bytes, extensions: tuple[str, ...]
) -> None:
    with pytest.raises(DeclarationError):
        Checkpoint(origin, size, root, extensions)


def test_only_the_log_itself_signs_its_checkpoint() -> None:
    with pytest.raises(DeclarationError):
        sign_checkpoint(Checkpoint(_LOG.name, 0, EMPTY_ROOT), _WITNESS)


def test_a_witness_alone_does_not_make_a_checkpoint() -> None:
    note = sign_note(Checkpoint(_LOG.name, 1, _ROOT).body(), _WITNESS)
    with pytest.raises(Tampered, match="not signed by the log"):
        open_checkpoint(note, [_LOG.verifier, _WITNESS.verifier])


def test_a_cosigned_checkpoint_still_opens() -> None:
    checkpoint = Checkpoint(_LOG.name, 1, _ROOT)
    note = add_signature(sign_checkpoint(checkpoint, _LOG), _WITNESS)
    assert open_checkpoint(note, [_LOG.verifier]) == checkpoint
    assert open_note(note, [_LOG.verifier, _WITNESS.verifier]).names == (_LOG.name, "witness.example")
