"""Bradley and Terry's model of paired comparisons, with ties after Davidson: how strong each contestant is, from who was preferred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
from scipy.optimize import minimize

from scionwood.evidence.intervals import MIN_SOURCES, RESAMPLES, SEED, draws, percentiles

PRIOR = 0.5  # wins each way that are added to every pair that met: without them a contestant that won all would be infinitely strong


@dataclass(frozen=True)
class Fit:
    """``strength`` (contestants,): log-strengths that sum to zero; i is preferred to j with odds exp(s_i - s_j), ties aside.
    ``tie``: Davidson's nu; two equals tie in nu / (2 + nu) of their comparisons."""

    strength: np.ndarray
    tie: float


def fit(wins: np.ndarray, ties: np.ndarray, prior: float = PRIOR) -> Fit:
    """Fit by (penalised) maximum likelihood.

    ``wins`` (c, c): how often the row was preferred to the column. ``ties`` (c, c), symmetric. Davidson 1970 (JASA 65:317):
    P(i) = p_i / (p_i + p_j + nu sqrt(p_i p_j)), P(tie) = nu sqrt(p_i p_j) / the same. Bradley and Terry 1952 without ties.
    """
    wins, ties = np.asarray(wins, dtype=float), np.asarray(ties, dtype=float)
    met = (wins + wins.T + ties) > 0
    won = wins + prior * met
    rows, columns = np.nonzero(np.triu(met, 1))
    up, down, even = won[rows, columns], won[columns, rows], ties[rows, columns]
    with_ties = even.sum() > 0
    c = len(wins)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        s, log_nu = x[:c], x[c] if with_ties else -np.inf
        half = (s[rows] - s[columns]) / 2
        terms = np.stack([half, -half, np.full(len(half), log_nu)])
        top = terms.max(0)
        log_total = top + np.log(np.exp(terms - top).sum(0))
        p = np.exp(terms - log_total)
        n = up + down + even
        value = n @ log_total - up @ half + down @ half - (even.sum() * log_nu if with_ties else 0.0)
        slope = (n * (p[0] - p[1]) - up + down) / 2
        gradient = np.zeros(c + with_ties)
        np.add.at(gradient, rows, slope)
        np.add.at(gradient, columns, -slope)
        gradient[:c] += s * 1e-9  # the sum of the strengths is free: this keeps it at zero
        if with_ties:
            gradient[c] = n @ p[2] - even.sum()
        return float(value + 0.5e-9 * (s @ s)), gradient

    found = minimize(loss, np.zeros(c + with_ties), jac=True, method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-8, "maxiter": 500})
    strength = found.x[:c] - found.x[:c].mean()
    return Fit(strength, float(np.exp(found.x[c])) if with_ties else 0.0)


def intervals(wins: np.ndarray, ties: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> list[tuple[float | None, float | None]]:
    """The 95 % interval of each log-strength by the bootstrap over clusters.

    ``wins`` and ``ties`` are (clusters, c, c), one layer for each task: whole tasks are drawn. None below ``MIN_SOURCES`` tasks.
    """
    tasks, c, _ = wins.shape
    if tasks < MIN_SOURCES:
        return [(None, None)] * c
    found = np.array([fit(wins[d].sum(0), ties[d].sum(0)).strength for d in draws(tasks, resamples, seed)])
    return [percentiles(found[:, i]) for i in range(c)]


def counts(votes: Sequence[tuple[str, str, str, float]], names: Sequence[str], tasks: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Layers of wins and ties (tasks, c, c) from votes (task, first, second, share).

    Share 1 is a win of the first, 0 of the second, .5 a tie.
    """
    place, layer = {n: i for i, n in enumerate(names)}, {t: i for i, t in enumerate(tasks)}
    wins, ties = np.zeros((2, len(tasks), len(names), len(names)))
    for task, first, second, share in votes:
        t, i, j = layer[task], place[first], place[second]
        if share == 0.5:
            ties[t, i, j] += 1
            ties[t, j, i] += 1
        else:
            wins[t, i, j] += share
            wins[t, j, i] += 1 - share
    return wins, ties
