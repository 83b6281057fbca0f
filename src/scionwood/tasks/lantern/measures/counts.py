"""Measures that need nothing but how often each word or character stands in the text: entropy, HD-D, distinct, EAD."""

from __future__ import annotations

import math

import numpy as np

Z = 1.959963984540054  # of a 95 % interval
DRAW = 42  # words that HD-D draws


def entropy(counts: np.ndarray) -> float:
    """Plug-in Shannon entropy in nats of counts (types,), each above zero: -sum(c/N ln c/N). 0 without any (Shannon 1948)."""
    n = float(counts.sum())
    return float(math.log(n) - (counts * np.log(counts)).sum() / n) if n else 0.0


def entropy_interval(counts: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % interval of a plug-in entropy by its asymptotic variance, (sum(p ln^2 p) - H^2) / N (Basharin 1959).

    It tells how sure the figure is for N draws of this kind; it does not mend that the figure grows with N. None where all
    counts are equal: the text shows no spread then.
    """
    n = float(counts.sum())
    if n < 2:
        return None, None
    p = counts / n
    surprise = -np.log(p)
    h = float((p * surprise).sum())
    return around(h, float((p * (surprise - h) ** 2).sum()) / n, 0.0, math.log(n))


def around(value: float, variance: float, least: float = -math.inf, most: float = math.inf) -> tuple[float | None, float | None]:
    """Value +- 1.96 standard errors, kept within the possible; (None, None) without variance."""
    if not variance > 1e-18:
        return None, None
    half = Z * math.sqrt(variance)
    return max(least, value - half), min(most, value + half)


def hdd(counts: np.ndarray) -> float | None:
    """HD-D: sum over types of (1 - hypergeom(0; N, c, 42)) / 42, the expected share of types in 42 words drawn without
    putting back (McCarthy and Jarvis 2007). None below 42 words."""
    n = int(counts.sum())
    if n < DRAW:
        return None
    c, times = np.unique(counts, return_counts=True)
    # ln of prod_{i<42} (N - c - i) / (N - i); a factor of zero or less means that the type cannot be missed
    left = n - c[:, None].astype(np.float64) - np.arange(DRAW)
    missed = np.where((left > 0).all(1), np.exp(np.log(np.maximum(left, 1) / (n - np.arange(DRAW))).sum(1)), 0.0)
    return float((times * (1 - missed)).sum() / DRAW)


def hdd_interval(counts: np.ndarray, value: float | None) -> tuple[float | None, float | None]:
    """The 95 % interval of an HD-D: as a U-statistic it has the variance Var_t[(1 - p_t)^41] / N over the words of the text
    (Hoeffding 1948; the projection on one of the 42 words drawn)."""
    if value is None:
        return None, None
    n = float(counts.sum())
    p = counts / n
    alone = (1 - p) ** (DRAW - 1)
    mean = float((p * alone).sum())
    return around(value, float((p * (alone - mean) ** 2).sum()) / n, 0.0, 1.0)


def distinct(types: int, total: int) -> float | None:
    """Different n-grams over n-grams (Li et al. 2016); None without any."""
    return types / total if total else None


def types_variance(singles: int, total: int) -> float:
    """Variance of the number of types by the delete-one jackknife, which is conservative (Efron and Stein 1981).

    Only a word that stands once takes its type along, so the sum has a closed form: (N - 1)/N * f1 * (1 - f1/N).
    """
    return (total - 1) / total * singles * (1 - singles / total) if total else 0.0


def distinct_interval(types: int, singles: int, total: int) -> tuple[float | None, float | None]:
    """The 95 % interval of distinct-n for a text of this length."""
    return around(types / total, types_variance(singles, total) / total**2, 0.0, 1.0) if total else (None, None)


def expected_types(total: int, vocabulary: int) -> float:
    """How many types C even draws from V words give: V (1 - ((V - 1)/V)^C) (Liu et al. 2022)."""
    return -vocabulary * math.expm1(total * math.log1p(-1 / vocabulary)) if vocabulary > 1 else float(min(total, vocabulary))


def ead(types: int, total: int, vocabulary: int) -> float | None:
    """Expectation-adjusted distinct (Liu et al. 2022); None without words."""
    return types / expected_types(total, vocabulary) if total else None


def ead_interval(types: int, singles: int, total: int, vocabulary: int) -> tuple[float | None, float | None]:
    """The 95 % interval of EAD."""
    if not total:
        return None, None
    even = expected_types(total, vocabulary)
    return around(types / even, types_variance(singles, total) / even**2, 0.0)
