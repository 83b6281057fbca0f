"""How far raters agree: Krippendorff's alpha for names, with any number of raters and missing ratings."""

from __future__ import annotations

from collections import Counter
from typing import Hashable, Mapping, Sequence

import numpy as np

from scionwood.evidence.intervals import MIN_SOURCES, RESAMPLES, SEED, draws, percentiles

Ratings = Sequence[Hashable]  # what the raters of one unit said, in any order; who did not rate it is left out


def alpha(units: Sequence[Ratings]) -> float | None:
    """Krippendorff's alpha for nominal data: 1 - observed over expected disagreement (Krippendorff 2011, Computing
    Krippendorff's Alpha-Reliability, section D). 1 is full agreement, 0 what chance gives; it may be below.

    Units with fewer than two ratings say nothing and are left out. None where no unit has two, or where all ratings are the same.
    """
    return _alpha(*_totals(units))


def _totals(units: Sequence[Ratings]) -> tuple[np.ndarray, np.ndarray]:
    """For each unit with two ratings or more: its disagreement, and how often each value stands in it (units, values)."""
    told = [Counter(u) for u in units if len(u) > 1]
    values = sorted({v for c in told for v in c}, key=str)
    table = np.array([[c[v] for v in values] for c in told], dtype=float).reshape(len(told), len(values))
    m = table.sum(1)
    apart = (m**2 - (table**2).sum(1)) / (m - 1) if len(told) else np.empty(0)  # ordered pairs that differ, over m - 1
    return apart, table


def _alpha(apart: np.ndarray, table: np.ndarray) -> float | None:
    of_value = table.sum(0)
    n = of_value.sum()
    expected = (n**2 - (of_value**2).sum()) / (n - 1) if n > 1 else 0.0
    return float(1 - apart.sum() / expected) if expected > 0 else None


def interval(units: Mapping[str, Sequence[Ratings]], resamples: int = RESAMPLES, seed: int = SEED) -> tuple[float | None, float | None]:
    """The 95 % interval of alpha by the bootstrap over clusters: the units of one task are drawn together. None below ``MIN_SOURCES``."""
    ordered = [(name, u) for name in sorted(units) for u in units[name] if len(u) > 1]
    names = sorted({name for name, _ in ordered})
    if len(names) < MIN_SOURCES:
        return None, None
    apart, table = _totals([u for _, u in ordered])
    where = np.array([names.index(name) for name, _ in ordered])
    by_name = [np.flatnonzero(where == i) for i in range(len(names))]
    found = [
        _alpha(apart[rows], table[rows]) for rows in (np.concatenate([by_name[i] for i in d]) for d in draws(len(names), resamples, seed))
    ]
    return percentiles(np.array([np.nan if a is None else a for a in found], dtype=float))
