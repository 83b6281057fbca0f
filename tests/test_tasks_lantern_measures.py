"""Every text measure against a plain computation, its closed forms, and what must not change it."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scionwood.errors import UserError
from scionwood.tasks.lantern.measures import counts, kinds, mtld
from scionwood.tasks.lantern.measures.ngrams import count_ngrams, keys_of
from scionwood.tasks.lantern.measures.ordinary import ordinary, table
from scionwood.tasks.lantern.measures.stream import Ids, read
from scionwood.tasks.lantern.measures.summary import Over
from scionwood.tasks.lantern.measures.text import measure_read, measure_text
from scionwood.tasks.lantern.measures.windows import STEP, Curve, mean_interval, window_entropies
from scionwood.tasks.lantern.measures.words import english_words, language_of
from scionwood.tasks.lantern.measures.zones import length_decides, zone

few = settings(max_examples=40, deadline=None)
id_lists = st.lists(st.integers(0, 8), min_size=1, max_size=160)
word_lists = st.lists(st.sampled_from(["a", "be", "cat", "dog", "ear", "fig", "go-go", "it's"]), min_size=1, max_size=150)


def plain_entropy(items) -> float:
    n = len(items)
    return -sum(c / n * math.log(c / n) for c in Counter(items).values()) if n else 0.0


def count(items) -> np.ndarray:
    return np.array(list(Counter(items).values()))


def value(text: str, name: str):
    return measure_text(text, "en").measures[name].value


# -- entropies ---------------------------------------------------------------------------------------------------------------


@few
@given(id_lists)
def test_entropy_is_the_plain_sum_and_lies_in_its_bounds(items):
    got = counts.entropy(count(items))
    assert got == pytest.approx(plain_entropy(items), abs=1e-12)
    assert -1e-12 <= got <= math.log(len(items)) + 1e-12


def test_entropy_closed_forms():
    assert counts.entropy(np.array([], dtype=int)) == 0 == counts.entropy(np.array([7]))
    assert counts.entropy(np.full(50, 3)) == pytest.approx(math.log(50))
    assert counts.entropy(np.array([1, 3])) == pytest.approx(math.log(4) - 3 * math.log(3) / 4)


def test_the_interval_of_an_entropy_covers_its_own_repetitions():
    """Basharin's variance against the spread over many draws from a known distribution."""
    rng, p = np.random.default_rng(0), np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    draws = [rng.multinomial(2000, p) for _ in range(400)]
    values = [counts.entropy(d) for d in draws]
    halves = [(hi - lo) / 2 for lo, hi in map(counts.entropy_interval, draws)]
    assert np.mean(halves) == pytest.approx(1.96 * np.std(values), rel=0.12)
    assert counts.entropy_interval(np.full(9, 4)) == (None, None)


@few
@given(word_lists, st.randoms())
def test_order_changes_windows_alone(words, rng):
    shuffled = words[:]
    rng.shuffle(shuffled)
    a, b = measure_text(" ".join(words), "en").measures, measure_text(" ".join(shuffled), "en").measures
    for name in ("E1", "E2", "HD-D", "distinct-1", "EAD"):
        assert a[name].value == (b[name].value if b[name].value is None else pytest.approx(b[name].value, abs=1e-12)), name
        assert a[name].n == b[name].n


@few
@given(word_lists)
def test_names_of_words_do_not_matter(words):
    other = {w: f"x{i}" for i, w in enumerate(sorted(set(words)))}
    a, b = (measure_text(" ".join(t), "en").measures for t in (words, [other[w] for w in words]))
    for name in a:
        if name != "E2":
            assert a[name].value == (b[name].value if b[name].value is None else pytest.approx(b[name].value, abs=1e-12)), name


@few
@given(st.text(max_size=300))
def test_e1_and_e2_are_what_was_published(text):
    m = measure_text(text, "en").measures
    assert m["E1"].value == pytest.approx(plain_entropy(text.split()), abs=1e-9) and m["E1"].n == len(text.split())
    assert m["E2"].value == pytest.approx(plain_entropy(text), abs=1e-9) and m["E2"].n == len(text)


