"""The n-gram rival against Witten and Bell's formula, written out."""

import numpy as np
import pytest

from scionwood.pretraining.ngram import NgramModel, grams


def brute(train: list[int], vocab: int, history: list[int], word: int) -> float:
    """p(w | h) by the formula, counting by hand; ``history`` is the longest one used."""
    p = 1.0 / vocab
    for n in range(len(history) + 1):
        h = history[len(history) - n :]
        after = [train[i + n] for i in range(len(train) - n) if train[i : i + n] == h]
        if after:
            p = (after.count(word) + len(set(after)) * p) / (len(after) + len(set(after)))
    return p


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", [1, 2, 5])
def test_log_probs_are_those_of_the_formula(seed, order):
    rng = np.random.default_rng(seed)
    vocab = 7
    train = rng.integers(0, vocab - 2, 60)  # two tokens are never seen
    test = rng.integers(0, vocab, 25)
    model = NgramModel(train.astype(np.uint16), vocab, order)
    expected = [brute(train.tolist(), vocab, test[max(0, i - order + 1) : i].tolist(), test[i]) for i in range(len(test))]
    np.testing.assert_allclose(model.log_probs(test.astype(np.uint16)), np.log(expected), rtol=1e-12)


def test_probabilities_of_all_tokens_sum_to_one():
    rng = np.random.default_rng(1)
    model = NgramModel(rng.integers(0, 9, 80).astype(np.uint16), 12)
    for history in ([], [3], [11, 11], [1, 2, 3, 4], [0, 1, 11, 2], *rng.integers(0, 12, (20, 4)).tolist()):
        p = [np.exp(model.log_probs(np.array([*history, w], dtype=np.uint16))[-1]) for w in range(12)]
        assert sum(p) == pytest.approx(1, abs=1e-12) and min(p) > 0


def test_different_grams_have_different_hashes():
    pairs = np.stack(np.meshgrid(np.arange(256), np.arange(65535 - 255, 65536)), -1).reshape(-1, 2)
    line = np.concatenate([pairs.ravel(), pairs[:, ::-1].ravel()]).astype(np.uint16)
    for n in (1, 2, 3):
        exact = np.unique(np.lib.stride_tricks.sliding_window_view(line, n), axis=0)
        assert len(np.unique(grams(line, n))) == len(exact)


def test_texts_shorter_than_the_order():
    model = NgramModel(np.array([1, 2, 1], dtype=np.uint16), 4)
    assert len(model.log_probs(np.array([1], dtype=np.uint16))) == 1
    assert len(model.log_probs(np.array([], dtype=np.uint16))) == 0
    assert np.exp(model.log_probs(np.array([2], dtype=np.uint16))[0]) == pytest.approx((1 + 2 / 4) / 5)
