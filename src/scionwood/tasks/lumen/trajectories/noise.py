"""Natural noise: what is left of a recording's quiet windows when their straight lines are taken out.

A window counts as quiet where the robust classifier calls it settled. The remainders are kept whole, all four dimensions of a window
together: so they keep their real size from window to window, their correlation in time and between dimensions, and their single wild
samples, none of which a Gaussian of one measured width would have.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any, Sequence

from scionwood.errors import UserError
from scionwood.files import read_json, write_text
from scionwood.tasks.lumen.shapes import DIMENSIONS, Point
from scionwood.tasks.lumen.trajectories import robust
from scionwood.tasks.lumen.trajectories.windows import POINTS, STEP, STRIDE, windows

FILE = Path(__file__).parent / "noise.json"
PLACES = 4  # decimals kept: a thousandth of a quiet window's usual range
FEWEST = 20  # quiet windows that a recording must hold

Remainder = tuple[tuple[float, ...], ...]  # one row of values per dimension, each of POINTS values with mean 0


@dataclass(frozen=True)
class Noise:
    """Remainders of quiet windows in the order of time, and how they were measured."""

    remainders: tuple[Remainder, ...]
    measured: dict[str, Any]


def remainder(points: Sequence[Point]) -> Remainder:
    """What each dimension of an even window is off its least-squares line."""
    n = len(points)
    middle = (n - 1) / 2
    square = sum((k - middle) ** 2 for k in range(n))
    rows = []
    for d in DIMENSIONS:
        values = [getattr(p, d) for p in points]
        mean = fmean(values)
        slope = sum((k - middle) * v for k, v in enumerate(values)) / square
        rows.append(tuple(round(v - mean - slope * (k - middle), PLACES) for k, v in enumerate(values)))
    return tuple(rows)


def measure(points: Sequence[Point], name: str = "a recording") -> Noise:
    """The noise of a recording's states (at any rate; brought to windows of 20 points, 2 s apart, each half over the one before).

    Raises UserError where the recording has fewer than 20 quiet windows.
    """
    every = list(windows(points, POINTS, STEP, STRIDE))
    kept = tuple(remainder(w) for w in every if robust.classify(w) == "settled_presence")
    if len(kept) < FEWEST:
        raise UserError(f"{name}: has {len(kept)} quiet windows of {len(every)}, {FEWEST} are needed to measure noise; record for longer")
    return Noise(kept, {"recording": name, "windows": len(every), "quiet": len(kept), "points": POINTS, "step_seconds": STEP,
                        **{f"std_{d}": round(median(pstdev(r[k]) for r in kept), 6) for k, d in enumerate(DIMENSIONS)},
                        **{f"lag1_{d}": round(fmean(lag1(r[k]) for r in kept), 3) for k, d in enumerate(DIMENSIONS)}})


def lag1(values: Sequence[float]) -> float:
    """The autocorrelation of neighbours, of values with mean 0; 0 where nothing varies."""
    square = sum(v * v for v in values)
    return sum(a * b for a, b in zip(values, values[1:])) / square if square else 0.0


def save(noise: Noise, path: Path) -> None:
    """Write noise as JSON, one window per line."""
    import json

    rows = ",\n".join(json.dumps(r, separators=(",", ":")) for r in noise.remainders)
    write_text(path, f'{{"measured": {json.dumps(noise.measured)},\n"remainders": [\n{rows}\n]}}\n')


@cache
def load(path: Path = FILE) -> Noise:
    """The noise that ships with the package, or that of another file."""
    value = read_json(path)
    try:
        rows = tuple(tuple(tuple(map(float, d)) for d in r) for r in value["remainders"])
        if any(len(r) != len(DIMENSIONS) or any(len(d) != POINTS for d in r) for r in rows) or not rows:
            raise ValueError(f"each remainder needs {len(DIMENSIONS)} rows of {POINTS} numbers")
        return Noise(rows, dict(value["measured"]))
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(f"{path}: not a file of noise ({e}); measure one with 'scion lumen noise'") from None
