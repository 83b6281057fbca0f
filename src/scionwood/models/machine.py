"""What this machine can do: memory tuning, device and number format, each choice with its reason."""

import ctypes
import functools
import os
import sys
import time

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


def tune_memory(lean: bool = False) -> str:
    """Keep large freed blocks in the process instead of returning them to the kernel after every step.

    With glibc's defaults each training step maps and clears its activations anew; with the two thresholds raised the same
    step of a small model ran several times faster on a busy two-core machine. The price are the gaps between what is kept: with
    recomputed activations, where little is in use at a time, they took more than half of the process. So ``lean`` does the
    opposite for blocks of 24 MiB and more (at 1 MiB, a step took more than twice as long): they go back as soon as they are freed.
    Returns what was done, for the log.
    """
    if not sys.platform.startswith("linux"):
        return "memory: not Linux, nothing to tune"
    try:
        libc = ctypes.CDLL("libc.so.6")
        done = libc.mallopt(M_MMAP_THRESHOLD, 24 << 20 if lean else 1 << 30) and libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    except (OSError, AttributeError):
        return "memory: not glibc, nothing to tune"
    if not done:
        return "memory: mallopt refused"
    if lean:
        return "memory: glibc returns freed blocks from 24 MiB on at once, since activations are recomputed to save memory"
    return "memory: glibc keeps freed blocks up to 1 GiB (mmap and trim thresholds raised)"


def limit_threads() -> str:
    """Use as many threads as there are cores to run on, fewer where OMP_NUM_THREADS says so."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    limited = wanted.isdecimal() and int(wanted) > 0
    threads = min(int(wanted), cores) if limited else cores
    if torch.get_num_threads() != threads:  # setting it again is no use, and torch does not always survive it after a fork
        torch.set_num_threads(threads)
    return f"threads: {threads} ({'OMP_NUM_THREADS' if limited else 'cores'})"


@functools.cache
def probe_bf16() -> float:
    """How many times as fast as fp32 a bf16 matrix product is on this CPU (a probe of about 50 ms)."""
    import torch

    def seconds(dtype) -> float:
        a, b = torch.randn(256, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
        best = 9.0
        for _ in range(6):
            t = time.perf_counter()
            a @ b
            best = min(best, time.perf_counter() - t)
        return best

    return seconds(torch.float32) / seconds(torch.bfloat16)


def choose_device(wanted: str = "auto"):
    """Return ``(torch.device, reason)``. ``wanted``: auto, cpu, cuda or mps."""
    import torch

    from scionwood.errors import UserError

    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"device: cuda ({torch.cuda.get_device_name()})"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "device: mps (Apple GPU)"
        return torch.device("cpu"), "device: cpu (no GPU found)"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device = 'cuda': this machine has no usable CUDA device; use 'auto' or 'cpu'")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise UserError("device = 'mps': this machine has no Apple GPU; use 'auto' or 'cpu'")
    return torch.device(wanted), f"device: {wanted} (asked for)"


def choose_dtype(wanted: str, device):
    """Return ``(compute dtype, reason)``. ``wanted``: auto, bf16 or fp32. fp16 is never used: on CPUs it is the slowest."""
    import torch

    if wanted == "fp32":
        return torch.float32, "dtype: fp32 (asked for)"
    if wanted == "bf16":
        return torch.bfloat16, "dtype: bf16 (asked for)"
    if device.type == "cuda":
        ok = torch.cuda.is_bf16_supported()
        return (torch.bfloat16, "dtype: bf16 (this GPU has it)") if ok else (torch.float32, "dtype: fp32 (this GPU has no bf16)")
    if device.type == "mps":
        return torch.float32, "dtype: fp32 (the safe choice on Apple GPUs)"
    gain = probe_bf16()
    if gain > 1.3:
        return torch.bfloat16, f"dtype: bf16 (a probe ran {gain:.1f} times as fast as fp32)"
    return torch.float32, f"dtype: fp32 (bf16 ran only {gain:.1f} times as fast in a probe)"


def describe() -> str:
    """The machine in words, for cards: processor, threads in use, GPU."""
    import torch

    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    name = next((line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), "a CPU")
    return f"{torch.get_num_threads()} threads of {name}"


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo") as f:
            return f.read().splitlines()
    except OSError:
        return []
