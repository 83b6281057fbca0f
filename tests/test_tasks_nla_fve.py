"""The algebra of the FVE, the trivial predictors, and the forced choice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import tiny_model
from scionwood.errors import UserError
from scionwood.tasks.nla import baselines, choice, fve
from scionwood.tasks.nla.texts import Text


def vectors(seed: int, n: int = 40, d: int = 12, mean: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) + mean * rng.normal(size=d)) * np.exp(rng.normal(size=(n, 1)))


seeds = st.integers(0, 10**6)


@given(seeds, st.floats(0, 3))
@settings(deadline=None, max_examples=30)
def test_denominators_have_their_closed_forms(seed, mean):
    v = vectors(seed, mean=mean)
    s = fve.fit_spread(v)
    d, length = v.shape[1], np.linalg.norm(s.mean)
    assert s.strict == pytest.approx(1 - length**2 / d, abs=1e-12)
    assert s.loose == pytest.approx(2 * (1 - length / np.sqrt(d)), abs=1e-12)
    # in two variables: D = 1 - m^2 and D' = 2 (1 - m), so D' is never the smaller one
    assert s.loose >= s.strict - 1e-12 and s.rows == len(v)


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_the_error_is_two_minus_two_cosines_and_knows_no_length(seed):
    p, t = vectors(seed), vectors(seed + 1)
    plain = 1 - (p * t).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(t, axis=1)
    assert fve.errors(p, t) == pytest.approx(2 * plain)
    assert fve.errors(7 * p, t / 3) == pytest.approx(fve.errors(p, t))
    assert fve.cosines(p, t) == pytest.approx(1 - plain)
    assert fve.errors(t, t).max() < 1e-12 and fve.errors(-t, t) == pytest.approx(4)


def test_the_published_width_of_qwen_gives_the_published_gap():
    """A loss of 0.586 is 37.5 % against D' = 0.94, and 19 % against the D that belongs to it."""
    loose = 0.9375
    m = 1 - loose / 2
    assert 1 - 0.586 / loose == pytest.approx(0.375, abs=0.001)
    assert 1 - 0.586 / (1 - m**2) == pytest.approx(0.19, abs=0.01)


def test_the_mean_explains_nothing_and_the_truth_all():
    v = vectors(3)
    s = fve.fit_spread(v)
    always = np.tile(s.mean, (len(v), 1))
    assert fve.fve(fve.free_errors(always, v), s.strict) == pytest.approx(0)
    assert fve.fve(fve.errors(always, v), s.strict) == pytest.approx(1 - s.loose / s.strict)
    assert fve.fve(fve.errors(always, v), s.loose) == pytest.approx(0)
    assert fve.fve(fve.errors(v, v), s.strict) == pytest.approx(1)
    assert fve.spreads(v, s.mean).mean() == pytest.approx(s.strict)
    assert fve.fve(fve.free_errors(always, v), fve.spreads(v, s.mean)) == pytest.approx(0)


@given(seeds, st.floats(0.05, 5))
@settings(deadline=None, max_examples=30)
def test_with_the_best_length_the_fve_is_the_centred_cosine_squared(seed, noise):
    t = vectors(seed)
    s = fve.fit_spread(t)
    rng = np.random.default_rng(seed)
    p = fve.unit(t) + noise * rng.normal(size=t.shape)
    centred = p - s.mean
    a = (centred * (fve.unit(t) - s.mean)).sum() / (centred**2).sum()
    best = fve.fve(fve.free_errors(s.mean + a * centred, t), fve.spreads(t, s.mean))
    assert best == pytest.approx(fve.centred_cosine(p, t, s.mean) ** 2)
    for other in (0.9 * a, 1.1 * a):
        assert fve.fve(fve.free_errors(s.mean + other * centred, t), fve.spreads(t, s.mean)) <= best
    # row by row the same, where each row may choose a length of its own
    c = fve.centred_cosines(p, t, s.mean)
    q, u = fve.unit(p) - s.mean, fve.unit(t) - s.mean
    own = (q * u).sum(1) / (q**2).sum(1)
    assert 1 - ((own[:, None] * q - u) ** 2).sum(1) / (u**2).sum(1) == pytest.approx(c**2)


