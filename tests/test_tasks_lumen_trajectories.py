"""Windows, the nine published rules, and a classifier that does not care how often the state was sampled."""

import math
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionwood.tasks.lumen.shapes import DIMENSIONS, SHAPES, UNCLASSIFIED, Point
from scionwood.tasks.lumen.trajectories import published, robust
from scionwood.tasks.lumen.trajectories.plots import recording_drawing, window_drawing
from scionwood.tasks.lumen.trajectories.rolling import Rolling
from scionwood.tasks.lumen.trajectories.settings import Shapes
from scionwood.tasks.lumen.trajectories.windows import even, merged, resampled, segments, usual_step, windows

LEVEL = {"E": 0.55, "I": 0.6, "S": 0.2, "V": 0.08}


def curve(n, dt=1.0, noise=0.0, seed=0, **change):
    """A window of n states; ``change`` gives for a dimension (or drift) a function of the share of time, 0 to 1, that is added."""
    rng, points = random.Random(seed), []
    for i in range(n):
        x = i / (n - 1)
        values = {d: LEVEL[d] + change.get(d, lambda x: 0)(x) + rng.gauss(0, noise) * (0.3 if d == "V" else 1) for d in DIMENSIONS}
        points.append(Point(i * dt, *(min(1.0, max(0.0, values[d])) for d in DIMENSIONS), change.get("drift", lambda x: 0)(x)))
    return points


def spike(height, at=0.5):
    return lambda x: height * (x / at if x <= at else (1 - x) / (1 - at))


def swirl(size, phase=0.0):
    return lambda x: size * math.exp(-2 * x) * math.sin(2 * math.pi * x + phase)


CLEAR = {  # windows that anybody would call so
    "settled_presence": {},
    "rising_entropy": {"S": lambda x: 0.3 * x},
    "falling_energy": {"E": lambda x: -0.15 * x},
    "basin_transition_down": {"E": lambda x: -0.3 * x},
    "basin_transition_up": {"E": lambda x: 0.35 * x},
    "entropy_spike_recovery": {"S": spike(0.35)},
    "drift_dissonance": {"E": lambda x: 0.1 * x, "I": lambda x: -0.15 * x},
    "void_rising": {"V": lambda x: 0.08 * x},
    "convergence": {"E": swirl(0.09), "I": swirl(0.09, 1.6)},
}


# -- windows ---------------------------------------------------------------------------------------------------------------


def test_near_duplicate_times_become_one_state():
    points = [Point(0, .1, .1, .1, .1), Point(2, .2, .2, .2, .2), Point(2.001, .4, .4, .4, .4, .5), Point(4, .3, .3, .3, .3)]
    assert merged(reversed(points)) == [points[0], pytest.approx(Point(2.0005, .3, .3, .3, .3, .5)), points[3]]


def test_a_gap_ends_a_segment_and_no_window_spans_it():
    before = [Point(2.0 * i, .5, .5, .5, .1) for i in range(25)]
    after = [Point(5000 + 2.0 * i, .5, .5, .5, .1) for i in range(30)]
    assert [len(s) for s in segments(before + after)] == [25, 30]
    found = list(windows(before + after, count=20, step=2, stride=5))
    assert [w[0].t for w in found] == [0, 10, 5000, 5010, 5020]
    assert all(w[-1].t - w[0].t == 38 and len(w) == 20 for w in found)


def test_resampling_is_exact_on_lines_and_an_alarm_is_not_lost():
    line = [Point(t, t / 10, .5, .5, .1) for t in (0, 1, 3, 4, 8)]
    assert [p.E for p in resampled(line, [0, .5, 2, 7.9, 8, 9])] == pytest.approx([0, .05, .2, .79, .8, .8])
    alarm = [Point(0, 0, 0, 0, 0), Point(1, 0, 0, 0, 0, .4), Point(2, 0, 0, 0, 0)]
    assert max(p.drift for p in resampled(alarm, [0, .7, 1.7])) == .4


TIMES = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40)


