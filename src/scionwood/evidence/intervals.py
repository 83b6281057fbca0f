"""Intervals: Wilson for proportions, the cluster bootstrap for every other figure.

Cases from one source resemble each other, so the bootstrap draws whole sources, never single rows. Every system is drawn
with the same sources in the same order; a comparison of two systems is then the difference of their replicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
from scipy.stats import binomtest

from scionwood.task import Metric, ScoredRow

RESAMPLES = 1000
SEED = 20240229
CONFIDENCE = 0.95
# With five sources even a change that all of them share has a two-sided sign test of 2 / 2**5 = .06: the set cannot show
# anything, yet the percentile interval would look narrow. Below six sources no interval is given.
MIN_SOURCES = 6
NO_SPREAD = 1e-12  # replicates that differ by less differ by rounding


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The Wilson score interval of ``successes`` out of ``n`` > 0 (Wilson 1927, JASA 22:209-212), as (low, high) in 0..1."""
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Sample:
    """A figure and its bootstrap replicates.

    ``value`` is None where the figure is not defined. ``replicates`` has one float per resample, NaN where the resample left
    the figure undefined; it is empty where there are fewer than ``MIN_SOURCES`` sources.
    """

    value: float | None
    replicates: np.ndarray
    sources: int


def sources_of(metric: Metric, *systems: Sequence[ScoredRow]) -> list[str]:
    """The sources that the metric looks at in any of the systems' rows, sorted."""
    return sorted({row.case.source for rows in systems for row in metric.select(rows)})


def draws(sources: int, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Which sources each resample takes: integers of shape [resamples, sources], drawn with replacement."""
    # The old generator on purpose: its stream is frozen (NEP 19), so that a figure can be verified years later.
    return np.random.RandomState(seed).randint(sources, size=(resamples, sources), dtype=np.int64)


def sample(metric: Metric, rows: Sequence[ScoredRow], sources: Sequence[str] | None = None, *,
           resamples: int = RESAMPLES, seed: int = SEED) -> Sample:
    """The metric over ``rows`` and over ``resamples`` resamples of the sources.

    ``sources`` lists what to draw from (default: the sources of the selected rows). Give the same list for every system that
    will be compared; it must hold every source of the selected rows. Cost: ``resamples`` calls of the metric's function.
    """
    selected = metric.select(rows)
    names = sources_of(metric, rows) if sources is None else list(sources)
    value = metric.function(selected)
    if len(names) < MIN_SOURCES:
        return Sample(value, np.empty(0), len(names))
    groups: dict[str, list[ScoredRow]] = {name: [] for name in names}
    for row in selected:
        groups[row.case.source].append(row)
    by_number = list(groups.values())
    figures = (metric.function([row for i in draw for row in by_number[i]])
               for draw in draws(len(names), resamples, seed).tolist())
    return Sample(value, np.array([np.nan if f is None else f for f in figures], dtype=float), len(names))


def percentiles(replicates: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float | None, float | None]:
    """The percentile interval (Efron 1979) over the defined replicates, as (low, high); (None, None) where there is none.

    Where all replicates are equal (a system without a single mistake) the bootstrap has seen no spread: an interval of no
    width would be false certainty, so none is given.
    """
    defined = replicates[np.isfinite(replicates)]
    if not len(defined) or np.ptp(defined) < NO_SPREAD:
        return None, None
    tail = 50 * (1 - confidence)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def cluster_bootstrap(metric: Metric, rows: Sequence[ScoredRow], *, resamples: int = RESAMPLES, seed: int = SEED,
                      confidence: float = CONFIDENCE) -> tuple[float | None, float | None]:
    """The percentile interval of a metric with sources resampled, as (low, high); (None, None) below ``MIN_SOURCES``."""
    return percentiles(sample(metric, rows, resamples=resamples, seed=seed).replicates, confidence)
