"""Fraction of variance explained (FVE): errors of reconstructed vectors, and the denominators that they are measured against.

All vectors are first brought to the norm sqrt(d), so that the squared error of two of them is 2 (1 - cos), from 0 to 4, whatever
the width of the model. Formulas as in the published NLA code (``fve_nrm``); arrays are (n, d), results float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scionwood.errors import UserError

SMALLEST = 1e-12  # a vector shorter than this has no direction


def unit(values: np.ndarray) -> np.ndarray:
    """v̂ = sqrt(d) v / |v|: the direction of each row, at root mean square 1. A vector of nothing but zeros stays one."""
    values = np.asarray(values, dtype=np.float64)
    return np.sqrt(values.shape[-1]) * values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), SMALLEST)


@dataclass(frozen=True)
class Spread:
    """What the training vectors fix once and for all: their mean and how far they lie from it.

    ``mean`` (d,) is μ, the mean of the unit vectors. ``strict`` is D = mean((v̂ - μ)²) = 1 - |μ|²/d, the error of always saying μ.
    ``loose`` is D' = mean((v̂ - sqrt(d) μ/|μ|)²) = 2 (1 - |μ|/sqrt(d)), the error of always saying its direction, which has the
    norm that every reconstruction is brought to. D' is the larger one: a figure against it looks better, so say which it is.
    """

    mean: np.ndarray
    strict: float
    loose: float
    rows: int


def fit_spread(train: np.ndarray) -> Spread:
    """Mean and denominators of the training vectors (n, d), which may have any length."""
    v = unit(train)
    if not len(v):
        raise UserError("vectors: there are none to take a mean of; extract the training texts first")
    mean = v.mean(axis=0)
    return Spread(mean, float(((v - mean) ** 2).mean()), float(((v - unit(mean)) ** 2).mean()), len(v))


def errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """mse_nrm of each row (n,): mean((p̂ - v̂)²) = 2 (1 - cos), 0 to 4. The length of either does not count."""
    return ((unit(predicted) - unit(true)) ** 2).mean(axis=-1)


def free_errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """mean((p - v̂)²) of each row (n,): the prediction stays as it is, on the scale of unit vectors.

    A predictor that is not sure may then stay close to the mean; the mean itself scores D, so its FVE is 0.
    """
    return ((np.asarray(predicted, dtype=np.float64) - unit(true)) ** 2).mean(axis=-1)


def fve(error: np.ndarray, against: np.ndarray | float) -> float:
    """1 - sum of errors / sum of ``against``: one number for all rows (such as D), or each row's own spread (n,)."""
    error = np.asarray(error, dtype=np.float64)
    return float(1 - error.sum() / np.broadcast_to(np.asarray(against, dtype=np.float64), error.shape).sum())


def spreads(true: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Each row's squared distance from ``mean`` (d,) or from a mean of its own (n, d): what an FVE of the same rows is taken against."""
    return free_errors(np.broadcast_to(mean, np.shape(true)), true)


def cosines(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The cosine of each row (n,). High wherever vectors share a large mean, so it says little on its own."""
    return (unit(predicted) * unit(true)).mean(axis=-1)


def centred_cosines(predicted: np.ndarray, true: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The cosine of each row (n,) after ``mean`` was taken off both unit vectors."""
    return cosines(unit(predicted) - mean, unit(true) - mean)


def centred_cosine(predicted: np.ndarray, true: np.ndarray, mean: np.ndarray) -> float:
    """One cosine over all rows: sum of products over the root of the product of the sums of squares, ``mean`` taken off both.

    ``predicted`` stays as it is, on the scale of unit vectors. Its square is the FVE that μ + a (p - μ) reaches with the best
    length a (least squares): what a predictor's direction is worth when it may choose how far to go from the mean.
    """
    p, t = np.asarray(predicted, dtype=np.float64) - mean, unit(true) - mean
    return float((p * t).sum() / max(np.sqrt((p**2).sum() * (t**2).sum()), SMALLEST))


def group_means(train: np.ndarray, groups: list[str], wanted: list[str]) -> np.ndarray:
    """For each of ``wanted`` (n,) the mean unit vector of its group in training, (n, d); the mean of all for a group that is not there.

    Against the spread around these (see ``spreads``), an FVE counts only what is explained beyond knowing the group.
    """
    v, names = unit(train), np.array(groups)
    every = v.mean(axis=0)
    means = {g: v[names == g].mean(axis=0) for g in set(groups)}
    return np.stack([means.get(g, every) for g in wanted]) if wanted else np.empty((0, v.shape[1]))
