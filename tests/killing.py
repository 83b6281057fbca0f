"""Work that is killed with SIGKILL in the middle, for the tests of what goes on afterwards."""

from __future__ import annotations

import os
import signal
import traceback
from typing import Callable


def run_killed_after(replaces: int, work: Callable[[], object]) -> bool:
    """Run in a forked child that kills itself with SIGKILL after so many atomic writes; returns whether it finished."""
    child = os.fork()
    if child == 0:
        try:
            real, count = os.replace, [0]

            def replace(*args):
                real(*args)
                count[0] += 1
                if count[0] == replaces:
                    os.kill(os.getpid(), signal.SIGKILL)

            os.replace = replace
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return os.WIFEXITED(status)
