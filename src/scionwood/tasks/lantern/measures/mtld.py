"""MTLD: how many words pass until the share of different ones has fallen to .72, read forwards and backwards."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Iterable

import numpy as np

LIMIT, PARTS, WHOLE = 0.72, 18, 25  # .72 = 18/25, compared in whole numbers: .72 itself is no binary fraction
LEAST = 50  # words; for shorter texts the published implementation gives no figure, and neither do we
MIN_FACTORS = 6


@dataclass
class Pass:
    """One reading direction. ``factors`` counts the segments that were grown to the limit; the last one stays in ``seen``."""

    factors: int = 0
    words: int = 0
    squares: float = 0.0
    seen: set = field(default_factory=set)
    length: int = 0

    def read(self, ids: Iterable[int]) -> None:
        """Read further word numbers. A segment ends with the word at which types/words is at most .72, and a new one begins."""
        seen, length, factors, squares, total = self.seen, self.length, self.factors, self.squares, 0
        add = seen.add
        types = len(seen)
        for word in ids:
            length += 1
            total += 1
            if word not in seen:
                add(word)
                types += 1
            if WHOLE * types <= PARTS * length:
                factors += 1
                squares += length * length
                seen.clear()
                length = types = 0
        self.length, self.factors, self.squares, self.words = length, factors, squares, self.words + total

    @property
    def all_factors(self) -> float:
        """Factors with the share (1 - TTR)/(1 - .72) of the segment that is left over."""
        return self.factors + ((1 - len(self.seen) / self.length) / (1 - LIMIT) if self.length else 0.0)

    @property
    def value(self) -> float:
        """Words per factor; infinite where no word came twice."""
        return self.words / self.all_factors if self.all_factors else math.inf


def mtld(forwards: Pass, backwards: Pass) -> float | None:
    """The mean of both directions (McCarthy and Jarvis 2010); None below 50 words, or where no word came twice."""
    value = (forwards.value + backwards.value) / 2
    return value if forwards.words >= LEAST and math.isfinite(value) else None


def mtld_interval(forwards: Pass, backwards: Pass) -> tuple[float | None, float | None]:
    """The 95 % interval from the spread of the lengths of the factors. Both directions read the same words, so their
    factors count once. (None, None) below ``MIN_FACTORS`` factors."""
    from scipy.stats import t as student

    value, n = mtld(forwards, backwards), (forwards.factors + backwards.factors) / 2
    if value is None or n < MIN_FACTORS:
        return None, None
    whole = [(p.words - p.length, p.squares, p.factors) for p in (forwards, backwards)]
    mean = sum(w for w, _, _ in whole) / (2 * n)
    spread = max(0.0, sum(s for _, s, _ in whole) / (2 * n) - mean**2) * n / (n - 1)
    half = float(student.ppf(0.975, n - 1)) * math.sqrt(spread / n)
    return (max(0.0, value - half), value + half) if half > 0 else (None, None)


def of_ids(ids: np.ndarray) -> tuple[Pass, Pass]:
    """Both readings of word numbers (n,) that are at hand as a whole."""
    forwards, backwards = Pass(), Pass()
    forwards.read(ids.tolist())
    backwards.read(ids[::-1].tolist())
    return forwards, backwards
