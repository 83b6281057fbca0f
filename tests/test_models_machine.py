"""Memory tuning: what a freed block does to the process, either way. Each in a process of its own, for it cannot be undone."""

import subprocess
import sys

import pytest

from scionwood.models.machine import limit_threads

SCRIPT = """
import ctypes, sys
from scionwood.models.machine import tune_memory
print(tune_memory(lean={lean}))
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
held = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
before = held()
block = libc.malloc(200 << 20)
ctypes.memset(block, 1, 200 << 20)
during = held()
libc.free(block)
print(before, during, held())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is tuned on Linux alone")
@pytest.mark.parametrize("lean", [False, True])
def test_a_freed_block_is_kept_or_goes_back(lean):
    out = subprocess.run([sys.executable, "-c", SCRIPT.format(lean=lean)], capture_output=True, text=True, check=True).stdout.splitlines()
    if "glibc" not in out[0] or "nothing" in out[0]:
        pytest.skip(out[0])
    before, during, after = map(int, out[1].split())
    assert during - before >= 195
    assert (after - before < 20) if lean else (after - before >= 195)


@pytest.mark.parametrize("wanted", ["0", "two", "", None])
def test_what_did_not_set_the_threads_is_not_named_as_the_reason(wanted, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wanted is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)
    assert limit_threads().endswith("(cores)")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert limit_threads() == "threads: 1 (OMP_NUM_THREADS)"