def test_a_high_cosine_may_explain_little():
    """Where all vectors share a large mean, always saying it has a cosine near 1 and an FVE of about 0."""
    v = vectors(5, mean=30)
    s = fve.fit_spread(v)
    always = np.tile(s.mean, (len(v), 1))
    assert fve.cosines(always, v).mean() > 0.99
    assert fve.fve(fve.errors(always, v), s.strict) == pytest.approx(0, abs=0.02)


def test_a_zero_vector_is_an_error_and_no_nan():
    v = vectors(1)
    assert fve.errors(np.zeros_like(v), v) == pytest.approx(1)
    with pytest.raises(UserError, match="none"):
        fve.fit_spread(np.empty((0, 4)))


def test_group_means_leave_what_is_within_the_group():
    v = vectors(2, n=30)
    groups = ["a", "b", "c"] * 10
    means = fve.group_means(v, groups, groups)
    for g in range(3):
        assert means[g] == pytest.approx(fve.unit(v)[g::3].mean(0))
    assert fve.group_means(v, groups, ["z"])[0] == pytest.approx(fve.fit_spread(v).mean)
    assert fve.spreads(v, means).sum() < fve.spreads(v, fve.fit_spread(v).mean).sum()
    # an answer that knows the group and no more explains all of the rest's spread around the global mean, nothing within
    assert fve.fve(fve.free_errors(means, v), fve.spreads(v, means)) == pytest.approx(0)
    assert fve.group_means(v, groups, []).shape == (0, 12)


# -- trivial predictors ---------------------------------------------------------------------------------------------------

WORDS = "tram oven frost violin harbour ledger moss kettle rain stairs".split()


def corpus(n: int, seed: int, d: int = 16) -> tuple[list[Text], np.ndarray]:
    """Texts whose vector is a sum of one direction for each word of the description, plus noise and a shared mean."""
    directions = np.random.default_rng(99).normal(size=(len(WORDS), d))
    rng = np.random.default_rng(seed)
    texts, values = [], []
    for i in range(n):
        chosen = rng.choice(len(WORDS), 3, replace=False)
        lang = "zh" if i % 5 == 0 else "en"
        texts.append(Text(f"{seed}-{i}", "p", "web" if i % 2 else "warm", lang, "t", " ".join(WORDS[j] for j in chosen), "s"))
        values.append(directions[chosen].sum(0) + 2 + (2 * (-1) ** np.arange(d) if lang == "zh" else 0) + 0.3 * rng.normal(size=d))
    return texts, np.array(values)


@pytest.fixture(scope="module")
def fitted():
    train, dev, test = corpus(120, 1), corpus(40, 2), corpus(60, 3)
    lookup = {w: i for i, w in enumerate(WORDS)}

    def encode(said):
        return np.array([[float(w in s.split()) for w in lookup] for s in said])

    found = {p.name: p.fit(*train, *dev) for p in baselines.all_predictors(encode)}
    return found, train, test


def explained(predictor, train, test) -> float:
    s = fve.fit_spread(train[1])
    return fve.fve(fve.free_errors(predictor.predict(test[0]), test[1]), fve.spreads(test[1], s.mean))


def test_predictors_use_what_they_may_know(fitted):
    found, train, test = fitted
    got = {name: explained(p, train, test) for name, p in found.items()}
    assert got["mean"] == pytest.approx(0, abs=1e-6)
    assert abs(got["category-mean"]) < 0.1 < got["language-mean"]
    for name in ("ridge-tfidf", "bag-of-words", "ridge-embedding"):
        assert got[name] > 0.45, (name, got)
        assert got[name] > got["nearest-neighbour"], (name, got)
    assert set(got) == {"mean", "category-mean", "language-mean", "category-language-mean", "nearest-neighbour", "bag-of-words", "ridge-tfidf",
                        "ridge-embedding"}


def test_predictors_do_not_look_at_what_they_predict(fitted):
    found, train, (texts, _) = fitted
    for p in found.values():
        whole = p.predict(texts)
        assert whole.shape == (len(texts), 16) and whole.dtype == np.float32
        assert np.allclose(p.predict(texts[7:9]), whole[7:9], atol=1e-6), p.name
        assert p.predict([]).shape == (0, 16), p.name