# -- windows -----------------------------------------------------------------------------------------------------------------


@few
@given(id_lists, st.integers(1, 60), st.integers(1, 25))
def test_window_entropies_are_those_of_each_window(ids, width, step):
    got = window_entropies(np.array(ids, dtype=np.uint32), width, step)
    expected = [plain_entropy(ids[i : i + width]) for i in range(0, len(ids) - width + 1, step)]
    assert got == pytest.approx(expected, abs=1e-12)


def test_h50_does_not_grow_with_length_but_e1_does():
    words = random.Random(0).choices([f"w{i}" for i in range(3000)], [1 / (i + 3) for i in range(3000)], k=8000)
    short, long = (measure_text(" ".join(words[:n]), "en").measures for n in (400, 8000))
    assert long["E1"].value - short["E1"].value > 0.5
    assert long["H50"].value == pytest.approx(short["H50"].value, abs=0.1)


@few
@given(st.lists(st.lists(st.floats(-5, 5), max_size=40), max_size=12), st.integers(1, 6))
def test_a_curve_keeps_its_mean_and_its_points(parts, bins):
    whole = list(itertools.chain(*parts))
    curve = Curve(bins)
    for p in parts:
        curve.add(np.array(p))
    assert len(curve.sums) <= bins and curve.count == len(whole)
    assert curve.mean == (None if not whole else pytest.approx(sum(whole) / len(whole), abs=1e-9))
    spans = [whole[i : i + curve.span] for i in range(0, len(whole) - curve.span + 1, curve.span)]
    assert list(curve.sums) == pytest.approx([sum(s) for s in spans], abs=1e-9)


def test_the_interval_of_a_mean_knows_that_windows_overlap():
    """An average of ten neighbours has the spread of its mean by theory; taking windows as independent would be far too sure."""
    rng = np.random.default_rng(1)
    means, halves = [], []
    for _ in range(150):
        x = np.convolve(rng.normal(size=1009), np.full(10, 0.1), "valid")
        curve = Curve()
        curve.add(x)
        low, high = mean_interval(curve, 10)
        means.append(x.mean())
        halves.append((high - low) / 2)
    assert np.mean(halves) == pytest.approx(1.96 * np.std(means), rel=0.2)
    short = Curve()
    short.add(np.arange(30.0))
    assert mean_interval(short, 10) == (None, None)  # three windows that do not overlap


# -- MTLD, HD-D --------------------------------------------------------------------------------------------------------------


def plain_mtld(words) -> float:
    """McCarthy and Jarvis by the letter, on fractions."""
    factors, segment = 0.0, []
    for w in words:
        segment.append(w)
        if 25 * len(set(segment)) <= 18 * len(segment):
            factors, segment = factors + 1, []
    if segment:
        factors += (1 - len(set(segment)) / len(segment)) / (1 - 0.72)
    return len(words) / factors if factors else math.inf


@few
@given(st.lists(st.integers(0, 40), min_size=50, max_size=400))
def test_mtld_is_the_published_procedure(ids):
    expected = (plain_mtld(ids) + plain_mtld(ids[::-1])) / 2
    got = mtld.mtld(*mtld.of_ids(np.array(ids)))
    assert got == (pytest.approx(expected) if math.isfinite(expected) else None)


@few
@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.lists(st.integers(1, 50), max_size=6))
def test_mtld_may_be_read_in_parts(ids, cuts):
    whole, parts = mtld.Pass(), mtld.Pass()
    whole.read(ids)
    edges = sorted({0, len(ids), *(c for c in cuts if c < len(ids))})
    for a, b in zip(edges, edges[1:]):
        parts.read(ids[a:b])
    assert whole == parts


def test_mtld_closed_forms():
    assert mtld.mtld(*mtld.of_ids(np.zeros(60, dtype=int))) == 2  # each pair of the same word has TTR .5
    assert mtld.mtld(*mtld.of_ids(np.arange(60))) is None  # no word twice
    assert mtld.mtld(*mtld.of_ids(np.zeros(49, dtype=int))) is None  # too short
    low, high = mtld.mtld_interval(*mtld.of_ids(np.random.default_rng(0).integers(0, 30, 3000)))
    assert low < mtld.mtld(*mtld.of_ids(np.random.default_rng(0).integers(0, 30, 3000))) < high


