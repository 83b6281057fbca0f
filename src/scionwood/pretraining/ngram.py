"""An interpolated n-gram model over tokens: the rival of a small base, trained on the very same rows.

Witten-Bell smoothing (Witten and Bell, 1991): p(w | h) = (c(h, w) + T(h) p(w | h')) / (c(h) + T(h)), where T(h) counts the
different continuations of h and h' is h without its first token; below the unigrams every token is equally likely.
"""

from __future__ import annotations

import numpy as np

ORDER = 5
MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads the hash of an n-gram over 64 bits


def grams(tokens: np.ndarray, n: int) -> np.ndarray:
    """A 64-bit hash of every n-gram of a token array; shape (len - n + 1,). Collisions are rarer than one in 10^5 for 10^7 n-grams."""
    length = len(tokens) - n + 1
    out = np.zeros(max(length, 0), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for i in range(n):
            out = (out ^ (tokens[i : i + len(out)].astype(np.uint64) + np.uint64(1))) * MIX
            out ^= out >> np.uint64(29)
    return out


class NgramModel:
    """Counts of all orders up to ``order`` over one token array. Takes about 150 bytes a token at its peak, 100 at rest."""

    def __init__(self, tokens: np.ndarray, vocab_size: int, order: int = ORDER):
        self.order, self.vocab_size = order, vocab_size
        self.tables = []
        histories = np.zeros(len(tokens), dtype=np.uint64)  # of no token at all: one and the same everywhere
        for n in range(1, order + 1):
            here = grams(tokens, n)
            seen, at, counts = np.unique(here, return_index=True, return_counts=True)
            names, totals = np.unique(histories[: len(here)], return_counts=True)
            kinds = np.bincount(np.searchsorted(names, histories[at]), minlength=len(names))
            self.tables.append((seen, counts.astype(np.int32), names, totals.astype(np.int32), kinds.astype(np.int32)))
            histories = here

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        """Natural log-probability of every token given up to ``order - 1`` before it; shape (len,)."""
        p = np.full(len(tokens), 1.0 / self.vocab_size)
        histories = np.zeros(len(tokens), dtype=np.uint64)
        for n, (seen, counts, names, totals, kinds) in enumerate(self.tables, 1):
            here = grams(tokens, n)
            histories = histories[: len(here)]
            count, total, different = _look_up(seen, counts, here), _look_up(names, totals, histories), _look_up(names, kinds, histories)
            lower, known = p[n - 1 :], total + different
            p[n - 1 :] = np.where(known > 0, (count + different * lower) / np.maximum(known, 1), lower)
            histories = here
        return np.log(p)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 where it is not there."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
