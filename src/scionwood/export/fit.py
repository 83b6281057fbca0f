"""Whether a model fits a small machine, and about how fast it would be there: arithmetic that can be followed on paper."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scionwood.errors import UserError
from scionwood.export.devices import Device
from scionwood.models.llamacpp import SMALL_FILE

PROGRAM = 0.25e9  # bytes for llama.cpp itself and its buffers: an assumption, printed as one
CACHED = 1e8  # bytes of weights below which a processor's cache may hold them
REACHED = 0.5  # how much of a data sheet's bandwidth a small board reaches: an assumption
# Bits per weight: blocks of 32 with a float16 scale for q8_0 and q4_0; for K-quants what whole files come to.
BITS = {"f32": 32.0, "f16": 16.0, "q8_0": 8.5, "q6_k": 6.6, "q5_k_m": 5.7, "q4_k_m": 4.85, "q4_0": 4.5, "q3_k_m": 3.9, "q2_k": 3.35}
USUAL = {"layers": 32, "kv_heads": 8, "head": 128}  # where only a number of parameters is known: the shape of an 8B with grouped queries


@dataclass(frozen=True)
class Shape:
    """What decides memory: bytes of the file; for the cache layers, key-value heads, width of a head. ``longest``: tokens, 0 if unknown."""

    name: str
    bytes: float
    layers: int
    kv_heads: int
    head: int
    longest: int = 0
    assumed: bool = False

    @property
    def value_bytes(self) -> int:
        """Bytes of a value in the key-value cache: the engine keeps it in float32 for a small file, else in float16."""
        return 4 if self.bytes <= SMALL_FILE else 2

    def cache(self, context: int) -> float:
        """Bytes of the key-value cache: two values per layer, head and position."""
        return 2.0 * self.layers * self.kv_heads * self.head * self.value_bytes * context


@dataclass(frozen=True)
class Speed:
    """Generation as measured on this machine. ``bandwidth``: bytes per second that as many threads read from its memory."""

    tokens_per_second: float
    bytes_per_token: float
    bandwidth: float
    threads: int

    @property
    def share(self) -> float:
        """How much of this machine's bandwidth generation used, at most all of it."""
        return min(1.0, self.tokens_per_second * self.bytes_per_token / self.bandwidth)


def shape_of(path: Path) -> Shape:
    """The shape that a GGUF file says of itself. Raises UserError where it is none."""
    from gguf import GGUFReader

    from scionwood.models.llamacpp import check_gguf

    check_gguf(path)
    try:
        reader = GGUFReader(path)
        family = reader.get_field("general.architecture").contents()
        at = lambda key: int(reader.get_field(f"{family}.{key}").contents())  # noqa: E731
        return Shape(path.name, path.stat().st_size, at("block_count"), at("attention.head_count_kv"), at("attention.key_length"),
                     at("context_length"))
    except (ValueError, AttributeError, KeyError, IndexError) as e:
        raise UserError(f"{path}: its head cannot be read ({e}); export it anew") from None