@few
@given(st.lists(st.integers(0, 30), min_size=42, max_size=300))
def test_hdd_is_the_hypergeometric_sum(ids):
    n = len(ids)
    expected = sum(1 - math.comb(n - c, 42) / math.comb(n, 42) for c in Counter(ids).values()) / 42
    assert counts.hdd(count(ids)) == pytest.approx(expected, abs=1e-9)


def test_hdd_closed_forms_and_drawing():
    assert counts.hdd(np.array([41])) is None
    assert counts.hdd(np.array([42])) == pytest.approx(1 / 42)
    assert counts.hdd(np.ones(42, dtype=int)) == pytest.approx(1)
    rng, ids = np.random.default_rng(0), np.random.default_rng(1).zipf(1.6, 400) % 60
    drawn = [len(set(rng.choice(ids, 42, replace=False).tolist())) / 42 for _ in range(4000)]
    assert counts.hdd(count(ids.tolist())) == pytest.approx(np.mean(drawn), abs=0.004)


def test_the_interval_of_hdd_covers_its_own_repetitions():
    rng = np.random.default_rng(2)
    p = 1 / np.arange(1, 200)
    samples = [np.bincount(rng.choice(199, 600, p=p / p.sum())) for _ in range(200)]
    values = [counts.hdd(s[s > 0]) for s in samples]
    halves = [(hi - lo) / 2 for lo, hi in (counts.hdd_interval(s[s > 0], v) for s, v in zip(samples, values))]
    assert np.mean(halves) == pytest.approx(1.96 * np.std(values), rel=0.25)


# -- distinct ----------------------------------------------------------------------------------------------------------------


@few
@given(id_lists, st.integers(1, 3), st.integers(1, 40), st.integers(1, 30), st.sampled_from([9, 1 << 40]))
def test_ngrams_are_counted_exactly_however_they_are_cut(ids, size, block, most, vocabulary):
    """Blocks, shares and both kinds of keys change nothing: 2^40 words do not fit into 64 bits as pairs."""
    row = Ids()
    row.append(np.array(ids, dtype=np.uint32))
    grams = Counter(tuple(ids[i : i + size]) for i in range(len(ids) - size + 1))
    got = count_ngrams(lambda k: row.blocks(k - 1, block), len(ids), size, vocabulary, most)
    assert got == (len(grams), sum(c == 1 for c in grams.values()))


def test_keys_that_do_not_fit_64_bits_are_bytes():
    ids = np.array([1, 2, 1, 2, 1], dtype=np.uint32)
    assert keys_of(ids, 2, 3).dtype == np.uint64 and keys_of(ids, 2, 1 << 33).dtype.kind == "V"


@few
@given(word_lists)
def test_distinct_and_ead(words):
    m = measure_text(" ".join(words), "en", vocabulary=1000).measures
    for k in (1, 2, 3):
        grams = [tuple(words[i : i + k]) for i in range(len(words) - k + 1)]
        assert m[f"distinct-{k}"].value == (pytest.approx(len(set(grams)) / len(grams)) if grams else None)
    c, d = len(words), len(set(words))
    assert m["EAD"].value == pytest.approx(d / (1000 * (1 - (999 / 1000) ** c)))


def test_ead_of_even_draws_is_one():
    ids = np.random.default_rng(0).integers(0, 500, 4000)
    assert counts.ead(len(set(ids.tolist())), 4000, 500) == pytest.approx(1, abs=0.01)


def test_the_jackknife_of_types_is_its_closed_form():
    ids = [0, 0, 1, 2, 2, 3, 4, 4, 4]
    without = [len(set(ids[:i] + ids[i + 1 :])) for i in range(len(ids))]
    n = len(ids)
    assert counts.types_variance(2, n) == pytest.approx((n - 1) / n * sum((w - np.mean(without)) ** 2 for w in without))


