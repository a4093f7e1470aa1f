from __future__ import annotations

import os
import subprocess
import sys
import time

from ml_platform.serving.triton.processes import dead_children, is_running


def test_a_running_a_dead_and_a_forgotten_process_are_told_apart():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert is_running(child.pid)
    assert child.pid not in dead_children(os.getpid())
    child.kill()
    deadline = time.monotonic() + 10
    while is_running(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child.pid)  # a zombie does not run
    assert child.pid in dead_children(os.getpid())
    child.wait()
    assert child.pid not in dead_children(os.getpid())
    assert not is_running(child.pid)
    assert dead_children(child.pid) == frozenset()
