"""Two systems on the same cases: exact McNemar, the paired bootstrap, verdicts, and what the set could have shown.

In every function "after" is the system under test and "before" what it is compared with; a difference is after - before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

from scionwood.evidence.intervals import NO_SPREAD, RESAMPLES, SEED, Sample, percentiles, sample, sources_of
from scionwood.task import Metric, ScoredRow

ALPHA = 0.05
POWER = 0.80
BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"


@dataclass(frozen=True)
class McNemar:
    """Paired 0/1 scores: ``gains`` (only after is right), ``losses`` (only before is right), exact two-sided ``p``.

    Gains and losses are whole numbers, or means over several seeds.
    """

    n: int
    gains: float
    losses: float
    p: float

    @property
    def difference(self) -> float:
        return (self.gains - self.losses) / self.n if self.n else 0.0

    def floor(self, alpha: float = ALPHA) -> float | None:
        """The smallest difference that could ever be significant: all discordant pairs one way. None where n is too small."""
        pairs = fewest_pairs(alpha)
        return pairs / self.n if pairs <= self.n else None

    def detectable(self, alpha: float = ALPHA) -> float | None:
        """The difference found with 80 % power at the observed rate of discordant pairs, never below the floor."""
        floor = self.floor(alpha)
        return None if floor is None else max(floor, connor(self.n, (self.gains + self.losses) / self.n, alpha))


def mcnemar(before: Sequence[float], after: Sequence[float]) -> McNemar:
    """The exact McNemar test (McNemar 1947, Psychometrika 12:153-157) on scores of 0 or 1 in the same order of cases."""
    if len(before) != len(after):
        raise ValueError(f"paired scores differ in number: {len(before)} and {len(after)}")
    if not {*before, *after} <= {0, 1}:
        raise ValueError("McNemar's test takes scores of 0 and 1 only")
    gains = sum(a > b for b, a in zip(before, after))
    losses = sum(a < b for b, a in zip(before, after))
    p = float(binomtest(gains, gains + losses).pvalue) if gains + losses else 1.0
    return McNemar(len(before), gains, losses, p)


def fewest_pairs(alpha: float = ALPHA) -> int:
    """The fewest discordant pairs, all one way, with an exact two-sided p = 2 / 2**k below ``alpha`` (6 at .05)."""
    pairs = 1
    while 2.0 ** (1 - pairs) >= alpha:
        pairs += 1
    return pairs


def connor(n: int, discordance: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """The difference of two paired proportions that ``n`` pairs find with the given power.

    Connor 1987, Biometrics 43:207-211: n = (z_a sqrt(psi) + z_b sqrt(psi - d**2))**2 / d**2, with psi the share of discordant
    pairs, solved here for d. A difference cannot exceed psi: where the observed share is smaller, psi = d is used (every
    discordant pair goes one way). Returns at most 1. The exact test needs a little more than this (about a tenth).
    """
    z_a, z_b = norm.ppf(1 - alpha / 2), norm.ppf(power)

    def surplus(d: float) -> float:
        psi = max(discordance, d)
        return d * math.sqrt(n) - z_a * math.sqrt(psi) - z_b * math.sqrt(max(psi - d * d, 0.0))

    return float(brentq(surplus, 1e-12, 1.0)) if surplus(1.0) > 0 else 1.0


@dataclass(frozen=True)
class Difference:
    """A paired bootstrap: the difference of two figures, its interval, its two-sided ``p`` and its standard error.

    Where no test is possible (a figure undefined, too few sources) the numbers are None and p is 1.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float
    standard_error: float | None
    sources: int

    def detectable(self, alpha: float = ALPHA) -> float | None:
        """The difference found with 80 % power: (z_a + z_b) standard errors, 2.8 at alpha .05; None without any spread."""
        if self.standard_error is None or self.standard_error < NO_SPREAD:
            return None
        return float(norm.ppf(1 - alpha / 2) + norm.ppf(POWER)) * self.standard_error


def difference(before: Sample, after: Sample) -> Difference:
    """Compare two samples drawn with the same sources.

    p inverts the percentile interval: twice the smaller share of replicate differences at or beyond 0, at least 1 / (n + 1)
    for n replicates (Davison and Hinkley 1997, Bootstrap Methods, section 4), at most 1.
    """
    if before.value is None or after.value is None:
        return Difference(None, None, None, 1.0, None, after.sources)
    replicates = after.replicates - before.replicates
    replicates = replicates[np.isfinite(replicates)]
    value = float(after.value - before.value)
    if len(replicates) < 2:
        return Difference(value, None, None, 1.0, None, after.sources)
    low, high = percentiles(replicates)
    p = 2 * min(np.mean(replicates <= 0), np.mean(replicates >= 0))
    p = min(1.0, max(float(p), 1 / (len(replicates) + 1)))
    return Difference(value, low, high, p, float(np.std(replicates, ddof=1)), after.sources)


def mean_sample(samples: Sequence[Sample]) -> Sample:
    """Average the figures of several seeds, value by value and replicate by replicate; undefined where one of them is."""
    values = [s.value for s in samples]
    value = None if None in values else sum(values) / len(values)
    return Sample(value, np.mean([s.replicates for s in samples], axis=0), samples[0].sources)


def paired_bootstrap(metric: Metric, before: Sequence[ScoredRow], after: Sequence[ScoredRow], *,
                     resamples: int = RESAMPLES, seed: int = SEED) -> Difference:
    """The paired cluster bootstrap: the same resampled sources for both systems' rows (any order of rows)."""
    sources = sources_of(metric, before, after)
    return difference(*(sample(metric, rows, sources, resamples=resamples, seed=seed) for rows in (before, after)))


def verdict(difference: float | None, p: float, better: str = "higher", alpha: float = ALPHA) -> str:
    """"better", "worse" or "cannot tell"; ``better`` says which direction of the figure is good ("higher" or "lower")."""
    if not difference or p >= alpha:
        return CANNOT_TELL
    return BETTER if (difference > 0) == (better == "higher") else WORSE


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment (Holm 1979, Scand. J. Statist. 6:65-70): the same keys with adjusted p-values."""
    adjusted, largest = {}, 0.0
    for rank, key in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[key]))
        adjusted[key] = largest
    return {key: adjusted[key] for key in p_values}