@settings(max_examples=80, deadline=None)
@given(TIMES)
def test_any_times_give_regular_windows_within_the_values(times):
    points = [Point(t, .2 + .6 * (i % 2), .5, .5, .1) for i, t in enumerate(times)]
    clean = merged(points)
    assert all(a.t < b.t for a, b in zip(clean, clean[1:]))
    assert sum(map(len, segments(clean))) == len(clean)
    step = max(usual_step(clean), 1e-3)
    for w in windows(points, count=4, step=step, stride=2):
        assert all(b.t - a.t == pytest.approx(step, rel=1e-3, abs=1e-6) for a, b in zip(w, w[1:]))
        assert all(.2 - 1e-9 <= p.E <= .8 + 1e-9 for p in w)
    robust.classify(points), published.classify(points)


# -- published -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "points"), [
    ("basin_transition_down", curve(5, E=lambda x: -0.2001 * x)),
    ("basin_transition_up", curve(5, E=lambda x: 0.2001 * x)),
    ("entropy_spike_recovery", curve(5, S=spike(0.201))),
    ("drift_dissonance", curve(5, drift=lambda x: 0.301 * (x == 0.5))),
    ("void_rising", curve(4, V=lambda x: 0.151 * x)),
    ("rising_entropy", curve(4, S=lambda x: 0.151 * x)),
    ("falling_energy", curve(4, E=lambda x: -0.151 * x)),
    ("convergence", curve(5, E=lambda x: 0.01 * x)),
    ("settled_presence", curve(5)),
])
def test_each_published_rule_fires_just_above_its_threshold(shape, points):
    assert published.classify(points) == shape


@pytest.mark.parametrize(("points", "shape"), [
    (curve(5, E=lambda x: -0.1999 * x), "convergence"),  # a range below 0.2 is no basin, and 0.05 a second is not reached
    (curve(5, S=lambda x: 0.25 * x), "rising_entropy"),  # a maximum at the end is no spike
    (curve(5, drift=lambda x: 0.3), "settled_presence"),
    (curve(4, E=lambda x: 0.18 * x), "settled_presence"),  # fast, but no rule names it: what falls through is called settled
    (curve(2, E=lambda x: 0.01 * x), "settled_presence"),  # no second difference
    (curve(5, E=lambda x: -0.3 * x, S=spike(0.3)), "basin_transition_down"),  # the first rule wins
    ([Point(0, .5, .5, .2, .1)], "settled_presence"),
])
def test_published_edges(points, shape):
    assert published.classify(points) == shape


def test_differences_pass_over_equal_times_and_use_the_later_state():
    points = [Point(0, .1, 0, 0, 0), Point(0, .3, 0, 0, 0), Point(2, .5, 0, 0, 0), Point(3, .5, 0, 0, 0)]
    assert published.differences(points) == [Point(2, pytest.approx(.1), 0, 0, 0), Point(3, 0, 0, 0, 0)]


def test_the_published_answer_depends_on_the_sampling_and_the_robust_one_does_not():
    """The faults that the robust classifier is for, shown on the same falls of energy and rises of void."""
    for change, shape in (({"E": lambda x: -0.15 * x}, "falling_energy"), ({"V": lambda x: 0.16 * x}, "void_rising")):
        quick, slow = curve(4, dt=0.5, **change), curve(20, dt=2.0, **change)
        assert published.classify(quick) == shape != published.classify(slow)
        assert robust.classify(curve(12, dt=0.2, **change)) == robust.classify(slow) == shape