def test_a_neighbour_of_a_training_text_is_itself(fitted):
    found, (texts, values), _ = fitted
    again = found["nearest-neighbour"].predict(texts)
    same = [np.allclose(a, b, atol=1e-5) for a, b in zip(again, fve.unit(values))]
    assert np.mean(same) > 0.6  # others share all their words with a text before them


def test_dev_chooses_the_strength():
    """Where words carry nothing, the ridge keeps close to the mean; without dev it takes a middle strength."""
    texts, _ = corpus(60, 1)
    dev, _ = corpus(30, 2)
    noise, other = 1 + vectors(1, 60, mean=0), 1 + vectors(2, 30, mean=0)
    careful = baselines.RidgeTfidf().fit(texts, noise, dev, other)
    blind = baselines.RidgeTfidf().fit(texts, noise)
    assert careful.strength > blind.strength
    assert np.square(careful.predict(texts) - careful.mean).sum() < np.square(blind.predict(texts) - blind.mean).sum()


def test_words_are_read_where_they_are_said():
    (texts, values), (test, true) = corpus(120, 1), corpus(60, 3)
    silent = baselines.BagOfWords(lambda t: t.summary).fit(texts, values)
    assert np.ptp(silent.predict(test), axis=0).max() < 1e-6  # all summaries are alike
    assert fve.errors(baselines.BagOfWords().fit(texts, values).predict(test), true).mean() < fve.errors(silent.predict(test), true).mean()


def test_mean_states_do_not_depend_on_the_batch(tokenizer):
    import torch

    model = tiny_model(layers=3)
    said = ["a harbour at night", "", "rain", "a much longer description of a tram that never comes, and of those who wait for it"] * 10
    encode = baselines.mean_states(model, tokenizer, 1)
    together = encode(said)
    assert not model.model.layers[1]._forward_hooks
    assert together.shape == (40, 32) and not together[1].any()
    for i in (0, 2, 3):
        ids = torch.tensor([tokenizer.encode(said[i])])
        with torch.no_grad():
            want = model(ids, output_hidden_states=True).hidden_states[2][0].mean(0)
        assert np.allclose(together[i], want, atol=1e-4)
    with pytest.raises(UserError, match="blocks 0 to 2"):
        baselines.mean_states(model, tokenizer, 3)(said)


# -- forced choice --------------------------------------------------------------------------------------------------------


def test_candidates_are_of_the_same_group_and_always_the_same():
    ids, groups = [f"t{i}" for i in range(40)], ["a", "b"] * 20
    got = choice.candidates(ids, groups)
    for i, row in enumerate(got):
        assert row[0] == i and len(row) == len(set(row)) == 10
        assert {groups[j] for j in row} == {groups[i]}
    assert got == choice.candidates(ids, groups) != choice.candidates(ids, groups, seed=1)


def test_small_groups_are_filled_up():
    got = choice.candidates([f"t{i}" for i in range(14)], ["a"] * 3 + ["b"] * 11)
    assert all(len(set(row)) == 10 for row in got)
    assert set(got[0]) > {0, 1, 2} and all(j >= 3 for j in got[5])
    assert [sorted(row) for row in choice.candidates(["x", "y"], ["a", "b"])] == [[0, 1], [0, 1]]


def test_ranks_of_truth_noise_and_mean():
    n = 400
    true = vectors(1, n, 24)
    mean = fve.fit_spread(true).mean
    chosen = choice.candidates([f"t{i}" for i in range(n)], ["a"] * n)
    assert (choice.ranks(true, true, chosen) == 1).all() and (choice.ranks(true, true, chosen, mean) == 1).all()
    for predicted in (vectors(2, n, 24), np.tile(mean, (n, 1)) + 1e-3 * vectors(3, n, 24)):
        hits = (choice.ranks(predicted, true, chosen, mean) == 1).mean()
        assert 0.05 < hits < 0.16  # a guess hits one in ten
    noisy = fve.unit(true) + 0.5 * vectors(4, n, 24, mean=0)
    assert (choice.ranks(noisy, true, chosen, mean) == 1).mean() > 0.5


def test_a_tie_counts_against_the_prediction():
    true = np.ones((10, 4))
    assert (choice.ranks(true, true, choice.candidates(list("abcdefghij"), ["g"] * 10)) == 10).all()
