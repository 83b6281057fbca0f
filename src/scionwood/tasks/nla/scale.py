"""The norm s that injected vectors get: a percentile of the corpus, swept, or given."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np

PUBLISHED = 150.0  # the preset of the published card; measured for another model than its own
PERCENTILE = 75


def norms(values) -> np.ndarray:
    """Euclidean norms (n,) of vectors (n, d), summed in float64."""
    return np.sqrt((np.asarray(values, dtype=np.float64) ** 2).sum(-1))


def choose_scale(values, rule: float | str = "percentile") -> tuple[float, str]:
    """``(s, reason)``: a number is taken as it is; "percentile" is the 75th percentile of the corpus' norms at the layer."""
    if rule != "percentile":
        return float(rule), f"injection scale {float(rule):g} (given)"
    s = float(np.percentile(norms(values), PERCENTILE))
    return s, f"injection scale {s:.4g} (the {PERCENTILE}th percentile of {len(values)} norms at this layer)"


def sweep_scale(scales: Sequence[float], losses: Callable[[float], tuple[np.ndarray, np.ndarray]]) -> tuple[float, list[dict]]:
    """The scale with the largest gap between shuffled and true loss, and one row for each that was tried.

    ``losses(s)`` trains a verbalizer at scale s and returns its loss for each held-out text, with its own vector and with
    another one's. The gap, not the loss, says how much of the text comes from the vector.
    """
    rows = []
    for s in scales:
        true, shuffled = (np.asarray(x, dtype=np.float64) for x in losses(s))
        rows.append({"scale": float(s), "true": float(true.mean()), "shuffled": float(shuffled.mean()),
                     "gap": float((shuffled - true).mean())})
    return max(rows, key=lambda r: r["gap"])["scale"], rows
