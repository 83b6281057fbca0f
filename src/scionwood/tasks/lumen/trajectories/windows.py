"""Windows of states on a regular grid: near-duplicate time stamps merged, gaps kept out, everything else interpolated."""

from __future__ import annotations

from statistics import fmean, median
from typing import Iterable, Iterator, Sequence

from scionwood.tasks.lumen.shapes import Point

DUPLICATE = 0.25  # of the usual step: two states closer than this are one
GAP = 5.0  # usual steps: a longer silence ends a segment

STEP = 2.0  # seconds: the device's own tick
POINTS = 20  # states in a window
STRIDE = 10  # states from one window to the next


def usual_step(points: Sequence[Point]) -> float:
    """The median time between neighbours in seconds; those at the very same time do not count. 0 for fewer than two times."""
    steps = [b.t - a.t for a, b in zip(points, points[1:]) if b.t > a.t]
    return median(steps) if steps else 0.0


def merged(points: Iterable[Point]) -> list[Point]:
    """States in the order of time; those closer together than a quarter of the usual step become their mean, drift their maximum."""
    ordered = sorted(points, key=lambda p: p.t)
    near = DUPLICATE * usual_step(ordered)
    groups: list[list[Point]] = []
    for p in ordered:
        if groups and p.t - groups[-1][0].t <= near:
            groups[-1].append(p)
        else:
            groups.append([p])
    return [g[0] if len(g) == 1 else Point(*map(fmean, zip(*(p[:5] for p in g))), max(p.drift for p in g)) for g in groups]


def segments(points: Sequence[Point], gap: float = GAP) -> list[list[Point]]:
    """Split merged states where nothing was heard for more than ``gap`` usual steps."""
    longest = gap * usual_step(points)
    parts: list[list[Point]] = []
    for p in points:
        if parts and p.t - parts[-1][-1].t <= longest:
            parts[-1].append(p)
        else:
            parts.append([p])
    return parts


def resampled(points: Sequence[Point], times: Sequence[float]) -> list[Point]:
    """The values at rising ``times``, on straight lines between neighbours (strictly rising in time); flat outside. Drift steps up to
    the larger neighbour, since it is an alarm, and an alarm between two grid points must not get lost."""
    grid, i = [], 0
    for t in times:
        while i + 2 < len(points) and points[i + 1].t < t:
            i += 1
        a, b = points[i], points[min(i + 1, len(points) - 1)]
        share = min(1.0, max(0.0, (t - a.t) / (b.t - a.t))) if b.t > a.t else 0.0
        values = ((1 - share) * x + share * y for x, y in zip(a[1:5], b[1:5]))
        drift = a.drift if share == 0 else b.drift if share == 1 else max(a.drift, b.drift)
        grid.append(Point(t, *values, drift))
    return grid


def even(points: Sequence[Point], count: int) -> list[Point]:
    """``count`` states at even times from the first state to the last."""
    start, end = points[0].t, points[-1].t
    return resampled(points, [start + (end - start) * i / (count - 1) for i in range(count)])


def windows(points: Iterable[Point], count: int = POINTS, step: float = STEP, stride: int = STRIDE) -> Iterator[list[Point]]:
    """Windows of ``count`` states, ``step`` seconds apart, each ``stride`` states after the one before. None spans a gap."""
    for part in segments(merged(points)):
        last = int((part[-1].t - part[0].t) / step + 1e-9)  # index of the last grid point inside
        grid = resampled(part, [part[0].t + i * step for i in range(last + 1)])
        for start in range(0, len(grid) - count + 1, stride):
            yield grid[start:start + count]
