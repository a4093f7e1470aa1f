"""One row edited, deleted, inserted or moved with sqlite3: ``verify`` names it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_platform.core.digests import canonical_json, parse_canonical, sha256_hex
from ml_platform.core.errors import Tampered
from ml_platform.core.merkle import Frontier, leaf_hash
from ml_platform.registry import Registry, Report, Signer
from ml_platform.registry.checkpoints import Checkpoints, CheckpointSigner
from ml_platform.registry.notes import Checkpoint, sign_checkpoint
from tests.registry.world import ROOT_ID, World, key


@pytest.fixture
def full(world: World) -> World:
    """A log with one of nearly everything; versions 1 (archived) and 2 (production)."""
    world.to_production(world.version(1))
    world.add_key("team:eve", "officer:bob")
    world.to_production(world.version(2, baseline=(1, world.artifact(1))))
    world.request(3)
    world.registry.seal_segments([segment()])
    world.registry.close_writer("writer-1", 9)
    world.registry.close()
    return world


def segment() -> dict:
    time = "2026-01-05T09:00:00.000000Z"
    return {
        "id": "segment-1", "size": 10, "root": sha256_hex(b"root"), "models": ["credit_risk"],
        "first_id": "0-0", "last_id": "0-9", "writer": "writer-1", "first_seq": 0, "last_seq": 9,
        "counts": {"decisions": 10}, "min_decided_at": time, "max_decided_at": time,
    }  # fmt: skip


def sql(world: World, *statements: str | tuple[str, tuple]) -> None:
    with sqlite3.connect(world.database) as connection:
        for statement in statements:
            connection.execute(*((statement,) if isinstance(statement, str) else statement))


def raw(world: World, index: int) -> bytes:
    with sqlite3.connect(world.database) as connection:
        return connection.execute("select raw from entries where entry = ?", (index,)).fetchone()[0]


def edit(world: World, index: int, change: Callable[[dict], None], *, mend: bool) -> None:
    """Changes an entry; ``mend``: with leaf hash and head, as somebody would who knows how."""
    document = parse_canonical(raw(world, index))
    change(document)
    changed = canonical_json(document)
    sql(world, ("update entries set raw = ? where entry = ?", (changed, index)))
    if mend:
        mend_hashes(world)


def mend_hashes(world: World) -> None:
    with sqlite3.connect(world.database) as connection:
        stored = connection.execute("select entry, raw from entries order by entry").fetchall()
        leaves = [leaf_hash(one) for _, one in stored]
        connection.executemany(
            "update entries set leaf_hash = ? where entry = ?",
            [(leaf, index) for (index, _), leaf in zip(stored, leaves, strict=True)],
        )
        frontier = Frontier().extend(leaves)
        connection.execute(
            "update head set size = ?, frontier = ?, root = ?", (frontier.size, frontier.to_bytes(), frontier.root())
        )


def verify(world: World, **more) -> Report:
    return Registry.open(world.url, world.objects, **world.parts()).verify(**more)


def first(world: World) -> int | None:
    """The entry that is named, once by ``verify`` and once by what stops the next write."""
    report = verify(world)
    assert report.status == "tampered", report
    assert report.exit_code == 5
    assert report.statement.startswith("tampered")
    with pytest.raises(Tampered):
        Registry.open(world.url, world.objects, **world.parts()).candidate_requested(
            "credit_risk", world.candidate(77), as_of=world.wall.now(), spec=world.spec(), inputs=sha256_hex(b""),
            requested_by="service",
        )  # fmt: skip
    return report.problems[0].entry


def size(world: World) -> int:
    with sqlite3.connect(world.database) as connection:
        return connection.execute("select count(*) from entries").fetchone()[0]


def test_an_untouched_log_is_consistent_and_says_no_more_than_that(full: World) -> None:
    report = verify(full)
    assert (report.status, report.exit_code, report.ok) == ("verified", 0, True)
    assert report.statement == "Internally consistent only: no older checkpoint was given."
    assert report.size == size(full)
    assert report.open_writers == ()
    assert report.to_json()["entries"] == report.size


def test_against_an_older_checkpoint_it_is_verified(full: World) -> None:
    older = (full.folder / "store" / "checkpoints" / "4").read_bytes()
    report = verify(full, since=older)
    assert (report.ok, report.since) == (True, 4)
    assert report.statement == "Verified: the log extends the checkpoint of 4 entries."


def test_every_edited_row_is_named(full: World) -> None:
    pristine = [raw(full, index) for index in range(size(full))]
    for index, before in enumerate(pristine):
        sql(full, ("update entries set raw = ? where entry = ?", (before.replace(b"2026", b"2027", 1), index)))
        assert first(full) == index
        sql(full, ("update entries set raw = ? where entry = ?", (before, index)))
    assert verify(full).ok


def test_an_edited_leaf_hash_is_named(full: World) -> None:
    sql(full, "update entries set leaf_hash = zeroblob(32) where entry = 5")
    assert first(full) == 5


def test_text_or_null_where_bytes_belong_is_named(full: World) -> None:
    sql(full, "update entries set raw = 'text' where entry = 3")
    assert first(full) == 3


def test_a_deleted_row_is_named(full: World) -> None:
    sql(full, "delete from entries where entry = 6")
    assert first(full) == 6


def test_a_deleted_row_with_the_others_moved_up_is_found(full: World) -> None:
    sql(full, "delete from entries where entry = 6", "update entries set entry = -entry where entry > 6",
        "update entries set entry = -entry - 1 where entry < 0")  # fmt: skip
    mend_hashes(full)
    named = first(full)
    assert named is not None
    assert named <= 7  # the first entry that no longer follows, or the start of the signed stretch that holds it


def test_an_inserted_row_is_named(full: World) -> None:
    count = size(full)
    sql(full, ("insert into entries values (?, ?, ?)", (count, raw(full, 5), leaf_hash(raw(full, 5)))))
    assert verify(full).problems[0].entry == count


def test_an_inserted_row_in_the_middle_is_found(full: World) -> None:
    sql(
        full,
        "update entries set entry = -entry - 1 where entry >= 12",
        "update entries set entry = -entry where entry < 0",
    )
    requested = parse_canonical(raw(full, 1)) | {"model": "churn"}
    sql(full, ("insert into entries values (12, ?, ?)", (canonical_json(requested), b"")))
    mend_hashes(full)
    assert first(full) == 12


def test_two_rows_swapped_are_found(full: World) -> None:
    a, b = raw(full, 2), raw(full, 3)
    sql(
        full, ("update entries set raw = ? where entry = 2", (b,)), ("update entries set raw = ? where entry = 3", (a,))
    )
    assert first(full) == 2
    mend_hashes(full)
    assert first(full) == 2


def test_a_truncated_log_is_found_even_with_a_mended_head(full: World) -> None:
    count = size(full)
    sql(full, f"delete from entries where entry >= {count - 5}")
    assert first(full) == count - 5
    mend_hashes(full)
    assert first(full) is not None


def test_a_mended_edit_of_evidence_is_named_by_its_rule(full: World) -> None:
    edit(full, 3, lambda entry: entry["body"].update(artifact=sha256_hex(b"other")), mend=True)
    assert first(full) == 3


def test_a_mended_edit_of_what_no_rule_sees_is_within_the_signed_stretch_that_is_named(full: World) -> None:
    edit(full, 1, lambda entry: entry["body"].update(inputs=sha256_hex(b"other")), mend=True)
    report = verify(full)
    assert report.problems[0].entry == 1
    assert "from 1 to 3" in report.problems[0].what


def test_a_genesis_with_another_officer_is_found(full: World) -> None:
    edit(full, 0, lambda entry: entry["body"]["officers"].update(threshold=2), mend=True)
    assert first(full) == 0


def test_the_known_identity_can_be_pinned(full: World) -> None:
    genesis = verify(full).genesis
    assert verify(full, genesis=genesis).ok
    report = verify(full, genesis=sha256_hex(b"another platform"))
    assert (report.status, report.problems[0].entry) == ("tampered", 0)


def test_a_head_that_says_something_else_is_found(full: World) -> None:
    sql(full, "update head set root = zeroblob(32)")
    assert verify(full).status == "tampered"
    sql(full, "update head set size = size + 1")
    assert first(full) == size(full)


@pytest.mark.parametrize(
    "statement",
    [
        "update stages set stage = 'canary' where version = 2",
        "update versions set artifact = 'sha256:0' where version = 1",
        "delete from approvals",
        "delete from nonces",
        "delete from segments",
        "insert into nonces values ('00', 3)",
        "insert into stages values ('churn', 1, 'production', 3)",
    ],
)
def test_read_tables_that_differ_from_the_log_are_named_and_decide_nothing(full: World, statement: str) -> None:
    sql(full, statement)
    report = verify(full)
    assert report.status == "tampered"
    assert statement.split()[2 if "into" in statement or "from" in statement else 1] in report.problems[0].what
    registry = Registry.open(full.url, full.objects, **full.parts())
    assert registry.state().model("credit_risk").production == 2


def evidence_path(world: World, digest: str) -> Path:
    return world.folder / "store" / world.objects.path_of(digest)


def test_missing_evidence_is_incomplete_and_not_tampered(full: World) -> None:
    payload = next(
        entry["body"]["payload"] for index in range(size(full))
        if (entry := parse_canonical(raw(full, index)))["kind"] == "approval_given"
    )  # fmt: skip
    evidence_path(full, payload).unlink()
    report = verify(full)
    assert (report.status, report.exit_code) == ("incomplete", 10)
    assert report.problems[0].what == "An evidence object is missing."


@pytest.mark.parametrize(
    "kind",
    ["approval_given.payload", "approval_given.signature", "transition.reason", "candidate_evaluated.evaluation"],
)
def test_changed_evidence_is_tampered_and_named(full: World, kind: str) -> None:
    name, field = kind.split(".")
    index, entry = next(
        (index, entry) for index in range(size(full)) if (entry := parse_canonical(raw(full, index)))["kind"] == name
    )
    path = evidence_path(full, entry["body"][field])
    path.write_bytes(path.read_bytes() + b" ")
    report = verify(full)
    assert report.status == "tampered"
    assert report.problems[0].entry in {index, index - 1}  # a reason is named by the announcement first


def test_a_rewritten_log_with_rewritten_checkpoints_fails_only_against_the_older_one(
    full: World, tmp_path: Path
) -> None:
    """The operator himself, with every key: what only an outside copy of a checkpoint can show."""
    kept = (full.folder / "store" / "checkpoints" / "6").read_bytes()
    other = World(tmp_path / "other")
    other.to_production(other.version(1))
    other.version(2, baseline=(1, other.artifact(1)))
    other.version(3, baseline=(1, other.artifact(1)))
    other.objects.put(b"x")
    assert other.registry.verify().statement.startswith("Internally consistent only")
    other.wall.forward(hours=1)
    assert other.registry.verify(since=kept).ok  # the same keys and the same clock: the same first 6 entries
    rewritten = World(tmp_path / "rewritten")
    rewritten.wall.forward(hours=1)
    rewritten.to_production(rewritten.version(1))
    report = rewritten.registry.verify(since=kept)
    assert report.status == "tampered"
    assert "does not extend" in report.statement


def test_a_checkpoint_of_the_future_or_of_another_key_is_refused(full: World) -> None:
    registry = Registry.open(full.url, full.objects, **full.parts())
    state = registry.state()
    signer = full.signer.key
    ahead = sign_checkpoint(Checkpoint(signer.name, state.size + 1, bytes(32)), signer)
    assert registry.verify(since=ahead).status == "tampered"
    stranger = Signer(f"ml-platform/{ROOT_ID}", key("stranger"))
    forged = sign_checkpoint(Checkpoint(signer.name, 1, registry._log.tree.root_at(1)), stranger)
    assert registry.verify(since=forged).status == "tampered"


def test_a_forged_checkpoint_in_the_store_is_found(full: World) -> None:
    stranger = CheckpointSigner(Signer(f"ml-platform/{ROOT_ID}", key("stranger")), full.folder / "stranger")
    (full.folder / "store" / "checkpoints" / "3").unlink(missing_ok=True)
    with pytest.raises(Exception):  # noqa: B017, PT011 - the root of size 3 is not what the caller claims
        Checkpoints(full.objects, stranger).publish(f"ml-platform/{ROOT_ID}", 3, lambda _: bytes(31))
    Checkpoints(full.objects, stranger).publish(f"ml-platform/{ROOT_ID}", 3, lambda _: bytes(32))
    assert verify(full).status == "tampered"


def test_a_quorum_of_witnesses_that_did_not_sign_is_unwitnessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = Signer("witness.example", key("witness")).verifier.vkey
    plain = World.genesis
    monkeypatch.setattr(World, "genesis", lambda self: {**plain(self), "witnesses": {"vkeys": [witness], "quorum": 1}})
    report = World(tmp_path / "root").registry.verify()
    assert (report.status, report.exit_code) == ("unwitnessed", 11)
