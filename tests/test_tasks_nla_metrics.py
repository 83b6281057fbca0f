"""The figures over rows, the options of a recipe, and what probes do to vectors and words."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from scionwood.evidence.controls import chance_of
from scionwood.recipe import read_recipe
from scionwood.cli.common import shipped_recipes
from scionwood.task import Case, ScoredRow
from scionwood.tasks.nla import metrics, probes
from scionwood.tasks.nla.answers import Told, Yardstick, answers, choice_groups
from scionwood.tasks.nla.further import loose
from scionwood.tasks.nla.settings import options_of
from scionwood.tasks.nla.told import cut, samples
from scionwood.training.settings import Train


def case(name, category="warm", lang="en"):
    reference = {"category": category, "description": "d", "summary": "s"}
    return Case(name, name, "text", {"text": f"text of {name}"}, reference, lang, (category,))


def scored(rng, n=12, d=16):
    """Rows of a reader that is half right, on random vectors, and the vectors themselves."""
    cases = [case(f"c{i}", ("warm", "web")[i % 2], ("en", "zh")[i % 3 == 0]) for i in range(n)]
    train, true = rng.normal(size=(n, d)) + 1, rng.normal(size=(n, d)) + 1
    guess = true + rng.normal(size=(n, d))
    unit = np.sqrt(d) * guess / np.linalg.norm(guess, axis=1, keepdims=True)
    found = answers(Yardstick.of(cases, train), cases, true, unit, Told(losses={"loss": [1.0] * n, "loss_any": [1.5] * n}))
    return [ScoredRow(c, p.answer, p.status, metrics.score(p.answer)) for c, p in zip(cases, found)], train, true, unit


def test_fve_is_the_published_formula():
    rows, train, true, unit = scored(np.random.default_rng(0))
    d = true.shape[1]
    v, t = (np.sqrt(d) * x / np.linalg.norm(x, axis=1, keepdims=True) for x in (true, train))
    mu = t.mean(0)
    assert metrics.fve(rows) == pytest.approx(1 - ((unit - v) ** 2).sum() / ((v - mu) ** 2).sum(), abs=1e-4)
    strict = 1 - (mu**2).mean()
    assert metrics.train_d(rows) == pytest.approx(1 - ((unit - v) ** 2).mean() / strict, abs=1e-4)
    wide = 2 * (1 - np.linalg.norm(mu) / np.sqrt(d))
    assert loose(rows) == pytest.approx(1 - ((unit - v) ** 2).mean() / wide, abs=1e-4)
    assert metrics.mean_of("cosine")(rows) == pytest.approx((unit * v).mean(1).mean(), abs=1e-4)
    assert metrics.gap("loss_any")(rows) == pytest.approx(0.5) and metrics.gap("loss_within")(rows) is None


def test_a_failed_answer_counts_as_wrong_and_never_as_missing():
    rows, *_ = scored(np.random.default_rng(1))
    failed = [ScoredRow(r.case, None, "error", metrics.score(None)) for r in rows]
    for metric in metrics.all_metrics():
        assert metric.function(metric.select(rows + failed)) is not None or metric.name in ("complete", "loss_gap_within")
    assert metrics.fve(rows[:6] + failed[6:]) < metrics.fve(rows)
    assert metrics.fve([]) is None and metrics.train_d([]) is None


def test_choices_come_from_the_own_category_and_language_where_there_are_ten():
    cases = [case(f"a{i}") for i in range(10)] + [case(f"b{i}", "web", "zh") for i in range(3)]
    assert set(choice_groups(cases)[:10]) == {"warm/en"} and set(choice_groups(cases)[10:]) == {"zh"}


KINDS = st.tuples(st.sampled_from(["warm", "web", "hostile"]), st.sampled_from(["en", "zh"]))


@given(st.lists(KINDS, min_size=2, max_size=30), st.booleans())
def test_nobody_keeps_their_own_vector(kinds, within):
    cases = [case(f"c{i}", category, lang) for i, (category, lang) in enumerate(kinds)]
    got = probes.strangers(cases, within)
    assert all(i != j for i, j in enumerate(got))
    groups = [(c.reference["category"], c.lang) for c in cases]
    if within:
        assert all(groups[i] == groups[j] or groups.count(groups[i]) == 1 for i, j in enumerate(got))
    else:
        assert sorted(got) == list(range(len(cases)))


@given(st.lists(st.text("abc xyz", min_size=1).map(lambda s: s.strip() or "a"), min_size=1, max_size=6))
def test_shuffled_sentences_are_the_same_sentences(parts):
    text = " ".join(f"{p}." for p in parts)
    out = probes.shuffled_sentences(text, "seed")
    assert sorted(probes.sentences(out)) == sorted(probes.sentences(text))
    if len(probes.sentences(text)) > 1 and len(set(probes.sentences(text))) == len(probes.sentences(text)):
        assert out != text


def test_the_published_preset_and_what_wins_over_it():
    train = Train(lr=0.1, epochs=9)
    plain, published = options_of({}), options_of({"preset": "published", "av": {"epochs": 1}})
    assert plain.training(train, "av") == train and plain.chosen_scale() == "percentile"
    av, ar = published.training(train, "av"), published.training(train, "ar")
    assert (av.lr, av.batch, av.epochs) == (2e-5, 2, 1) and (ar.lr, ar.batch, ar.epochs) == (2e-5, 4, 3)
    assert published.chosen_scale() == 150 and published.read() == ("summary",)
    assert options_of({"preset": "published", "scale": 30.0}).chosen_scale() == 30


@pytest.mark.parametrize("name", ["nla", "nla-published", "nla-qwen3-4b"])
def test_shipped_recipes_hold(name):
    recipe = read_recipe(shipped_recipes() / f"{name}.toml")
    options = options_of(recipe.task_options)
    for role in ("av", "ar"):
        options.training(recipe.train, role)
    if name != "nla":
        assert (recipe.adapter.rank, recipe.adapter.alpha, options.chosen_scale(), options.read()) == (16, 32, 150, ("summary",))
    if name == "nla-qwen3-4b":
        assert options.layer == 20


def test_a_control_has_the_chance_that_its_task_names():
    assert chance_of("majority", "any") == "majority"
    assert chance_of({"a": "x", "*": "y"}, "a") == "x" and chance_of({"a": "x", "*": "y"}, "b") == "y"


def test_samples_are_cut_and_leave_out_cases_that_are_gone():
    rows = [{"case": f"c{i}", "answer": {"said": "w" * 300, "error": i, "spread": 1.0, "rank": 1}} for i in range(20)] + [
        {"case": "gone", "answer": {"said": "", "error": 0, "spread": 1.0, "rank": 1}}]
    shown = samples(rows, [case(f"c{i}") for i in range(20)])
    assert [s["case"] for s in shown][:3] == ["c0", "c1", "c2"] and shown[-1]["case"] == "c19" and len(shown) == 9
    assert all(len(s["said"]) < 50 for s in shown) and cut("a  b\nc") == "a b c"
