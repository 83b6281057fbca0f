import numpy as np
import pytest
from evidence_fakes import mean_x, scored
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from scionwood.evidence.intervals import sample
from scionwood.evidence.paired import (Difference, McNemar, connor, fewest_pairs, holm, mcnemar, mean_sample, paired_bootstrap,
                                       verdict)
from scionwood.task import Metric

MEAN = Metric("mean", mean_x)


def scores(gains, losses, n):
    before = [0] * gains + [1] * losses + [1] * (n - gains - losses)
    after = [1] * gains + [0] * losses + [1] * (n - gains - losses)
    return before, after


@pytest.mark.parametrize("gains, losses, n, p", [(5, 0, 6, .063), (3, 0, 30, .25), (5, 2, 30, .45), (7, 0, 60, .016),
                                                 (8, 1, 60, .039), (0, 0, 9, 1.0)])
def test_mcnemar_agrees_with_the_published_table(gains, losses, n, p):
    test = mcnemar(*scores(gains, losses, n))
    assert (test.gains, test.losses, test.n) == (gains, losses, n)
    assert test.p == pytest.approx(p, abs=.006)
    assert test.difference == pytest.approx((gains - losses) / n)


def test_mcnemar_refuses_what_it_cannot_pair():
    with pytest.raises(ValueError, match="differ in number"):
        mcnemar([1, 0], [1])
    with pytest.raises(ValueError, match="0 and 1"):
        mcnemar([1, .5], [1, 0])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_symmetric(pairs):
    before, after = zip(*pairs)
    one, other = mcnemar(before, after), mcnemar(after, before)
    assert (one.gains, one.losses) == (other.losses, other.gains)
    assert one.p == pytest.approx(other.p)
    assert 0 < one.p <= 1


def test_six_one_way_pairs_are_the_fewest():
    assert fewest_pairs() == 6
    assert mcnemar(*scores(6, 0, 6)).p < .05 <= mcnemar(*scores(5, 0, 5)).p
    assert McNemar(30, 3, 2, 1.0).floor() == 6 / 30
    assert McNemar(5, 5, 0, .06).floor() is None is McNemar(5, 5, 0, .06).detectable()


@pytest.mark.parametrize("gain, loss, n", [(.25, .05, 65), (.13, .03, 135), (.167, .067, 195), (.067, .01, 195), (.08, .03, 370)])
def test_connor_is_near_the_exact_sample_sizes(gain, loss, n):
    """The table of exact sample sizes in specs/cerebellum.md; the formula is known to ask a little less."""
    found = connor(n, gain + loss)
    assert .8 * (gain - loss) < found <= gain - loss


@given(st.integers(1, 5000), st.floats(0, 1))
def test_connor_solves_its_own_formula(n, discordance):
    d = connor(n, discordance)
    assert 0 < d <= 1
    if d < 1:
        psi = max(d, discordance)
        needed = (norm.ppf(.975) * psi ** .5 + norm.ppf(.8) * max(psi - d * d, 0) ** .5) ** 2 / d ** 2
        assert needed == pytest.approx(n, rel=1e-4)


def test_detectable_is_found_about_four_times_in_five():
    """Simulated power of the exact test at the difference that is called detectable."""
    random, n, psi = np.random.RandomState(3), 300, .2
    d = connor(n, psi)
    gains, losses, _ = random.multinomial(n, [(psi + d) / 2, (psi - d) / 2, 1 - psi], size=400).T
    found = np.mean([mcnemar(*scores(g, l, n)).p < .05 for g, l in zip(gains, losses)])
    assert .68 < found < .88


def test_paired_bootstrap_sees_a_difference_that_is_small_but_steady():
    random = np.random.RandomState(0)
    noise = random.normal(0, 5, 60)
    before, after = scored(noise), scored(noise + .5 + random.normal(0, .1, 60))
    test = paired_bootstrap(MEAN, before, after)
    assert test.low < .5 < test.high and test.high - test.low < .1
    assert test.p == pytest.approx(1 / 1001)
    assert test.detectable() == pytest.approx(2.8 * test.standard_error, rel=1e-3)
    assert verdict(test.difference, test.p) == "better"
    assert verdict(test.difference, test.p, "lower") == "worse"


def test_paired_bootstrap_of_equals_and_of_few_sources():
    rows = scored(range(20))
    same = paired_bootstrap(MEAN, rows, rows)
    assert (same.difference, same.low, same.p, same.detectable()) == (0, None, 1, None)
    few = scored(range(20), source=lambda i: f"s{i % 3}")
    test = paired_bootstrap(MEAN, few, scored([9.0 + i for i in range(20)], source=lambda i: f"s{i % 3}"))
    assert test == Difference(9.0, None, None, 1.0, None, 3)
    assert test.detectable() is None and verdict(test.difference, test.p) == "cannot tell"


def test_paired_bootstrap_of_an_undefined_figure():
    test = paired_bootstrap(Metric("none", lambda rows: None), scored(range(9)), scored(range(9)))
    assert test.difference is None and test.p == 1 and verdict(test.difference, test.p) == "cannot tell"


def test_p_and_interval_agree():
    random = np.random.RandomState(5)
    for shift in np.linspace(-.6, .6, 13):
        before = random.normal(0, 1, 40)
        test = paired_bootstrap(MEAN, scored(before), scored(before + shift + random.normal(0, 1, 40)))
        if abs(test.p - .05) > .01:
            assert (test.p < .05) == (test.low > 0 or test.high < 0)


def test_mean_over_seeds_equals_mean_scores_for_a_mean():
    seeds = [np.arange(10.0), np.arange(10.0)[::-1] * 3]
    together = mean_sample([sample(MEAN, scored(v)) for v in seeds])
    assert together.value == pytest.approx(sample(MEAN, scored(sum(seeds) / 2)).value)
    assert np.allclose(together.replicates, sample(MEAN, scored(sum(seeds) / 2)).replicates)


def test_verdicts():
    assert verdict(.1, .05) == "cannot tell"
    assert verdict(.1, .049) == "better"
    assert verdict(-.1, .01) == "worse"
    assert verdict(-.1, .01, "lower") == "better"
    assert verdict(None, 1.0) == "cannot tell"


def test_holm_example():
    assert holm({"a": .01, "b": .04, "c": .03, "d": .005}) == pytest.approx({"a": .03, "b": .06, "c": .06, "d": .02})


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_lies_between_the_raw_p_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert list(adjusted) == list(p_values)
    largest = min(1, len(p_values) * max(p_values.values(), default=0))
    for a in p_values:
        assert p_values[a] <= adjusted[a] <= largest
        assert all(adjusted[a] <= adjusted[b] for b in p_values if p_values[a] < p_values[b])
    if p_values:
        assert min(adjusted.values()) == min(1, len(p_values) * min(p_values.values()))
