"""The published synthetic trajectories and the data set training_v2, regenerated to the letter.

Every trajectory has 20 states, one per second. Each number is drawn in the published order, so that seed and recipe give the published
row; the files of the data set were made with other void constants than the code of today, and both are kept (``VOID_FILES``,
``VOID_TODAY``). Trajectories have next to no noise and each shape is drawn from its own template: see ``natural`` for better ones.
"""

from __future__ import annotations

import math
import random
from typing import Callable, Iterator, NamedTuple

from scionwood.tasks.lumen.generator import Generator
from scionwood.tasks.lumen.rows import Row, row_of
from scionwood.tasks.lumen.shapes import SHAPES, Point
from scionwood.tasks.lumen.trajectories.published import classify

STATES = 20
RETRIES, RETRY_STEP = 20, 7919
SEED, SHAPE_STEP, EXPRESSION_STEP = 42, 10_000, 50_000
PER_SHAPE = 200
PARTS = (("train", 0.8), ("dev", 0.1), ("test", 0.1))


class Void(NamedTuple):
    """The constants of void_rising: its reach (which shortens the step), the range of its start, and its highest value."""

    reach: float
    start: float
    spread: float
    cap: float


VOID_FILES = Void(0.85, 0.05, 0.05, 0.95)  # what the published files were made with
VOID_TODAY = Void(0.25, 0.02, 0.03, 0.30)  # V never exceeds 0.3 on the device

Draw = Callable[[float, float], float]
Track = list[tuple[float, float, float, float, float]]  # E, I, S, V, drift of each state


def _ramp(a: float, b: float) -> list[float]:
    return [a + (b - a) * (i / (STATES - 1)) for i in range(STATES)]


def _shortened(reach: float, rate: float) -> float:
    """The step in seconds at which ``rate`` per second over the whole window does not exceed ``reach``."""
    return min(1.0, reach / (rate * (STATES - 1)))


def _flat(u: Draw, *names: str) -> list[float]:
    ranges = {"I": (0.55, 0.10), "V": (0.08, 0.02), "E": (0.55, 0.05), "S": (0.20, 0.05)}
    return [u(*ranges[n]) for n in names]


def _settled(u: Draw, rng: random.Random, void: Void) -> tuple[Track, float, float]:
    e, i, s, v = u(0.65, 0.15), u(0.60, 0.15), u(0.15, 0.10), u(0.05, 0.05)
    return [(e, i, s, v, 0.0)] * STATES, 1.0, 0.0


def _rising(u: Draw, rng: random.Random, void: Void) -> tuple[Track, float, float]:
    dt = _shortened(0.85, 0.06)
    start = u(0.05, 0.10)
    end = min(0.95, start + 0.06 * (STATES - 1) * dt)
    e = u(0.50, 0.05)
    i, v = _flat(u, "I", "V")
    return [(e, i, s, v, 0.0) for s in _ramp(start, end)], dt, 0.001


def _falling(u: Draw, rng: random.Random, void: Void) -> tuple[Track, float, float]:
    dt = _shortened(0.19, 0.055)
    start = u(0.55, 0.10)
    end = start - min(0.19, 0.06 * (STATES - 1) * dt)
    s, i, v = _flat(u, "S", "I", "V")
    return [(e, i, s, v, 0.0) for e in _ramp(start, end)], dt, 0.001


def _down(u: Draw, rng: random.Random, void: Void) -> tuple[Track, float, float]:
    start = u(0.80, 0.10)
    end = min(0.55, max(0.05, start - 0.25 - u(0.0, 0.10)))
    s, i, v = _flat(u, "S", "I", "V")
    return [(e, i, s, v, 0.0) for e in _ramp(start, end)], 1.0, 0.002


def _up(u: Draw, rng: random.Random, void: Void) -> tuple[Track, float, float]:
    start = u(0.30, 0.10)
    end = min(0.95, max(0.60, start + 0.25 + u(0.0, 0.10)))
    s, i, v = _flat(u, "S", "I", "V")
    return [(e, i, s, v, 0.0) for e in _ramp(start, end)], 1.0, 0.002


def _spike(u: Draw, rng: random.Random, void: Void) -> tuple[Track, float, float]:
    start = u(0.15, 0.05)
    peak = min(0.95, start + 0.30 + u(0.0, 0.15))
    at = STATES // 2 + rng.randint(-max(1, STATES // 6), max(1, STATES // 6))
    at = min(STATES - 2, max(1, at))
    (e,) = _flat(u, "E")
    i, v = _flat(u, "I", "V")
    up = [start + (peak - start) * (k / at) for k in range(at + 1)]
    down = [peak + (start - peak) * (k / (STATES - 1 - at)) for k in range(1, STATES - at)]
    return [(e, i, s, v, 0.0) for s in up + down], 1.0, 0.002


