"""The robust classifier: net changes in units that matter and above the window's noise, a test for settled, and the right to say no.

It answers the demonstrated faults of the published rules. Thresholds are net changes over the window, so how often the state was
sampled does not matter. A window is settled only where nothing moves. Void and falling energy can be reached. Near-duplicate time
stamps cannot make rates explode. What fits no shape is unclassified.
"""

from __future__ import annotations

from statistics import median
from typing import NamedTuple, Sequence

from scionwood.tasks.lumen.shapes import DIMENSIONS, UNCLASSIFIED, Point
from scionwood.tasks.lumen.trajectories.settings import Shapes
from scionwood.tasks.lumen.trajectories.windows import even, merged

GRID = 20  # even points that every window is brought to, so that all its statistics mean the same at any rate
ENDS = 3  # grid points whose median is the level at either end
SMOOTH = 3  # grid points of the running median: a single wild sample is not a move
FIRST, LAST = slice(GRID // 3), slice(-(GRID // 3), None)  # the thirds whose motion is compared
NORMAL = 1.4826  # standard deviation of a normal variable over its median absolute deviation
DEFAULT = Shapes()


class Verdict(NamedTuple):
    """A shape, why in plain words, and what was measured: per dimension the net change, the noise and the smoothed range."""

    shape: str
    why: str
    net: dict[str, float]
    noise: dict[str, float]
    range: dict[str, float]


def classify(points: Sequence[Point], table: Shapes = DEFAULT) -> str:
    """The shape of a window of states, or "unclassified". Times in seconds, in any order and at any rate."""
    return judge(points, table).shape


def smoothed(values: Sequence[float]) -> list[float]:
    """Running median over three points; the ends lean on the line through their neighbours, so that a ramp keeps its height."""
    n = len(values)
    inner = [median(values[i - 1:i + 2]) for i in range(1, n - 1)]
    first = median((values[0], inner[0], 2 * inner[0] - inner[1]))
    last = median((values[-1], inner[-1], 2 * inner[-1] - inner[-2]))
    return [first, *inner, last]


def noise_of(values: Sequence[float]) -> float:
    """Standard deviation of the noise: from how far each value lies off the middle of its neighbours, which no ramp or level disturbs."""
    off = [abs(b - (a + c) / 2) for a, b, c in zip(values, values[1:], values[2:])]
    return NORMAL * median(off) / 1.5**0.5  # the middle of two neighbours adds half a variance


def judge(points: Sequence[Point], table: Shapes = DEFAULT) -> Verdict:
    """The shape of a window with the reason for it and the measurements behind it."""
    clean = merged(points)
    if len(clean) < table.fewest:
        return Verdict(UNCLASSIFIED, f"{len(clean)} of the {table.fewest} states that a window needs", {}, {}, {})
    silence = max(b.t - a.t for a, b in zip(clean, clean[1:])) / (clean[-1].t - clean[0].t)
    if silence > table.gap:
        return Verdict(UNCLASSIFIED, f"nothing was heard for {silence:.0%} of the window", {}, {}, {})
    grid = even(clean, GRID)
    curves = {d: smoothed([getattr(p, d) for p in grid]) for d in DIMENSIONS}
    noise = {d: noise_of([getattr(p, d) for p in grid]) for d in DIMENSIONS}
    net = {d: median(c[-ENDS:]) - median(c[:ENDS]) for d, c in curves.items()}
    spread = {d: max(c) - min(c) for d, c in curves.items()}
    shape, why = _decide(curves, net, noise, spread, max(p.drift for p in clean), table)
    return Verdict(shape, why, net, noise, spread)


def _decide(curves: dict[str, list[float]], net: dict[str, float], noise: dict[str, float], spread: dict[str, float], drift: float,
            table: Shapes) -> tuple[str, str]:
    """The first of the tests that holds, as a shape and a reason."""
    unit = {d: getattr(table.units, d) for d in DIMENSIONS}
    strength = {d: net[d] / max(unit[d], table.noise * noise[d] / table.moved) for d in DIMENSIONS}  # units of net change, signed
    moved = {d: abs(strength[d]) >= table.moved for d in DIMENSIONS}

    if moved["E"] and abs(net["E"]) >= table.basin:
        return f"basin_transition_{'up' if net['E'] > 0 else 'down'}", f"E changed by {net['E']:+.2f}"
    s = curves["S"]
    peak = max(range(len(s)), key=s.__getitem__)
    start, end = median(s[:ENDS]), median(s[-ENDS:])
    height = s[peak] - start  # the highest of many points stands out by chance alone, so it must beat the noise twice over
    if ENDS <= peak < len(s) - ENDS and height >= max(table.spike * unit["S"], 2 * table.noise * noise["S"]) \
            and s[peak] - end >= table.back * height:
        return "entropy_spike_recovery", f"S rose by {height:.2f} and came back by {s[peak] - end:.2f}"
    if drift > table.drift:
        return "drift_dissonance", f"the drift channel reached {drift:.2f}"
    if moved["E"] and moved["I"] and net["E"] * net["I"] < 0 and abs(strength["I"]) >= abs(strength["E"]):
        return "drift_dissonance", f"E changed by {net['E']:+.2f} and I against it by {net['I']:+.2f}"
    changes = {"void_rising": ("V", strength["V"]), "rising_entropy": ("S", strength["S"]), "falling_energy": ("E", -strength["E"])}
    strongest = max(changes, key=lambda name: changes[name][1])
    d, most = changes[strongest]
    if most >= table.moved:
        return strongest, f"{d} changed by {net[d]:+.3f}, {most:.0f} units"
    restless = [d for d in DIMENSIONS if spread[d] > table.settled * unit[d]]
    if not restless:
        return "settled_presence", "no dimension leaves its band"
    early, late = ({d: max(c[part]) - min(c[part]) for d, c in curves.items()} for part in (FIRST, LAST))
    before, after = (sum(max(0.0, motion[d] - 2 * noise[d]) / unit[d] for d in DIMENSIONS) for motion in (early, late))
    if after <= table.calmer * before and all(late[d] <= table.settled * unit[d] for d in DIMENSIONS):
        return "convergence", f"the motion of {', '.join(restless)} dies away, from {before:.0f} units to {after:.0f}"
    return UNCLASSIFIED, f"motion of {', '.join(restless)}, but into no shape"

