"""Forced choice: is a reconstructed vector closer to the true one than to nine others?"""

from __future__ import annotations

import random
from typing import Sequence

import numpy as np

from scionwood.tasks.nla import fve

OF = 10


def candidates(ids: Sequence[str], groups: Sequence[str], of: int = OF, seed: int = 0) -> list[list[int]]:
    """For each row the indices that it chooses from, its own first: others of its group, filled up from the rest where these are few.

    The same for the same ids and seed, whatever the vectors, so that every system is asked the same question. Where there are
    fewer than ``of`` rows at all, all are taken.
    """
    out = []
    for i, name in enumerate(ids):
        draw = random.Random(f"{seed}/{name}")
        same = [j for j, g in enumerate(groups) if j != i and g == groups[i]]
        rest = [j for j, g in enumerate(groups) if g != groups[i]]
        chosen = draw.sample(same, min(of - 1, len(same)))
        chosen += draw.sample(rest, min(of - 1 - len(chosen), len(rest)))
        out.append([i, *chosen])
    return out


def ranks(predicted: np.ndarray, true: np.ndarray, chosen: Sequence[Sequence[int]], mean: np.ndarray | None = None) -> np.ndarray:
    """The place (n,) from 1 of the true vector among the candidates, the closest to the prediction first; a tie counts against it.

    ``predicted`` and ``true`` are (n, d), ``chosen`` comes from ``candidates``. Closeness is the cosine; with ``mean`` (d,) it is
    the cosine of what is left of both unit vectors without it, so that a candidate is not close for lying near the mean.
    """
    p, t = fve.unit(predicted), fve.unit(true)
    if mean is not None:
        p, t = fve.unit(p - mean), fve.unit(t - mean)
    out = np.empty(len(p), np.int64)
    for i, row in enumerate(chosen):
        close = t[list(row)] @ p[i]
        out[i] = 1 + (close[1:] >= close[0]).sum()
    return out
