"""Synthetic windows that look like recorded ones: nine shapes with random levels, sizes, moments and forms, under measured noise.

The published generator draws each shape from one template with next to no noise; whoever knows the template knows the shape. Here a
window is a path (how the shape moves) on levels that are the same for all shapes, plus the remainder of a real quiet window. Moves are
as large as the shape needs to be what it is called, never below what the noise would hide.
"""

from __future__ import annotations

import math
import random
from typing import Callable

from scionwood.tasks.lumen.shapes import DIMENSIONS, SHAPES, Point
from scionwood.tasks.lumen.trajectories.noise import Noise, Remainder
from scionwood.tasks.lumen.trajectories.windows import POINTS, STEP

HIGHEST = (1.0, 1.0, 1.0, 0.3)  # V is at most 0.3 by its formula
LEVELS = ((0.30, 0.75), (0.45, 0.90), (0.08, 0.40), (0.02, 0.16))  # where windows begin; the same for every shape
ALARM, REST, JITTER = 0.35, 0.10, 0.01  # the drift channel is above the first in drift_dissonance, and else at rest below the second

Path = list[float]  # the way of one dimension over the window, from 0
Moves = dict[str, Path]


def _eased(rng: random.Random, height: float) -> Path:
    """From 0 to ``height``: a ramp or an S-curve that may begin late and end early."""
    begin, end = rng.uniform(0.0, 0.25), rng.uniform(0.75, 1.0)
    soft = rng.random() < 0.5
    path = []
    for k in range(POINTS):
        x = min(1.0, max(0.0, (k / (POINTS - 1) - begin) / (end - begin)))
        path.append(height * (x * x * (3 - 2 * x) if soft else x))
    return path


def _spike(rng: random.Random, height: float) -> Path:
    """Up within a few points, then back by half in every few."""
    peak, rise, half = rng.uniform(0.25, 0.6) * (POINTS - 1), rng.uniform(1.0, 4.0), rng.uniform(1.5, 3.5)
    return [height * (max(0.0, 1 - (peak - k) / rise) if k < peak else 0.5 ** ((k - peak) / half)) for k in range(POINTS)]


def _dying(rng: random.Random, size: float) -> Path:
    """An oscillation of any phase and one to two and a half periods that dies away to less than a twentieth."""
    periods, phase, decay = rng.uniform(1.0, 2.5), rng.uniform(0, 2 * math.pi), rng.uniform(3.0, 5.0)
    return [size * math.exp(-decay * x) * math.sin(2 * math.pi * periods * x + phase) for x in (k / (POINTS - 1) for k in range(POINTS))]


def _convergence(rng: random.Random) -> Moves:
    size = rng.uniform(0.07, 0.16)
    return {d: _dying(rng, size * (0.3 if d == "V" else rng.uniform(0.6, 1.2))) for d in DIMENSIONS}


MOVES: dict[str, Callable[[random.Random], Moves]] = {
    "settled_presence": lambda rng: {},
    "rising_entropy": lambda rng: {"S": _eased(rng, rng.uniform(0.12, 0.40))},
    "falling_energy": lambda rng: {"E": _eased(rng, -rng.uniform(0.08, 0.17))},
    "basin_transition_down": lambda rng: {"E": _eased(rng, -rng.uniform(0.24, 0.45))},
    "basin_transition_up": lambda rng: {"E": _eased(rng, rng.uniform(0.24, 0.45))},
    "entropy_spike_recovery": lambda rng: {"S": _spike(rng, rng.uniform(0.22, 0.50))},
    "drift_dissonance": lambda rng: {},
    "void_rising": lambda rng: {"V": _eased(rng, rng.uniform(0.06, 0.13))},
    "convergence": _convergence,
}


def _level(rng: random.Random, path: Path, low: float, high: float, top: float) -> float:
    """Where a dimension begins: within its usual range, and so that its whole way stays between 0 and ``top``."""
    return rng.uniform(max(low, 0.01 - min(path)), max(low, 0.01 - min(path), min(high, top - 0.01 - max(path))))


def window(shape: str, rng: random.Random, remainder: Remainder) -> list[Point]:
    """One window of 20 states, 2 s apart, of a shape. Deterministic in the state of ``rng``. The remainder may play backwards."""
    if shape not in SHAPES:
        raise ValueError(f"unknown shape '{shape}'")
    moves = MOVES[shape](rng)
    backwards = rng.random() < 0.5
    curves = []
    for d, (low, high), top, noise in zip(DIMENSIONS, LEVELS, HIGHEST, remainder):
        path = moves.get(d, [0.0] * POINTS)
        level = _level(rng, path, low, high, top)
        curves.append([min(top, max(0.0, level + p + n)) for p, n in zip(path, reversed(noise) if backwards else noise)])
    rest = rng.uniform(0.0, REST)
    drift = [max(0.0, rest + rng.uniform(-JITTER, JITTER)) for _ in range(POINTS)]
    if shape == "drift_dissonance":
        begin, length, height = rng.randint(2, POINTS - 8), rng.randint(2, 6), rng.uniform(ALARM + 0.02, 0.8)
        drift[begin:begin + length] = [height * rng.uniform(0.95, 1.0) if height > 0.4 else height for _ in range(length)]
    return [Point(k * STEP, *values, drift[k]) for k, values in enumerate(zip(*curves))]


def windows(noise: Noise, per_shape: int, seed: int, part: tuple[float, float] = (0.0, 1.0)) -> list[tuple[str, int, list[Point]]]:
    """``(shape, number of the remainder, window)``: ``per_shape`` windows of every shape, shapes in order.

    ``part`` limits the remainders to a stretch of the recording's time, so that splits share none; the first of a later stretch is left
    out, since it may overlap the last of the stretch before.
    """
    first, last = (round(p * len(noise.remainders)) for p in part)
    first += first > 0
    out = []
    for shape in SHAPES:
        for i in range(per_shape):
            rng = random.Random(f"{seed}/{shape}/{i}")
            k = rng.randrange(first, last)
            out.append((shape, k, window(shape, rng, noise.remainders[k])))
    return out
