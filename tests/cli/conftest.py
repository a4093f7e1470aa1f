"""A small lender's folder, built only with ``mlp``: keys, a replay root, landed loans, a version in production."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_platform.registry.sshsig import load_private_key, sign
from ml_platform.simulation import LendingMarket
from tests.cli.support import ACCEPT, DECLARATION, MODELS, Shop, call


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """With both models declared and the loans landed; nothing trained yet."""
    made = Shop(tmp_path_factory.mktemp("shop"))
    made.code.mkdir()
    (made.code / "cli_shop.py").write_text(DECLARATION)
    LendingMarket(loans=36_000).write(made.folder / "market")
    for principal in ("alice", "bob", "carol"):
        assert call("keys", "new", "--principal", principal, "--out", made.key(principal)).code == 0
    members = [part for one in ("alice", "bob") for part in ("--member", f"{one}={made.key(one)}.pub")]
    made.must("init", "--kind", "replay", "--starts-at", "2010-07-01", *members)
    for source in ("applications", "outcomes"):
        made.must("land", source, made.folder / "market" / f"{source}.parquet", *MODELS)
    return made


@pytest.fixture(scope="session")
def trained(shop: Shop) -> Shop:
    """Version 1 of ``small`` is registered."""
    shop.must("train", "small", "--as-of", "2010-01-01", *MODELS)
    return shop


@pytest.fixture(scope="session")
def live(trained: Shop) -> Shop:
    """Version 1 is in production by the approvals of two people, and June 2010 is decided."""
    trained.must("promote", "small", 1, "--to", "staging", "--reason", "passed its gate")
    for stage in ("canary", "production"):
        reason = ("--to", stage, "--reason", "looked at it", *ACCEPT)
        trained.must("approve", "small", 1, "--key", trained.key("alice"), *reason)
        _sign_elsewhere(trained, trained.folder / f"{stage}.json", reason)
        trained.must("promote", "small", 1, "--to", stage, "--reason", "two agree", "--principal", "alice")
    trained.must("score", "small", "--partition", "2010-06", *MODELS)
    return trained


def _sign_elsewhere(shop: Shop, payload: Path, reason: tuple[str, ...]) -> None:
    """Bob signs the written bytes as `ssh-keygen -Y sign` does (a test compares), and the signature is entered."""
    written = shop.must("approve", "small", 1, "--payload-out", payload, *reason)
    signature = Path(f"{payload}.sig")
    signature.write_text(sign(load_private_key(shop.key("bob")), payload.read_bytes(), written["namespace"]))
    entered = shop.must("approve", "small", 1, "--payload", payload, "--signature", signature)
    assert entered["log_index"] > 0
