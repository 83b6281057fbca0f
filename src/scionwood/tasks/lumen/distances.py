"""How far what a system says lies from what the rules would say: Jensen-Shannon distances of tokens and of patterns, per shape.

The distance is the square root of the divergence in bits (Lin 1991, IEEE Trans. Inf. Theory 37:145-151): 0 for equal distributions, 1
for distributions with nothing in common. The reference is exact: it is computed from the rules, not counted in labels.

Over several shapes the divergences are averaged before the root is taken. Counted shares of few answers lie off the rules by chance
alone, so the plain divergence of a perfect system is above 0. That bias is taken off by its second-order term, the sum over the entries
of half of f''(p) var(p), with the variance of the shares estimated between rows. A row that a bootstrap draws twice is one answer with
weight two, and counts as such in the variance. With twenty answers of a shape and more, equal distributions then come to 0 on average.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from math import log
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from scionwood.task import ScoredRow
from scionwood.tasks.lumen.grammar import Expression
from scionwood.tasks.lumen.shapes import SHAPES
from scionwood.tasks.lumen.vocabulary import PATTERNS, TOKENS

PLACE = {shape: k for k, shape in enumerate(SHAPES)}

Shares = Callable[[tuple[str, ...] | None, str], np.ndarray]
Reference = Callable[[str], Mapping[Expression, float]]  # shape -> probability of each expression


@lru_cache(maxsize=1 << 16)
def token_shares(tokens: tuple[str, ...] | None, pattern: str) -> np.ndarray:
    """The share of each token in one answer, [15 + 1]; all in the last place where there is no token."""
    out = np.zeros(len(TOKENS) + 1)
    for t in tokens or ():
        out[TOKENS.index(t)] += 1 / len(tokens)
    if not tokens:
        out[-1] = 1
    return out


@lru_cache(maxsize=1 << 16)
def pattern_shares(tokens: tuple[str, ...] | None, pattern: str) -> np.ndarray:
    """One for the declared pattern, [5 + 1]; in the last place for a failed answer."""
    out = np.zeros(len(PATTERNS) + 1)
    out[-1 if tokens is None else PATTERNS.index(pattern)] = 1
    return out


def expected(shares: Shares, odds: Mapping[Expression, float]) -> np.ndarray:
    """The shares of a distribution over expressions."""
    return sum(p * shares(e.tokens, e.pattern) for e, p in odds.items())


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The Jensen-Shannon divergence in bits along the last axis."""
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(p > 0, p * np.log2(p / m), 0) + np.where(q > 0, q * np.log2(q / m), 0)
    return parts.sum(-1) / 2


def corrected(x: np.ndarray, weights: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The divergences of weighted means of rows ``x`` [n, k] from ``q`` [..., k], without the bias of few rows: equal ones give 0 on
    average, some a little below.

    ``weights`` [..., n]: how often each row counts in each mean. A mean of a single row has no spread and is not corrected.
    """
    total = weights.sum(-1, keepdims=True)
    p = weights @ x / total
    rows = total**2 / (weights**2).sum(-1, keepdims=True)  # rows of equal weight that would vary as much
    spread = np.maximum(weights @ x**2 / total - p**2, 0).sum(-1, keepdims=True) / np.where(rows > 1, rows - 1, np.inf)
    m = (p + q) / 2  # p itself may be 0 where a rare entry was not met, and its variance too
    variance = spread * m * (1 - m) / (m * (1 - m)).sum(-1, keepdims=True)
    curvature = np.where(m > 0, q / np.where(m > 0, 2 * m * (m + q), 1), 0) / log(2)
    return divergence(p, q) - (curvature * variance).sum(-1) / 2


def said(answer: Mapping[str, Any] | None) -> tuple[tuple[str, ...] | None, str]:
    """Tokens and declared pattern of an answer; no tokens at all for a failure."""
    return (tuple(answer["tokens"]), answer["pattern"]) if answer else (None, "")


class Distance:
    """A distance as a metric's function: the root of the mean divergence over the shapes that occur and the kinds that are asked for.

    The root comes last. Taken for each shape it would turn the chance in each near 0 into a distance of its own.
    """

    def __init__(self, kinds: Sequence[Shares], reference: Reference):
        self.kinds = kinds
        self.q = {k: np.stack([expected(k, reference(s)) for s in SHAPES]) for k in kinds}

    def __call__(self, rows: Sequence[ScoredRow]) -> float | None:
        counts = Counter(map(id, rows))
        distinct = {id(r): r for r in rows}
        answers = [said(r.answer) for r in distinct.values()]
        weights = np.zeros((len(SHAPES), len(answers)))
        weights[[PLACE[r.case.reference["shape"]] for r in distinct.values()], range(len(answers))] = [counts[i] for i in distinct]
        met = weights.any(-1)
        values = [corrected(np.array([k(*a) for a in answers]), weights[met], self.q[k][met]).mean() for k in self.kinds if answers]
        return max(0.0, float(sum(values) / len(values))) ** 0.5 if values else None
