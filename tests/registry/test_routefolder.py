"""A model's route files: whole or not at all, one writer at a time, and nothing older is ever put in force."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ml_platform.core.errors import Conflict, IllegalTransition, NotFound, StorageFailed, Tampered
from ml_platform.registry.pinned import pin_root, pinned
from ml_platform.registry.routefolder import RouteFolder
from tests.registry.routing import MODEL, PIN, after, allowed, arms, signed
from tests.registry.world import AT, ROOT_ID, line

GENESIS = "sha256:" + "a" * 64
REASON = "sha256:" + "0" * 64


def folder(root: Path) -> RouteFolder:
    pin_root(root / "serving", root_id=ROOT_ID, genesis=GENESIS, service_key=line("service"))
    return RouteFolder.of(root, MODEL)


def turned(files: RouteFolder, target: int):
    return files.turn(target, principal="officer:ann", reason_digest=REASON, at=AT)


TWO = signed(arms=arms(2), allowed_rollbacks=allowed(1))


def test_what_routers_know_is_pinned_once(tmp_path: Path) -> None:
    files = folder(tmp_path)
    assert files.pin == PIN
    assert folder(tmp_path).pin == PIN
    assert stat.S_IMODE((tmp_path / "serving").stat().st_mode) == 0o700
    with pytest.raises(Tampered, match=r"pinned\.json"):
        pin_root(tmp_path / "serving", root_id=ROOT_ID, genesis=GENESIS, service_key=line("evaluator"))
    (tmp_path / "serving" / "pinned.json").write_text("{")
    with pytest.raises(Tampered, match="unreadable"):
        pinned(tmp_path / "serving", MODEL)


def test_without_a_pinned_identity_there_is_no_route(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"pinned\.json"):
        RouteFolder.of(tmp_path, MODEL)


def test_a_route_is_put_in_force_and_followed_by_the_next(tmp_path: Path) -> None:
    files = folder(tmp_path)
    with pytest.raises(NotFound, match="route"):
        files.route()
    files.write(TWO)
    files.write(TWO)
    assert files.route() == TWO
    assert files.route_path.read_bytes() == TWO.raw
    files.write(after(TWO))
    assert files.route() == after(TWO)
    assert files.seen() == after(TWO)
    assert not [one for one in files.folder.iterdir() if one.name.startswith(".")]


def test_an_older_another_or_a_forged_route_is_not_put_in_force(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.write(TWO)
    files.write(after(TWO))
    for made in (TWO, after(TWO, salt="11" * 16)):
        with pytest.raises(Conflict, match="epoch"):
            files.write(made)
    with pytest.raises(Tampered, match="forged"):
        files.write(after(after(TWO), by="officer:ann"))
    with pytest.raises(Tampered, match="other_model"):
        files.write(after(after(TWO), model="churn"))
    assert files.route() == after(TWO)


def test_an_old_route_put_back_by_hand_does_not_count(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.write(TWO)
    files.write(after(TWO))
    files.route_path.write_bytes(TWO.raw)
    assert folder(tmp_path).route() == after(TWO)


def test_a_torn_route_counts_only_where_none_was_followed_before(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.folder.mkdir(parents=True)
    files.route_path.write_bytes(TWO.raw[:100])
    with pytest.raises(Tampered, match="torn"):
        files.route()
    files.write(TWO)
    files.route_path.write_bytes(TWO.raw[:100])
    assert files.route() == TWO


def test_a_flip_goes_to_an_allowed_version_only(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.write(TWO)
    with pytest.raises(IllegalTransition, match="It allows 1, 2"):
        turned(files, 3)
    with pytest.raises(IllegalTransition, match="already"):
        turned(files, 2)
    assert files.flip() is None
    made = turned(files, 1)
    assert (made.target, made.counter, made.route) == (1, 1, TWO.digest)
    assert files.flip() == made


def test_the_same_flip_again_is_the_one_that_there_is(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.write(TWO)
    assert turned(files, 1) == turned(files, 1)


def test_a_second_flip_counts_on_and_may_go_forward_again(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.write(TWO)
    turned(files, 1)
    forward = turned(files, 2)
    assert (forward.target, forward.counter) == (2, 2)
    assert files.flip() == forward


def test_a_flip_to_the_primary_takes_the_canary_out(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.write(signed(arms=arms(1, 2)))
    assert turned(files, 1).target == 1


def test_a_flip_stays_until_a_route_names_it(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.write(TWO)
    made = turned(files, 1)
    files.write(TWO)  # a rerun of the one in force leaves the flip alone
    assert files.flip() == made
    with pytest.raises(Conflict, match="supersedes_flip"):
        files.write(after(TWO))
    files.write(after(TWO, arms=arms(1), allowed_rollbacks=allowed(2), supersedes_flip=made.digest))
    assert files.flip() is None
    assert not files.flip_path.exists()


def test_a_torn_flip_is_replaced(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.write(TWO)
    files.flip_path.write_bytes(b'{"artifact"')
    assert files.flip() is None
    assert turned(files, 1).counter == 1
    files.flip_path.write_bytes(b'{"artifact"')
    files.write(after(TWO))
    assert not files.flip_path.exists()


def test_where_nothing_can_be_written_nothing_changes(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.write(TWO)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path; from tests.registry.test_routefolder import *\n"
        f"files = RouteFolder.of(Path({str(tmp_path)!r}), MODEL)\n"
        "for act in (lambda: files.write(after(TWO)), lambda: turned(files, 1)):\n"
        "    try: act(); sys.exit(3)\n"
        "    except StorageFailed: pass\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert files.route() == TWO
    assert files.flip() is None
    assert issubclass(StorageFailed, Exception)


def test_flips_from_many_processes_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    files = folder(tmp_path)
    files.write(signed(arms=arms(3), allowed_rollbacks=allowed(1, 2)))
    children = []
    for number in range(6):
        pid = os.fork()
        if pid == 0:
            for step in range(10):
                turned(files, 1 + (number + step) % 3)
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 6
    last = files.flip()
    assert last is not None
    assert 10 <= last.counter <= 60


@pytest.mark.parametrize("act", ["write", "turn"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, act: str) -> None:
    """The process is killed at its n-th call of the operating system's writing functions, for every n."""
    outcomes = set()
    for step in range(1, 40):
        root = tmp_path / f"{act}{step}"
        files = folder(root)
        files.write(TWO)
        pid = os.fork()
        if pid == 0:
            _killed_at(step)
            if act == "write":
                files.write(after(TWO))
            else:
                turned(files, 1)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        found = (files.route(), files.flip())
        outcomes.add(found[0].route.epoch + (found[1] is not None))
        assert found[0] in (TWO, after(TWO))
        # and the rerun completes
        if act == "write":
            files.write(after(TWO))
            assert (files.route(), files.seen()) == (after(TWO), after(TWO))
        else:
            assert turned(files, 1).counter == 1
        if os.WIFEXITED(status):
            assert step > 5
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    else:
        pytest.fail("the child never finished")
    assert outcomes == {1, 2}


def _killed_at(step: int) -> None:
    import pathlib

    calls = 0

    def counting(real):
        def call(*given, **named):
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **named)

        return call

    for name in ("open", "fsync", "fchmod", "close"):
        setattr(os, name, counting(getattr(os, name)))
    pathlib.Path.replace = counting(pathlib.Path.replace)  # type: ignore[method-assign]
    pathlib.Path.unlink = counting(pathlib.Path.unlink)  # type: ignore[method-assign]