# -- reading -----------------------------------------------------------------------------------------------------------------


TEXTS = st.text(st.sampled_from("ab cD.'’-\n\t é—"), max_size=400)


@few
@example("DDDDDD.D", [], 8, 0)
@given(TEXTS, st.lists(st.integers(1, 60), max_size=12), st.integers(8, 90), st.integers(0, 64))
def test_a_text_may_come_in_any_parts(text, cuts, piece, spill):
    """Parts, the size of a piece and spilling to disk change nothing; no word is torn."""
    edges = [0, *itertools.accumulate(cuts)]
    parts = [text[a:b] for a, b in zip(edges, [*edges[1:], len(text)])]
    whole, cut = read([text], "en"), read(parts, "en", spill=spill, piece=piece)
    assert cut.ids.read(0, cut.ids.count).tolist() == whole.ids.read(0, whole.ids.count).tolist()
    for name in ("blanks", "words", "characters"):
        assert sorted(getattr(cut, name).tolist()) == sorted(getattr(whole, name).tolist()), name
    a, b = measure_read(whole), measure_read(cut)
    assert {k: m.value for k, m in a.measures.items()} == pytest.approx({k: m.value for k, m in b.measures.items()}, abs=1e-12)


@few
@given(st.integers(0, 700), st.integers(1, 90), st.sampled_from([50, 100]))
def test_windows_are_the_same_in_blocks(n, tens, width):
    ids = np.random.default_rng(n).integers(0, 12, n).astype(np.uint32)
    row = Ids()
    row.append(ids)
    parts = [window_entropies(b, width) for b in row.blocks(width - STEP, tens * STEP)]
    assert np.concatenate([np.empty(0), *parts]) == pytest.approx(window_entropies(ids, width), abs=1e-12)
    assert np.concatenate([np.empty(0), *row.backwards(tens)]).tolist() == ids[::-1].tolist()


def test_words():
    assert english_words("It's WELL-known — e.g. “snake_case” isn’t 3.5!") == ["it's", "well-known", "e", "g", "snake", "case", "isn’t", "3", "5"]
    assert language_of("They write 中文 here") == "en" and language_of("这是中文 text") == "zh" and language_of("") == "en"


def test_chinese_words_are_segmented_and_have_no_zone():
    pytest.importorskip("rjieba", reason="the segmenter is in the extra 'chinese'")
    text = "今天天气很好，我们去公园散步。" * 30
    t = measure_text(text)
    assert t.lang == "zh" and t.zone is None and t.warning == ""
    assert t.measures["E1"].basis == "words by rjieba" and t.measures["E1"].n == t.words
    assert t.measures["distinct-1"].value == pytest.approx(len({*t_words("今天天气很好，我们去公园散步。")}) / t.words)
    assert t.measures["H50"].ordinary is not None
    parts = measure_text([text[i : i + 7] for i in range(0, len(text), 7)])
    assert parts.measures["E1"] == t.measures["E1"]


def t_words(text: str) -> list[str]:
    import rjieba

    return [w for w in rjieba.cut(text) if w[0].isalnum()]


def test_the_empty_text():
    t = measure_text("")
    assert (t.words, t.measures["E1"].value, t.measures["E2"].value, t.zone) == (0, 0.0, 0.0, "LASER")  # as published: empty is 0
    for name in ("H50", "H100", "MTLD", "HD-D", "distinct-1", "EAD"):
        assert t.measures[name].value is None and t.measures[name].why


# -- types, zones, prose -----------------------------------------------------------------------------------------------------


def test_measures_cannot_be_mixed_up():
    m = measure_text("one two three " * 60, "en").measures
    for a, b in itertools.permutations(m.values(), 2):
        for operation in (lambda: a - b, lambda: a < b, lambda: a > b):
            with pytest.raises(TypeError, match="different quantities"):
                operation()
    with pytest.raises(TypeError):
        m["E1"] - 3.0
    with pytest.raises(TypeError, match="zones were set for E1 alone"):
        zone(m["E2"])
    with pytest.raises(AttributeError):
        m["E1"].value = 5.0
    assert m["E1"] - m["E1"] == 0 and len({type(x) for x in m.values()}) == len(m)


