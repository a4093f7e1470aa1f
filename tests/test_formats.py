"""Every stored format has golden vectors in docs/formats.md; the code must give exactly those bytes."""

from __future__ import annotations

import hashlib
import hmac
import re
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from ml_platform import Platform
from ml_platform.core.contract import Contract, ResolvedField
from ml_platform.core.digests import canonical_json, document_digest, keyed, sha256_hex, tagged_hash
from ml_platform.core.ids import batch_id_tail, id_text, uuid_v7, uuid_v8
from ml_platform.core.rows import encode_row
from ml_platform.core.subjects import salt
from ml_platform.features.expression_tree import _SIGNATURES
from ml_platform.governance.bundle import write_document
from ml_platform.governance.rebuild import rebuild
from ml_platform.training import RUN_RECORD_ITEMS
from ml_platform.training.environment import capture
from tests.formats import declared, logged, looping, made, online, recorded, streamed, watching
from tests.registry import test_registry_formats as registry
from tests.serving import test_record as record

SEED = bytes(range(32))
AT = datetime(2010, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
# Needs a whole root: tests/governance/test_trace_format.py compares it.
ELSEWHERE = {"trace/1 fields"}


def row_vector() -> str:
    return encode_row(
        [
            ("bool", True),
            ("i64", -2),
            ("f32", 0.5),
            ("f64", -0.0),
            ("us", AT),
            ("date", date(2010, 1, 31)),
            ("text", "é"),
            ("bytes", b"\x00\x01"),
            ("texts", ["a", None]),
            ("f32s", [1.0]),
            ("tensor", np.array([[1.0, 2.0]], np.float32)),
            ("text", None),
        ]
    ).hex()


CONTRACT = Contract(
    entity_keys=(("loan_id", "int64"),),
    time="applied_at",
    fields=(
        ResolvedField("dti", "application@sha256:00:dti", "input", "number", "float64", range=(0.0, None)),
        ResolvedField(
            "term", "application@sha256:00:term", "input", "category", "int64", categories=("36",), on_unknown="flag"
        ),
    ),
)


def rebuild_result() -> str:
    """Of a record made here and now, so that nothing around it differs."""
    with tempfile.TemporaryDirectory() as folder:
        order = {"format": "ml-platform/rebuild/1", "model": "credit_risk", "version": 1, "declared_in": None}
        write_document(Path(folder), "rebuild.json", order)
        write_document(Path(folder), "record.json", capture(threads=1).to_json() | {"trainer": {"trainer": "other"}})
        return canonical_json(made.kinds(rebuild(Path(folder)))).decode()


COMPUTED: dict[str, Callable[[], str]] = {
    "row/1": row_vector,
    "canonical-json": lambda: canonical_json({"b": 1.0, "a": ["é", None, True]}).decode(),
    "document-digest": lambda: document_digest("definition", {"a": 1}),
    "tagged-hash": lambda: tagged_hash("ml-platform/example/1", ("text", "x"), ("i64", 7)).hex(),
    "keyed": lambda: keyed(SEED, "ml-platform/example/1", ("text", "x")).hex(),
    "file-digest": lambda: sha256_hex(b"abc"),
    "salt/1": lambda: salt(SEED, "training_row", encode_row([("i64", 42)])).hex(),
    "id/1 batch": lambda: id_text(
        uuid_v8(
            AT,
            batch_id_tail(
                SEED,
                root_id="0123456789abcdef",
                model="credit_risk",
                version=1,
                mode="batch",
                role="primary",
                partition="2010-01",
                row_key=encode_row([("i64", 42)]),
                revision=0,
            ),
        )
    ),
    "id/1 online": lambda: id_text(uuid_v7(AT, bytes(range(10)))),
    "contract/1": lambda: CONTRACT.digest,
    **declared.COMPUTED,
    **made.COMPUTED,
    **recorded.COMPUTED,
    **logged.COMPUTED,
    **watching.COMPUTED,
    **looping.COMPUTED,
    **online.COMPUTED,
    **streamed.COMPUTED,
    **{name: lambda name=name: record.computed()[name] for name in record.GOLDEN},  # type: ignore[misc]
    **{f"registry {name}": one for name, one in registry.COMPUTED.items()},
    "rebuild-result/1 kinds of values": rebuild_result,
}


def vectors(page: Path) -> dict[str, str]:
    return dict(re.findall(r"^```vector ([^\n]+)\n([^\n]*)\n```$", page.read_text(), flags=re.MULTILINE))


@pytest.fixture(scope="module")
def page(repository: Path) -> Path:
    return repository / "docs" / "formats.md"


def test_every_golden_vector_of_the_page_is_computed_and_every_computed_one_is_on_the_page(page: Path) -> None:
    assert set(vectors(page)) == set(COMPUTED) | ELSEWHERE
    assert page.read_text().count("```vector ") == len(vectors(page))


@pytest.mark.parametrize("name", sorted(COMPUTED))
def test_the_code_gives_the_golden_bytes(name: str, page: Path) -> None:
    assert COMPUTED[name]() == vectors(page)[name]


def tags(repository: Path) -> set[str]:
    """Every ``<noun>/<n>`` that the code writes."""
    found: set[str] = set()
    for module in (repository / "ml_platform").rglob("*.py"):
        source = module.read_text()
        found |= set(re.findall(r"ml-platform/([a-z-]+/[1-9])", source))
        found |= {f"{noun}/1" for noun in re.findall(r'document_digest\("([a-z_-]+)"', source)}
    return found


def test_every_format_of_the_code_has_a_vector(repository: Path, page: Path) -> None:
    golden = vectors(page)
    # The data version of a view in Dagster; it is compared, never opened.
    wanted = tags(repository) - {"feature_tables/1"}
    lacking = {
        tag
        for tag in wanted
        if not any(tag in name.split() or f"ml-platform/{tag}" in value for name, value in golden.items())
    }
    assert not lacking


@pytest.mark.parametrize("noun", ["operators of expressions", "items of the run record"])
def test_the_page_names_all(noun: str, page: Path) -> None:
    named = {"operators of expressions": [*_SIGNATURES, "case"], "items of the run record": RUN_RECORD_ITEMS}[noun]
    text = page.read_text()
    assert [name for name in named if f"`{name}`" not in text and f'"{name}"' not in text] == []


@pytest.mark.parametrize("kind", ["wall", "replay"])
def test_every_file_of_a_new_root_is_on_the_page(kind: str, page: Path, tmp_path: Path) -> None:
    platform = Platform.create(tmp_path / "root", kind=kind, member_keys={"ann": []})  # type: ignore[arg-type]
    platform.registry.close()
    platform.subjects.seeds("loan", [b""])
    platform.objects.put(b"abc")
    files = [file.relative_to(platform.root).as_posix() for file in platform.root.rglob("*") if file.is_file()]
    text = page.read_text()
    general = [(r"people/ann", "people/<principal>"), (r"checkpoints/\d+", "checkpoints/<size>")]
    general += [(r"sha256/../[0-9a-f]{64}", "sha256/<2 hex>/<64 hex>")]
    for pattern, name in general:
        files = [re.sub(pattern, name, file) for file in files]
    assert [file for file in files if f"`{file}`" not in text] == []
    assert ("clock" in files, "secrets/root_seed" in files) == (kind == "replay",) * 2


# By hand: not one line of our own encoders below.


def t(value: str) -> bytes:
    return b(value.encode())


def b(value: bytes) -> bytes:
    return b"\x01" + len(value).to_bytes(4, "little") + value


def i(value: int) -> bytes:
    return b"\x01" + value.to_bytes(8, "little", signed=True)


def sha(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def test_the_leaf_of_a_record_by_hand(page: Path) -> None:
    golden = vectors(page)
    header, section = bytes.fromhex(golden["header/1"]), bytes.fromhex(golden["personal-section/1"])
    prediction = header[-25:-9]  # before it stands its length, after it the seq: presence byte and eight bytes
    key = hmac.digest(SEED, t("ml-platform/salt/1") + t("prediction") + b(prediction), "sha256")
    assert key.hex() == golden["salt/1 prediction"]
    committed = hmac.digest(key, t("ml-platform/personal/1") + b(section), "sha256")
    assert committed.hex() == golden["personal/1"]
    leaf = sha(b"\x00" + t("ml-platform/leaf/1") + b(header) + t("subject") + b(committed))
    assert leaf.hex() == golden["leaf/1"]


def test_the_leaf_of_a_training_row_by_hand(page: Path) -> None:
    key = i(42) + i(1_264_939_200_123_456)
    row = key + b"\x01\x00\x00\x00\x3f" + b"\x00" + t("36") + i(1) + i(1_296_475_200_123_456) + t("train")
    salted = hmac.digest(SEED, t("ml-platform/salt/1") + t("training_row") + b(key), "sha256")
    leaf = sha(b"\x00" + t("ml-platform/training-leaf/1") + b(salted) + b(row))
    assert leaf.hex() == vectors(page)["training-leaf/1"]


def test_digests_of_documents_by_hand(page: Path) -> None:
    golden = vectors(page)
    for kind in ("entity", "source", "request_view", "feature_view", "model"):
        digest = sha(t("ml-platform/definition/1") + b(golden[f"definition/1 {kind}"].encode())).hex()
        assert golden[f"definition/1 {kind} digest"] == f"sha256:{digest}"
    listing = golden["artifact/1"].partition('"parts":')[2].removesuffix("}")
    assert golden["artifact/1 digest"] == f"sha256:{sha(t('ml-platform/artifact/1') + b(listing.encode())).hex()}"


def test_the_root_of_a_tree_and_the_identity_of_the_platform_by_hand(page: Path) -> None:
    golden = vectors(page)
    one, two, three = (bytes([value]) * 32 for value in (1, 2, 3))
    assert golden["snapshot digest"] == "sha256:" + sha(b"\x01" + sha(b"\x01" + one + two) + three).hex()
    entry = golden["registry entry/1 genesis"].encode()
    assert golden["registry platform"] == "sha256:" + sha(b"\x00" + entry).hex()