def shape_from(params: str, kind: str) -> Shape:
    """A shape from a number of parameters such as "7B" or "600M" and a kind of quantisation."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([MB])", params.strip().upper())
    if not found or float(found[1]) == 0:
        raise UserError(f"--params {params}: a number with M or B is expected, such as 0.6B or 7B")
    if kind not in BITS:
        raise UserError(f"--kind {kind}: one of {', '.join(BITS)}")
    count = float(found[1]) * {"M": 1e6, "B": 1e9}[found[2]]
    return Shape(f"{params} {kind}", count * BITS[kind] / 8, USUAL["layers"], USUAL["kv_heads"], USUAL["head"], assumed=True)


def fit(shape: Shape, device: Device, context: int, speed: Speed | None = None, routes: int | None = None) -> dict[str, Any]:
    """``{"fits", "lines"}``: the verdict and the arithmetic, one step a line.

    ``routes``: those of a sidecar, which holds a cache of ``context`` tokens for each and one more; None is a single cache. A token
    reads one of them.
    """
    cache, free = shape.cache(context), (device.memory - device.reserved) * 1e9
    caches = 1 if routes is None else routes + 1
    needed = shape.bytes + caches * cache + PROGRAM
    fits = needed <= free
    known = " (an assumed shape; a run or a GGUF file is exact)" if shape.assumed else ""
    counted = f" = parameters x {BITS[shape.name.split()[-1]]:g} bits / 8" if shape.assumed else ""
    lines = [
        f"{shape.name} on {device.label}: {'fits' if fits else 'does NOT fit'}",
        f"  file               {gb(shape.bytes)}{counted}",
        f"  key-value cache{' ' if routes is None else 's'}   {gb(caches * cache)} = {counted_caches(routes)}2 x {shape.layers} layers "
        f"x {shape.kv_heads} heads x {shape.head} x {shape.value_bytes} bytes x {context} tokens{known}",
        f"  program, buffers   {gb(PROGRAM)} (assumed)",
        f"  needed             {gb(needed)} of {gb(free)} = {device.memory:g} GB - {device.reserved:g} GB for the system (assumed)",
    ]
    if fits:
        per_token = shape.bytes + cache / 2
        most = device.bandwidth * 1e9 / per_token
        lines.append(f"  at most            {most:,.1f} tokens/s = {device.bandwidth:g} GB/s (data sheet) / {gb(per_token)} read per token "
                     f"(weights, half the cache)")
        if speed:
            here = f"here {speed.tokens_per_second:,.1f} tokens/s with {several_threads(speed)}"
            lines.append(f"  about              {most * REACHED * speed.share:,.1f} tokens/s: {here}, {speed.share:.0%} of the "
                         f"{gb(speed.bandwidth)}/s that they read; "
                         f"the same share there of {REACHED:.0%} of its data sheet (assumed)" if shape.bytes >= CACHED else
                         f"  about              not estimated: {here}, but so small a model runs from the processor's cache, and memory "
                         f"tells nothing; time it there")
    return {"fits": fits, "lines": lines}


def counted_caches(routes: int | None) -> str:
    """"4 caches (3 routes + 1) x " for a sidecar."""
    return "" if routes is None else f"{routes + 1} caches ({routes} route{'s' * (routes != 1)} + 1) x "


def several_threads(speed: Speed) -> str:
    """"2 threads"."""
    return f"{speed.threads} thread{'s' * (speed.threads != 1)}"


def gb(value: float) -> str:
    """Bytes as GB, or as MB where that is little."""
    return f"{value / 1e9:.2f} GB" if value >= 1e8 else f"{value / 1e6:.1f} MB"


def measure(path: Path, tokens: int = 64) -> Speed:
    """Generate a few tokens with llama.cpp here, and measure how fast this machine reads its memory."""
    from scionwood.models.llamacpp import LlamaCpp, default_threads

    threads = default_threads()
    shape = shape_of(path)
    with LlamaCpp(path, context=512, threads=threads) as engine:
        done = [engine.generate([t % 50 + 1 for t in range(8 + n)], max_tokens=tokens) for n in range(3)]
    speeds = [len(d.tokens) / d.generated_ms * 1000 for d in done if d.generated_ms > 0 and len(d.tokens) > 1]
    if not speeds:
        raise UserError(f"{path}: generates nothing to be measured; leave the measurement out with --no-measure")
    return Speed(max(speeds), shape.bytes, read_bandwidth(threads), threads)


def read_bandwidth(threads: int = 1, size: int = 1 << 28) -> float:
    """Bytes per second at which ``threads`` threads sum a large array, which numpy reads from memory. The best of three."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    parts, best = np.array_split(np.ones(size // 8), threads), 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(3):
            begin = time.perf_counter()
            list(pool.map(np.sum, parts))
            best = max(best, size / (time.perf_counter() - begin))
    return best
