"""The published classifier: nine rules on rates per second, the first that holds gives the shape.

The rules are those of the data set's authors, kept to the letter with their faults: the thresholds are rates, so the answer depends on
how often the state was sampled, and settled_presence is whatever no other rule took. See ``robust`` for one without these faults.
"""

from __future__ import annotations

from statistics import fmean
from typing import Sequence

from scionwood.tasks.lumen.shapes import DIMENSIONS, Point

RATE = 0.05  # per second; per second squared for second differences
JUMP = 0.2  # range of E or S over the window
DRIFT = 0.3
STILL = 1e-9  # a rate below this is no motion


def differences(points: Sequence[Point]) -> list[Point]:
    """Rates of change per second between neighbours, each at the time of the later one. Neighbours at the same time are passed over.

    Applied twice it gives the second differences. The drift channel has no rate.
    """
    rates = []
    for before, after in zip(points, points[1:]):
        dt = after.t - before.t
        if dt != 0:
            rates.append(Point(after.t, *((getattr(after, d) - getattr(before, d)) / dt for d in DIMENSIONS)))
    return rates


def classify(points: Sequence[Point]) -> str:
    """The shape of a window of at least one state, by the nine published rules. Times are in seconds and need not be regular."""
    first = differences(points)
    second = differences(first)
    energy, entropy = [p.E for p in points], [p.S for p in points]
    dE, dS, dV = (fmean(getattr(r, d) for r in first) if first else 0.0 for d in "ESV")
    if max(energy) - min(energy) >= JUMP:
        if dE < 0 and energy[0] > energy[-1]:
            return "basin_transition_down"
        if dE > 0 and energy[-1] > energy[0]:
            return "basin_transition_up"
    if max(entropy) - min(entropy) >= JUMP and 0 < entropy.index(max(entropy)) < len(entropy) - 1:
        return "entropy_spike_recovery"
    if max(p.drift for p in points) > DRIFT:
        return "drift_dissonance"
    if dV > RATE:
        return "void_rising"
    if dS > RATE:
        return "rising_entropy"
    if dE < -RATE:
        return "falling_energy"
    if first and second and _all_below(first, RATE) and _all_below(second, RATE) and not _all_below(first, STILL, touching=True):
        return "convergence"
    return "settled_presence"


def _all_below(rates: Sequence[Point], limit: float, touching: bool = False) -> bool:
    """Whether every rate in every dimension is below the limit, or with ``touching`` at most the limit."""
    return all(abs(v) < limit or (touching and abs(v) == limit) for r in rates for v in r[1:5])
