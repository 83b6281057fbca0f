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
    """Counts of all orders up to ``order`` over one token array."""

    def __init__(self, tokens: np.ndarray, vocab_size: int, order: int = ORDER):
        self.order, self.vocab_size = order, vocab_size
        self.tables = []
        for n in range(1, order + 1):
            seen, counts = np.unique(grams(tokens, n), return_counts=True)
            history = self._histories(tokens, n)
            self.tables.append((seen, counts, *history))

    @staticmethod
    def _histories(tokens: np.ndarray, n: int):
        """For order n: (hashes of histories, how often each occurs, how many different tokens follow it)."""
        if n == 1:
            return None, np.array([len(tokens)]), np.array([len(np.unique(tokens))])
        whole, at = np.unique(grams(tokens, n), return_index=True)
        histories = grams(tokens, n - 1)
        names, counts = np.unique(histories[: len(tokens) - n + 1], return_counts=True)
        kinds = np.zeros(len(names), dtype=np.int64)
        np.add.at(kinds, np.searchsorted(names, histories[at]), 1)
        return names, counts, kinds

    def log_probs(self, tokens: np.ndarray) -> np.ndarray:
        """Natural log-probability of every token given up to ``order - 1`` before it; shape (len,)."""
        p = np.full(len(tokens), 1.0 / self.vocab_size)
        for n, (seen, counts, names, totals, kinds) in enumerate(self.tables, 1):
            count = _look_up(seen, counts, grams(tokens, n))
            if names is None:
                total, different = totals[0], kinds[0]
            else:
                h = grams(tokens, n - 1)[: len(tokens) - n + 1]
                total, different = _look_up(names, totals, h), _look_up(names, kinds, h)
            lower, known = p[n - 1 :], total + different
            p[n - 1 :] = np.where(known > 0, (count + different * lower) / np.maximum(known, 1), lower)
        return np.log(p)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 where it is not there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