def _drift(u: Draw, rng: random.Random, void: Void) -> tuple[Track, float, float]:
    e, i, s = u(0.50, 0.05), u(0.35, 0.10), u(0.20, 0.05)
    (v,) = _flat(u, "V")
    at = STATES // 2 + rng.randint(-1, 1)
    return [(e, i, s, v, u(0.35, 0.20) if k == at else u(0.05, 0.05)) for k in range(STATES)], 1.0, 0.0


def _void(u: Draw, rng: random.Random, void: Void) -> tuple[Track, float, float]:
    dt = _shortened(void.reach, 0.06)
    start = u(void.start, void.spread)
    end = min(void.cap, start + 0.06 * (STATES - 1) * dt)
    e, i, s = _flat(u, "E", "I", "S")
    return [(e, i, s, v, 0.0) for v in _ramp(start, end)], dt, 0.001


def _convergence(u: Draw, rng: random.Random, void: Void) -> tuple[Track, float, float]:
    e, i, s, v = u(0.60, 0.05), u(0.55, 0.05), u(0.25, 0.05), u(0.10, 0.03)
    a = 0.5 * min(0.04 * STATES / (2 * math.pi), 0.08)
    track = []
    for k in range(STATES):
        size, phase = a * math.exp(-2.0 * k / STATES), 2 * math.pi * k / STATES
        track.append((e + size * math.sin(phase), i + size * math.cos(phase), s + 0.5 * size * math.sin(phase + 1),
                      v + 0.3 * size * math.cos(phase + 2), 0.0))
    return track, 1.0, 0.0


TEMPLATES = {
    "settled_presence": _settled, "rising_entropy": _rising, "falling_energy": _falling, "basin_transition_down": _down,
    "basin_transition_up": _up, "entropy_spike_recovery": _spike, "drift_dissonance": _drift, "void_rising": _void,
    "convergence": _convergence,
}


def attempt(shape: str, seed: int, void: Void = VOID_FILES) -> list[Point]:
    """One trajectory from one seed, whatever the classifier says of it."""
    rng = random.Random(seed)
    track, dt, noise = TEMPLATES[shape](lambda low, span: low + span * rng.random(), rng, void)
    gauss = random.Random(seed + 1)
    points = []
    for k, (*values, drift) in enumerate(track):
        if noise:
            values = [x + gauss.gauss(0.0, noise) for x in values]
        points.append(Point(k * dt, *(min(1.0, max(0.0, x)) for x in values), drift))
    return points


def trajectory(shape: str, seed: int, void: Void = VOID_FILES) -> list[Point]:
    """The published trajectory of a seed: the first of up to 20 attempts that the published classifier gives this shape."""
    for k in range(RETRIES):
        points = attempt(shape, seed + RETRY_STEP * k, void)
        if classify(points) == shape:
            break
    return points


def seed_of(shape: str, index: int) -> int:
    """The seed of the ``index``-th trajectory of a shape in the published data."""
    return SEED + SHAPE_STEP * (SHAPES.index(shape) + 1) + index


def row(shape: str, index: int, void: Void = VOID_FILES) -> Row:
    """The ``index``-th row of a shape: its trajectory, and the expression that the rules drew for it. Not bounded by the 200 published."""
    seed = seed_of(shape, index)
    return row_of(shape, trajectory(shape, seed, void), Generator(seed + EXPRESSION_STEP).generate(shape))


def splits(per_shape: int = PER_SHAPE) -> dict[str, list[tuple[str, int]]]:
    """``{split: [(shape, index)]}`` of the published split: shapes sorted by name, one stream of chance that shuffles each."""
    rng = random.Random(SEED)
    out: dict[str, list[tuple[str, int]]] = {name: [] for name, _ in PARTS}
    for shape in sorted(SHAPES):
        indices = list(range(per_shape))
        rng.shuffle(indices)
        at = 0
        for name, share in PARTS:
            n = int(per_shape * share + 0.5)
            out[name] += [(shape, i) for i in indices[at : at + n]]
            at += n
    return out


def training_v2(split: str) -> Iterator[Row]:
    """The rows of the published data set, in its order: 1,440 of "train", 180 of "dev" (published as val), 180 of "test"."""
    return (row(shape, index) for shape, index in splits()[split])
