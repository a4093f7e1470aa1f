"""Moves versions in forked processes that are killed at each step, then by the same command again; prints JSON lines.

Started by test_routing.py in a fresh process: nothing that owns threads has run before a fork.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import obstore  # noqa: F401 - loaded once, before the forks

from ml_platform import Platform, lifecycle
from ml_platform.core import objects
from ml_platform.core.errors import PlatformError
from ml_platform.lifecycle import flipping, promotion, route_view, routing, sharing  # noqa: F401 - likewise
from ml_platform.registry import checkpoints, routefolder, sql
from tests.lifecycle.routed import BY, MODEL, Shop, new_platform, opened
from tests.serving.crash_driver import in_child

EFFECTS: list[tuple[Any, str]] = [
    (objects.ObjectStore, "create"),
    (checkpoints, "write_atomically"),
    (routefolder, "write_atomically"),
    (flipping, "write_atomically"),
    (sql.Session, "append"),
    (routefolder.RouteFolder, "write"),
    (routing, "enter_route"),
]
LAST = 60


def die_after(step: int) -> None:
    """Lets this process be killed right after its n-th effect."""
    seen = 0

    def dying(real: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal seen
            made = real(*given, **named)
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return made

        return call

    for home, name in EFFECTS:
        setattr(home, name, dying(getattr(home, name)))


def begin(root: Path, act: str) -> None:
    """Version 1 in production; version 2 where the act wants it."""
    shop = Shop(new_platform(root))
    shop.to_production()
    if act == "canary":
        lifecycle.stage(shop.platform, MODEL, shop.version(), **BY)
        shop.approve(2, "canary")
        return
    shop.to_canary()
    shop.approve(2, "production")
    if act in {"rollback", "many"}:
        lifecycle.promote(shop.platform, MODEL, 2, "production", **BY)


def perform(shop: Shop, act: str) -> None:
    if act in {"canary", "production"}:
        lifecycle.promote(shop.platform, MODEL, 2, act, **BY)
    elif act == "rollback":
        lifecycle.rollback(shop.platform, MODEL, to_version=1, **BY)
    elif act == "share":
        lifecycle.set_share(shop.platform, MODEL, 2_500, principal="ada")
    else:
        lifecycle.archive(shop.platform, MODEL, 2, **BY)


def seen(shop: Shop) -> dict[str, Any]:
    route = shop.model.route
    return {
        "production": shop.model.production,
        "shares": shop.shares(),
        "refused": shop.routed.refused is not None,
        "agree": route is not None and route.digest == shop.routed.digest and shop.model.flip is None,
    }


def say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def at_each_step(folder: Path, act: str) -> None:
    assert in_child(lambda: begin(folder / "first", act)) == 0
    for step in range(1, LAST):
        root = folder / str(step)
        shutil.copytree(folder / "first", root)

        def killed(root: Path = root, step: int = step) -> None:
            shop = Shop(opened(Platform.local(root)))
            die_after(step)
            perform(shop, act)

        def again(root: Path = root) -> None:
            shop = Shop(opened(Platform.local(root)))
            between = seen(shop)
            perform(shop, act)
            say({"between": between, "after": seen(shop), "verified": shop.verified()})

        code = in_child(killed)
        assert code in {0, -signal.SIGKILL}, code
        assert in_child(again) == 0
        shutil.rmtree(root)
        if code == 0:
            return
    raise AssertionError("the child never finished")


def many_at_once(folder: Path) -> None:
    """Rollbacks and restores from four processes."""
    root = folder / "first"
    assert in_child(lambda: begin(root, "many")) == 0
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                shop = Shop(opened(Platform.local(root)))
                for step in range(3):
                    if (number + step) % 2:
                        lifecycle.rollback(shop.platform, MODEL, to_version=1, **BY)
                    else:
                        lifecycle.restore(shop.platform, MODEL, 2, **BY)
                code = 0
            except PlatformError:
                code = 3
            finally:
                os._exit(code)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]

    def settled() -> None:
        shop = Shop(opened(Platform.local(root)))
        lifecycle.settle(shop.platform, MODEL, server=None)
        say({"codes": codes, "after": seen(shop), "verified": shop.verified()})

    assert in_child(settled) == 0


if __name__ == "__main__":
    where, what = Path(sys.argv[1]), sys.argv[2]
    many_at_once(where) if what == "many" else at_each_step(where, what)
