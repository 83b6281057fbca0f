"""From a reading to E, I, S and V: weighted means of the terms that are there, by the published formulas.

Source: the formulas of the device's authors as of 2026; nothing is mixed in that was not sensed. (Their server also blends in
remembered states and adds noise now and then; neither is done here.)
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

from scionwood.settings import Settings
from scionwood.tasks.lumen.sensing.readings import ENVIRONMENT, Reading
from scionwood.tasks.lumen.shapes import Point
from scionwood.tasks.lumen.state.bands import BandMemory, Bands
from scionwood.tasks.lumen.state.settings import State

SCALARS = ("warmth", "clarity", "stability", "presence")


class Felt(NamedTuple):
    """A state and everything that it came from. ``terms`` holds for each scalar the value (0 to 1) and weight of each present term."""

    t: float
    E: float
    I: float  # noqa: E741 - the published name
    S: float
    V: float
    warmth: float
    clarity: float
    stability: float
    presence: float
    bands: Bands
    terms: dict[str, dict[str, tuple[float, float]]]

    def point(self) -> Point:
        return Point(self.t, self.E, self.I, self.S, self.V)

    def explained(self) -> dict[str, Any]:
        """The state as a JSON value, every intermediate included."""
        terms = {s: {n: {"value": v, "weight": w} for n, (v, w) in named.items()} for s, named in self.terms.items()}
        return {**self._asdict(), "bands": self.bands._asdict(), "terms": terms}


class Feeling:
    """States of one reading after another. It remembers what the formulas look back on, and nothing else."""

    def __init__(self, table: State | None = None):
        self.table = table or State()
        self.bands = BandMemory(self.table)
        self.last: tuple[float, ...] = ()
        self.errors: deque[float] = deque(maxlen=self.table.history)

    def next(self, r: Reading) -> Felt:
        """The state at this reading. Scalars are rounded to three places, as published."""
        table, bands = self.table, self.bands.next(r)
        terms = {
            "warmth": _kept(_warmth(r, bands, table), table.warmth),
            "clarity": _kept(_clarity(r, bands, self._foretold(), table), table.clarity),
            "stability": _kept(_instability(r, bands, table), table.stability),
            "presence": _kept(_absence(r, bands), table.presence),
        }
        mean = {scalar: _mean(named) for scalar, named in terms.items()}
        scalars = tuple(round(v, 3) for v in (mean["warmth"], mean["clarity"], 1 - mean["stability"], 1 - mean["presence"]))
        warmth, clarity, stability, presence = scalars
        foretold = (warmth, stability, presence)  # not clarity, which holds the accuracy itself
        if self.last:
            self.errors.append(sum(abs(a - b) for a, b in zip(foretold, self.last)) / len(foretold))
        self.last = foretold
        void = min(1.0, max(0.0, table.void_scale * (1 - presence)))
        return Felt(r.t, warmth, clarity, 1 - stability, void, *scalars, bands, terms)

    def _foretold(self) -> float:
        """Prediction accuracy: one minus the mean error of late, or 0.5 while it is not known."""
        if self.table.prediction == "unknown" or not self.errors:
            return 0.5
        return 1 - min(1.0, sum(self.errors) / len(self.errors))


def _warmth(r: Reading, bands: Bands, table: State) -> dict[str, float | None]:
    s = table.scales
    return {
        "cpu_temp": _between(r["cpu_temp_c"], s.cpu_temp_low_c, s.cpu_temp_high_c),
        "ambient_temp": _between(r["ambient_temp_c"], s.ambient_low_c, s.ambient_high_c),
        "neural": (bands.beta + bands.gamma) / 2,
    }


def _clarity(r: Reading, bands: Bands, foretold: float, table: State) -> dict[str, float | None]:
    lux = r["light_lux"]
    return {
        "prediction": foretold,
        "alpha": bands.alpha,
        "coverage": sum(r[name] is not None for name in ENVIRONMENT) / len(ENVIRONMENT),
        "light": None if lux is None else 0.0 if lux <= 1 else math.log10(lux) / table.scales.light_decades,
    }


def _instability(r: Reading, bands: Bands, table: State) -> dict[str, float | None]:
    s = table.scales
    return {
        "humidity": _share(r["humidity_pct"], lambda v: abs(v - s.humidity_ideal_pct) / s.humidity_ideal_pct),
        "memory": _share(r["memory_pct"], lambda v: v / 100),
        "missing": sum(r[name] is None for name in ENVIRONMENT) / len(ENVIRONMENT),
        "pressure": _share(r["pressure_hpa"], lambda v: abs(v - s.pressure_hpa) / s.pressure_range_hpa),
        "neural": 1 - (bands.theta + bands.delta) / 2,
    }


def _absence(r: Reading, bands: Bands) -> dict[str, float | None]:
    named = {"disk": r["disk_pct"], "memory": r["memory_pct"], "cpu": r["cpu_pct"]}
    return {**{name: _share(v, lambda v: v / 100) for name, v in named.items()}, "gamma": bands.gamma}


def _between(value: float | None, low: float, high: float) -> float | None:
    return None if value is None else (value - low) / (high - low)


def _share(value: float | None, function) -> float | None:
    return None if value is None else function(value)


def _kept(terms: dict[str, float | None], weights: Settings) -> dict[str, tuple[float, float]]:
    """Value, clamped to 0 to 1, and weight of each term that is there and has a weight."""
    return {name: (min(1.0, max(0.0, v)), getattr(weights, name)) for name, v in terms.items()
            if v is not None and getattr(weights, name) > 0}


def _mean(terms: dict[str, tuple[float, float]]) -> float:
    """The weighted mean; 0.5, as published, where no term is there with a weight."""
    whole = sum(w for _, w in terms.values())
    return sum(v * w for v, w in terms.values()) / whole if whole else 0.5