# -- robust ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", [0, 0.002, 0.004])
def test_clear_windows_are_told_with_and_without_noise(shape, noise):
    told = [robust.classify(curve(20, 2.0, noise, seed, **CLEAR[shape])) for seed in range(40)]
    assert told.count(shape) >= 36, told


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(12, 120), st.floats(0.05, 60))
def test_the_class_does_not_depend_on_how_often_or_how_long(shape, n, dt):
    assert robust.classify(curve(n, dt, **CLEAR[shape])) == shape


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 10**6), st.floats(-1e6, 2e9), st.integers(20, 80))
def test_shifting_in_time_and_resampling_a_noisy_window_keeps_its_class(shape, seed, shift, count):
    window = curve(20, 2.0, 0.001, seed, **CLEAR[shape])
    shape = robust.classify(window)
    assert robust.classify([p._replace(t=p.t + shift) for p in window]) == shape
    assert robust.classify(even(window, 19 * (count // 19) + 1)) == shape  # a grid that keeps the states and adds between them


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SHAPES), st.lists(st.integers(0, 19), max_size=6), st.randoms())
def test_order_and_near_duplicates_do_not_matter(shape, doubled, rng):
    window = curve(20, 2.0, **CLEAR[shape])
    more = window + [window[i]._replace(t=window[i].t + 1e-4) for i in doubled]
    rng.shuffle(more)
    assert robust.classify(more) == shape


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([s for s in SHAPES if s != "convergence"]), st.integers(1, 18), st.sampled_from(DIMENSIONS), st.floats(0, 1))
def test_one_wild_sample_does_not_change_the_class(shape, at, dimension, value):
    window = curve(20, 2.0, **CLEAR[shape])
    window[at] = window[at]._replace(**{dimension: value})
    assert robust.classify(window) == shape


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_any_window_has_one_of_ten_answers_and_a_reason(rows):
    verdict = robust.judge([Point(float(i), *r) for i, r in enumerate(rows)])
    assert verdict.shape in (*SHAPES, UNCLASSIFIED) and verdict.why
    assert verdict.shape == UNCLASSIFIED or set(verdict.net) == set(DIMENSIONS)


def test_settled_is_a_test_and_not_what_is_left_over():
    restless = curve(20, 2.0, E=lambda x: 0.05 * math.sin(25 * x))
    assert robust.classify(restless) == UNCLASSIFIED and published.classify(restless) in ("settled_presence", "convergence")
    rising = curve(20, 2.0, I=lambda x: 0.2 * x)  # there is no name for rising integrity
    assert robust.classify(rising) == UNCLASSIFIED


def test_noise_is_not_a_move():
    told = [robust.classify(curve(20, 2.0, 0.05, seed)) for seed in range(60)]
    assert told.count(UNCLASSIFIED) >= 54  # restless, so not settled either


def test_too_little_is_unclassified_with_its_reason():
    assert robust.judge(curve(4)) == (UNCLASSIFIED, "4 of the 5 states that a window needs", {}, {}, {})
    torn = curve(20)[:10] + [p._replace(t=p.t + 60) for p in curve(20)[10:]]
    assert robust.judge(torn).shape == UNCLASSIFIED and "nothing was heard" in robust.judge(torn).why


def test_thresholds_come_from_the_table():
    window = curve(20, S=lambda x: 0.1 * x)
    assert robust.classify(window) == "rising_entropy"
    assert robust.classify(window, Shapes(moved=20)) != "rising_entropy"
    assert robust.classify(curve(20, E=lambda x: -0.15 * x), Shapes(basin=0.1)) == "basin_transition_down"


@settings(max_examples=60, deadline=None)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 0.1), st.integers(0, 1000))
def test_noise_is_measured_on_any_ramp(level, slope, sigma, seed):
    rng = random.Random(seed)
    values = [level + slope * i + rng.gauss(0, sigma) for i in range(2000)]
    assert robust.noise_of(values) == pytest.approx(sigma, rel=0.15)


# -- rolling, drawings -----------------------------------------------------------------------------------------------------


def test_a_rolling_window_forgets_and_starts_anew_after_silence_or_a_set_clock():
    rolling = Rolling(step=2.0, count=20)
    for p in curve(60, 2.01):
        rolling.add(p)
    assert rolling.full and 19 <= len(rolling.points) <= 20 and rolling.judge().shape == "settled_presence"
    rolling.add(Point(500.0, .5, .5, .2, .1))
    assert len(rolling.points) == 1 and not rolling.full and rolling.judge().shape == UNCLASSIFIED
    rolling.add(Point(20.0, .5, .5, .2, .1))
    assert len(rolling.points) == 1


def test_drawings_say_the_shape_and_never_change():
    window = curve(20, 2.0, 0.002, 1, **CLEAR["falling_energy"])
    svg = window_drawing(window)
    assert svg == window_drawing(window) and re.search(r"falling energy: E changed by -0\.1", svg)
    assert "published rules say convergence" in svg
    whole = recording_drawing(window, [(0.0, 20.0, "convergence"), (20.0, 38.0, UNCLASSIFIED)])
    assert "unclassified" in whole and "minutes" in whole and "falling energy" not in whole


def test_a_window_that_cannot_be_judged_is_still_drawn():
    assert "1 of the 5 states" in window_drawing([Point(0, .5, .5, .2, .1)])
