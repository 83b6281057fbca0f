import time

import numpy as np
import pytest
from evidence_fakes import mean_x, scored

from scionwood.evidence.intervals import MIN_SOURCES, cluster_bootstrap, draws, sample, wilson
from scionwood.task import Metric

MEAN = Metric("mean", mean_x)


@pytest.mark.parametrize("k, n, low, high", [(1, 6, .03, .56), (6, 6, .61, 1.0), (110, 120, .85, .95), (23, 30, .59, .88)])
def test_wilson_agrees_with_the_published_table(k, n, low, high):
    assert wilson(k, n) == (pytest.approx(low, abs=.006), pytest.approx(high, abs=.006))


def test_bootstrap_of_a_mean_is_close_to_the_normal_interval():
    values = np.random.RandomState(0).normal(3, 2, 400)
    half = 1.96 * values.std() / 20
    low, high = cluster_bootstrap(MEAN, scored(values))
    assert (low, high) == (pytest.approx(values.mean() - half, abs=.05), pytest.approx(values.mean() + half, abs=.05))


def test_sources_not_rows_are_resampled():
    """Ten copies of each row in one source say no more than one: the interval must not shrink."""
    values = np.random.RandomState(1).normal(0, 1, 40)
    once = cluster_bootstrap(MEAN, scored(values))
    copied = cluster_bootstrap(MEAN, scored(np.repeat(values, 10), source=lambda i: f"s{i // 10}"))
    assert np.subtract(*copied) == pytest.approx(np.subtract(*once), rel=.15)


def test_same_seed_same_interval_whatever_the_order_of_rows():
    rows = scored(range(30))
    assert cluster_bootstrap(MEAN, rows) == cluster_bootstrap(MEAN, rows[::-1])
    assert cluster_bootstrap(MEAN, rows) != cluster_bootstrap(MEAN, rows, seed=1)


def test_the_stream_of_draws_is_frozen():
    assert draws(10, 2, seed=7).tolist() == [[4, 9, 6, 3, 3, 7, 7, 9, 7, 8], [9, 8, 7, 6, 4, 0, 7, 0, 7, 6]]


def test_too_few_sources_give_no_interval():
    rows = scored(range(50), source=lambda i: f"s{i % (MIN_SOURCES - 1)}")
    assert cluster_bootstrap(MEAN, rows) == (None, None)
    assert sample(MEAN, rows).value == 24.5


def test_undefined_figures_are_left_out():
    assert cluster_bootstrap(Metric("none", lambda rows: None), scored(range(20))) == (None, None)
    rare = Metric("rare", lambda rows: mean_x(rows) if any(r.scores["x"] == 0 for r in rows) else None)
    low, high = cluster_bootstrap(rare, scored(range(20)))
    assert low < 9.5 < high
    assert 0 < np.isnan(sample(rare, scored(range(20))).replicates).sum() < 1000


def test_no_spread_gives_no_interval():
    assert cluster_bootstrap(MEAN, scored([1.0] * 20)) == (None, None)


def test_a_thousand_resamples_of_a_thousand_rows_are_quick():
    rows = scored(np.arange(1000) % 3, source=lambda i: f"s{i // 5}")
    start = time.process_time()
    cluster_bootstrap(MEAN, rows)
    assert time.process_time() - start < 2
