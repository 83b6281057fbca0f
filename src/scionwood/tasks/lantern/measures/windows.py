"""Word entropy of windows of one fixed length along a text, and the interval of their mean."""

from __future__ import annotations

import math

import numpy as np

STEP = 10  # words between the beginnings of two windows
BLOCK = 1 << 12  # windows worked off at a time
MIN_PIECES = 6  # windows that do not overlap; with fewer no interval is given, as elsewhere with fewer than six sources
BINS = 2048  # points kept of a curve, however long the text


def window_entropies(ids: np.ndarray, width: int, step: int = STEP) -> np.ndarray:
    """Plug-in entropies in nats of the windows ``ids[i : i + width]``, i = 0, step, 2 step, ...: float64 of shape (windows,).

    ``ids`` (n,) are word numbers. There is no window where n < ``width``.
    """
    if len(ids) < width:
        return np.empty(0)
    starts, inside = np.arange(0, len(ids) - width + 1, step)[:, None], np.arange(width)
    clnc = np.arange(width + 1, dtype=np.float64)
    clnc[1:] *= np.log(clnc[1:])
    return np.concatenate([_entropies(np.sort(ids[starts[at : at + BLOCK] + inside], axis=1), width, clnc)
                           for at in range(0, len(starts), BLOCK)])


def _entropies(rows: np.ndarray, width: int, clnc: np.ndarray) -> np.ndarray:
    """Entropies of sorted rows: ln k - sum(c ln c) / k, the counts c being the lengths of the runs of equal numbers."""
    begins = np.ones(rows.shape, dtype=bool)
    np.not_equal(rows[:, 1:], rows[:, :-1], out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    runs = np.empty_like(starts)
    runs[:-1], runs[-1] = starts[1:] - starts[:-1], rows.size - starts[-1]
    return math.log(width) - np.bincount(starts // width, weights=clnc[runs], minlength=len(rows)) / width


class Curve:
    """A series of unknown length in bounded memory: sums over equal spans, merged two by two when there are too many.

    ``span`` values make up a point. The mean of all values is exact.
    """

    def __init__(self, bins: int = BINS):
        self.bins, self.span, self.sums, self.rest, self.in_rest = bins, 1, np.empty(0), 0.0, 0
        self.total, self.count = 0.0, 0

    def add(self, values: np.ndarray) -> None:
        """Append values (m,)."""
        self.total, self.count = self.total + float(values.sum()), self.count + len(values)
        while len(values):
            if self.span > 1 and (self.in_rest or len(values) < self.span):  # complete the point that is begun
                take = values[: self.span - self.in_rest]
                self.rest, self.in_rest, values = self.rest + float(take.sum()), self.in_rest + len(take), values[len(take) :]
                if self.in_rest == self.span:
                    self.sums, self.rest, self.in_rest = np.append(self.sums, self.rest), 0.0, 0
            else:
                whole = len(values) // self.span * self.span
                self.sums = np.concatenate([self.sums, values[:whole].reshape(-1, self.span).sum(1)])
                values = values[whole:]
            while len(self.sums) > self.bins:
                if len(self.sums) % 2:
                    self.rest, self.in_rest, self.sums = self.rest + self.sums[-1], self.in_rest + self.span, self.sums[:-1]
                self.sums, self.span = self.sums.reshape(-1, 2).sum(1), self.span * 2

    @property
    def points(self) -> np.ndarray:
        """Means of ``span`` values each; what does not fill a last point is left out, unless it is all there is."""
        if not len(self.sums) and self.in_rest:
            return np.array([self.rest / self.in_rest])
        return self.sums / self.span

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


def mean_interval(curve: Curve, overlap: int) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean of a series whose neighbours resemble each other.

    Newey and West's variance (1987, Econometrica 55:703) with a lag that covers the overlap, and Student's quantile for as
    many degrees of freedom as there are pieces without overlap. ``overlap``: how many neighbours share words. (None, None)
    where there are fewer than ``MIN_PIECES`` such pieces, or no spread.
    """
    from scipy.stats import t as student

    pieces = curve.count // max(1, overlap)
    points = curve.points
    if pieces < MIN_PIECES or len(points) < 2:
        return None, None
    lag = min(len(points) - 1, math.ceil(overlap / curve.span) + int(4 * (len(points) / 100) ** (2 / 9)))
    x = points - points.mean()
    n = len(x)
    variance = float(x @ x) / n
    for k in range(1, lag + 1):
        variance += 2 * (1 - k / (lag + 1)) * float(x[k:] @ x[:-k]) / n
    if not variance / n > 1e-18:
        return None, None
    half = float(student.ppf(0.975, pieces - 1)) * math.sqrt(variance / n)
    return curve.mean - half, curve.mean + half
