from __future__ import annotations

import threading
import time

import pytest

from ml_platform.serving.behind import Behind


def test_tasks_run_in_order_on_one_other_thread() -> None:
    seen: list[tuple[int, int]] = []
    with Behind() as behind:
        for number in range(20):
            behind.run(lambda number=number: seen.append((number, threading.get_ident())))  # type: ignore[misc]
    assert [number for number, _ in seen] == list(range(20))
    assert {thread for _, thread in seen} != {threading.get_ident()}
    assert len({thread for _, thread in seen}) == 1


def test_the_block_ends_when_the_last_task_has() -> None:
    done = []
    with Behind() as behind:
        behind.run(lambda: (time.sleep(0.05), done.append(1)))
    assert done == [1]


def fails() -> None:
    raise OSError("full")


@pytest.mark.parametrize("more", [False, True])
def test_an_error_of_a_task_is_raised_by_the_next_or_at_the_end(more: bool) -> None:
    after = []
    with pytest.raises(OSError, match="full"), Behind() as behind:  # noqa: PT012 - the block's end is what is tested
        behind.run(fails)
        if more:
            behind.run(lambda: after.append(1))
    assert after == []


def test_an_error_of_the_block_itself_is_the_one_that_is_raised() -> None:
    with pytest.raises(KeyError), Behind() as behind:  # noqa: PT012 - likewise
        behind.run(fails)
        raise KeyError("mine")
