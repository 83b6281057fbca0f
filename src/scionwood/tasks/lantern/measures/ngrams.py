"""How many different n-grams a long row of word numbers has, exactly and in bounded memory."""

from __future__ import annotations

from typing import Callable, Iterator

import numpy as np

MOST = 1 << 22  # n-grams that are sorted at a time: 32 MB of keys

Blocks = Callable[[int], Iterator[np.ndarray]]  # n -> blocks of word numbers, each beginning with the last n - 1 of the block before


def keys_of(ids: np.ndarray, size: int, vocabulary: int) -> np.ndarray:
    """One key per n-gram of ``ids`` (n,): different n-grams have different keys.

    A 64-bit number where it can hold ``vocabulary`` to the power of ``size``, else the word numbers' bytes.
    """
    if len(ids) < size:
        return np.empty(0, dtype=np.uint64)
    if vocabulary**size < 1 << 64:
        keys = ids[: len(ids) - size + 1].astype(np.uint64)
        for k in range(1, size):
            keys = keys * np.uint64(vocabulary) + ids[k : len(ids) - size + 1 + k].astype(np.uint64)
        return keys
    rows = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(ids, size))
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * size))).ravel()


def count_ngrams(blocks: Blocks, words: int, size: int, vocabulary: int, most: int = MOST) -> tuple[int, int]:
    """``(different n-grams, those that stand once)`` of ``words`` words read by ``blocks``.

    More than ``most`` n-grams are shared out by the first word of each, and read once for each share; a share holds more than
    ``most`` only where one word begins more than that many.
    """
    shares = max(1, -(-words // most))
    types = singles = 0
    for share in range(shares):
        found = []
        for ids in blocks(size):
            keys = keys_of(ids, size, vocabulary)
            if shares > 1:
                keys = keys[ids[: len(keys)] % shares == share]
            found.append(keys)
        _, counts = np.unique(np.concatenate(found), return_counts=True) if found else (None, np.empty(0))
        types, singles = types + len(counts), singles + int((counts == 1).sum())
    return types, singles