def test_lengths_and_bases_must_agree():
    short, long = (measure_text(" ".join(f"w{i % 40}" for i in range(n)), "en").measures for n in (100, 300))
    with pytest.raises(UserError, match="cut both to one length"):
        short["E1"] - long["E1"]
    assert isinstance(short["H50"] - long["H50"], float)
    other = measure_text(" ".join(f"w{i % 40}" for i in range(100)), "en", vocabulary=99).measures
    with pytest.raises(UserError, match="rests on"):
        short["EAD"] - other["EAD"]
    with pytest.raises(UserError, match="not defined"):
        measure_text("a b", "en").measures["H50"] - short["H50"]


@pytest.mark.parametrize("value, expected", [(2.999, "LASER"), (3, "TRANSITION"), (3.999, "TRANSITION"), (4, "LANTERN"), (6, "LANTERN"), (6.001, "CHAOS")])
def test_zones(value, expected):
    assert zone(kinds.WordEntropy(value=value, n=9, basis="words between blanks")) == expected


@pytest.mark.parametrize("n, warned", [(12, True), (20, True), (54, True), (85, False), (250, True), (400, True), (1800, False), (20_000, True)])
def test_the_warning_where_length_alone_decides(n, warned):
    """Ordinary prose straddles two zones at 85 and at 1,800 words; elsewhere its zone follows from its length."""
    o = ordinary(kinds.WordEntropy, "en", n)
    e1 = kinds.WordEntropy(value=o.mean, n=n, ordinary=o, basis="words between blanks")
    assert bool(length_decides(e1)) == warned
    if n == 54:
        assert zone(e1) == "TRANSITION" and "at most ln 54" in length_decides(e1)


def test_ordinary_prose_is_interpolated_and_ends_where_the_table_does():
    rows = table()["languages"]["en"]["rows"]
    a, b = rows[8], rows[9]
    at_a, at_b = (ordinary(kinds.H50, "en", r["words"]) for r in (a, b))
    assert (at_a.mean, at_a.low, at_a.high) == tuple(a["measures"]["H50"])
    between = ordinary(kinds.WordEntropy, "en", round(math.sqrt(a["words"] * b["words"])))
    assert between.mean == pytest.approx((a["measures"]["E1"][0] + b["measures"]["E1"][0]) / 2, abs=0.01)
    assert at_b is not None and ordinary(kinds.WordEntropy, "en", 3) is None
    last = rows[-1]["words"]
    assert ordinary(kinds.WordEntropy, "en", last + 1) is None and ordinary(kinds.H50, "en", 50 * last).length == last
    for lang in ("en", "zh"):
        for r in table()["languages"][lang]["rows"]:
            assert r["passages"] >= 20
            for name, (mean, low, high) in r["measures"].items():
                # of ten words nearly all pairs differ: with most values at 1 the mean may lie below the 5 % point
                assert low < mean < high or (name.startswith(("distinct", "EAD")) and low <= high == pytest.approx(1, abs=0.02)), (lang, r["words"], name)


def test_a_summary_is_mean_and_spread():
    values = [3.5, 3.7, 3.6, 3.9, 3.55, 3.8, None]
    over = Over(kinds.H50)
    for v in values:
        over.add(kinds.H50(value=v, n=100, basis="x", ordinary=ordinary(kinds.H50, "en", 100)))
    got = [v for v in values if v is not None]
    assert (over.mean, over.sd) == (pytest.approx(np.mean(got)), pytest.approx(np.std(got)))
    figure = over.figure()
    assert type(figure) is kinds.H50 and figure.n == 6 and over.missing == 1
    assert figure.low < over.mean < figure.high and figure.ordinary.mean == pytest.approx(ordinary(kinds.H50, "en", 100).mean)
    from scipy.stats import ttest_1samp

    expected = ttest_1samp(got, 0).confidence_interval()
    assert (figure.low, figure.high) == pytest.approx((expected.low, expected.high))
