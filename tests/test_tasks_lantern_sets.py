"""Measures of sets of answers against plain computations and closed forms; classes by models of entailment and of embeddings."""

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionwood.errors import UserError
from scionwood.tasks.lantern.measures import kinds
from scionwood.tasks.lantern.measures.equivalence import Judge, by_entailment, by_similarity, entailment_label, pooling
from scionwood.tasks.lantern.measures.sets import (
    distinct_k, jaccard, jackknife, mean_overlap, measure_answers, same_words, semantic_entropy, utility_k)

few = settings(max_examples=60, deadline=None)
classes = st.lists(st.integers(0, 5), min_size=1, max_size=12)


# -- distinct_k, utility_k ---------------------------------------------------------------------------------------------------


@few
@given(classes, st.data())
def test_utility_is_the_published_sum(given_classes, data):
    k = len(given_classes)
    utilities = data.draw(st.lists(st.floats(0, 10), min_size=k, max_size=k))
    p = 0.8
    total = sum(p ** (i - 1) * (given_classes[i - 1] not in given_classes[: i - 1]) * utilities[i - 1] for i in range(1, k + 1))
    assert utility_k(given_classes, utilities) == pytest.approx((1 - p) / (1 - p**k) * total)
    assert distinct_k(given_classes) == len(set(given_classes))


def test_utility_closed_forms():
    assert utility_k(range(7), [5.0] * 7) == pytest.approx(5)  # all new, all of quality 5
    assert utility_k([0] * 7, [5.0] * 7) == pytest.approx(5 * 0.2 / (1 - 0.8**7))  # only the first is new
    assert utility_k([], []) is None
    with pytest.raises(UserError, match="3 answers, but 2 qualities"):
        utility_k([0, 1, 2], [1.0, 2.0])


@few
@given(classes, st.randoms())
def test_order_matters_for_utility_alone(given_classes, rng):
    shuffled = given_classes[:]
    rng.shuffle(shuffled)
    assert distinct_k(shuffled) == distinct_k(given_classes)
    assert semantic_entropy(shuffled) == pytest.approx(semantic_entropy(given_classes))
    renamed = [99 - c for c in given_classes]
    assert utility_k(renamed, [1.0] * len(renamed)) == pytest.approx(utility_k(given_classes, [1.0] * len(renamed)))


# -- overlap -----------------------------------------------------------------------------------------------------------------


@few
@given(st.lists(st.frozensets(st.integers(0, 6), max_size=6), min_size=2, max_size=8))
def test_overlap_is_the_mean_over_pairs(sets):
    pairs = [len(a & b) / len(a | b) if a | b else 1.0 for a, b in itertools.combinations(sets, 2)]
    assert mean_overlap(sets) == pytest.approx(np.mean(pairs))
    assert mean_overlap(sets[::-1]) == pytest.approx(mean_overlap(sets))


def test_overlap_closed_forms():
    assert jaccard(frozenset("ab"), frozenset("ab")) == 1 == jaccard(frozenset(), frozenset())
    assert jaccard(frozenset("ab"), frozenset("cd")) == 0 and jaccard(frozenset("ab"), frozenset("bc")) == pytest.approx(1 / 3)
    assert mean_overlap([frozenset("a")]) is None


# -- semantic entropy --------------------------------------------------------------------------------------------------------


@few
@given(classes, st.data())
def test_semantic_entropy_is_the_plain_sum(given_classes, data):
    n = len(given_classes)
    expected = -sum(c / n * math.log(c / n) for c in Counter(given_classes).values())
    assert semantic_entropy(given_classes) == pytest.approx(expected, abs=1e-12)
    log_likelihoods = data.draw(st.lists(st.floats(-20, 0), min_size=n, max_size=n))
    mass = Counter()
    for c, x in zip(given_classes, log_likelihoods):
        mass[c] += math.exp(x)
    whole = sum(mass.values())
    expected = -sum(m / whole * math.log(m / whole) for m in mass.values())
    assert semantic_entropy(given_classes, log_likelihoods) == pytest.approx(expected, abs=1e-9)


def test_semantic_entropy_closed_forms():
    assert semantic_entropy([]) is None and semantic_entropy([3] * 10) == 0
    assert semantic_entropy(range(10)) == pytest.approx(math.log(10))
    assert semantic_entropy([0, 0, 1, 1], [-2.0] * 4) == pytest.approx(math.log(2))
    assert semantic_entropy([0, 1], [0.0, -1e6]) == 0  # a class of no likelihood does no harm


def test_the_jackknife_is_tukeys():
    x = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 3.0]
    low, high = jackknife(lambda kept: sum(x[i] for i in kept) / len(kept), len(x))  # of a mean: its standard error
    assert (high - low) / 2 == pytest.approx(1.959964 * np.std(x, ddof=1) / math.sqrt(len(x)))
    assert jackknife(lambda kept: 1.0, 5) == (None, None)


def test_all_measures_of_a_set():
    answers = ["Tea with milk.", "tea, with MILK", "Coffee!", "A walk at night", "coffee", "Water from the well"]
    assert same_words(answers) == [0, 0, 1, 2, 1, 3]
    m = measure_answers(answers, utilities=[1, 1, 1, 1, 1, 1], log_likelihoods=[-1.0] * 6)
    assert (m["distinct_k"].value, m["distinct_k"].n, m["distinct_k"].basis) == (4, 6, "same words")
    assert m["overlap"].n == 15 and m["semantic entropy"].value == pytest.approx(m["weighted semantic entropy"].value)
    assert m["utility_k"].value == pytest.approx(utility_k([0, 0, 1, 2, 1, 3], [1] * 6))
    assert m["semantic entropy"].low < m["semantic entropy"].value < m["semantic entropy"].high
    assert list(m) == [k.NAME for k in kinds.SETS]
    assert "utility_k" not in measure_answers(answers)
    with pytest.raises(TypeError):
        m["semantic entropy"] - m["weighted semantic entropy"]
    long = ["the river runs " * 5 + "w" + str(i) for i in range(6)]
    assert measure_answers(long)["overlap"].ordinary.mean < measure_answers(long)["overlap"].value


# -- who says that two answers mean the same ---------------------------------------------------------------------------------


@few
@given(st.lists(st.integers(0, 20), min_size=1, max_size=10), st.data())
def test_entailment_must_hold_both_ways_with_the_first_of_a_class(values, data):
    """Against a plain loop, over an arbitrary relation that is neither symmetric nor transitive."""
    relation = {(a, b): data.draw(st.booleans()) if a != b else True for a in set(values) for b in set(values)}
    firsts, expected = [], []
    for v in values:
        hit = next((i for i, f in enumerate(firsts) if relation[f, v] and relation[v, f]), None)
        if hit is None:
            firsts.append(v)
        expected.append(len(firsts) - 1 if hit is None else hit)
    got = by_entailment([str(v) for v in values], lambda pairs: [relation[int(a), int(b)] for a, b in pairs])
    assert got == expected


def test_the_prompt_stands_before_both_texts():
    seen = []
    by_entailment(["yes", "no"], lambda pairs: seen.extend(pairs) or [False] * len(pairs), prompt="Rain?")
    assert seen == [("Rain? yes", "Rain? no"), ("Rain? no", "Rain? yes")]


def test_similarity_groups_by_the_first_of_a_class():
    at = lambda degrees: [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]  # noqa: E731
    vectors = np.array([at(0), at(20), at(40), at(90), at(5)])
    assert by_similarity(vectors, math.cos(math.radians(25))) == [0, 0, 1, 2, 0]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Tiny random BERT models with the embedded base's tokenizer: a classifier of entailment, and an encoder."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

    from scionwood.models.loading import embedded_folder

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    shape = dict(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                 max_position_embeddings=64, initializer_range=0.5)
    folders = {name: tmp_path_factory.mktemp(name) for name in ("nli", "encoder", "topics")}
    labels = {"nli": ["contradiction", "neutral", "entailment"], "topics": ["sport", "weather"]}
    for name, folder in folders.items():
        if name == "encoder":
            model = BertModel(BertConfig(**shape), add_pooling_layer=False)
        else:
            model = BertForSequenceClassification(BertConfig(**shape, id2label=dict(enumerate(labels[name])), label2id={x: i for i, x in enumerate(labels[name])}))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folders


ANSWERS = ["tea with milk", "coffee", "tea with milk", "a long walk along the river at night", "rain"]


def test_a_model_of_entailment_judges(encoders):
    judge = Judge(str(encoders["nli"]))
    pairs = list(itertools.product(ANSWERS, repeat=2))
    one_by_one = [judge.entails([p])[0] for p in pairs]  # padding must not matter
    assert judge.entails(pairs) == one_by_one and judge.entailment == 2 and "entailment" in judge.name
    relation = dict(zip(pairs, one_by_one))
    assert judge.classes(ANSWERS) == by_entailment(ANSWERS, lambda asked: [relation[p] for p in asked])


def test_a_model_of_embeddings_judges(encoders):
    judge = Judge(str(encoders["encoder"]), threshold=0.999)
    vectors = judge.embed(ANSWERS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    for i, a in enumerate(ANSWERS):  # padding must not matter
        assert judge.embed([a])[0] == pytest.approx(vectors[i], abs=1e-4)
    assert judge.classes(ANSWERS)[2] == judge.classes(ANSWERS)[0] == 0
    m = measure_answers(ANSWERS, classes=judge.classes(ANSWERS), classes_by=judge.name)
    assert "cosine from 0.999" in m["distinct_k"].basis


@pytest.mark.parametrize("settings_, expected", [(None, "mean"), ({"pooling_mode_cls_token": True}, "cls"), ({"pooling_mode": "lasttoken"}, "last")])
def test_pooling_follows_the_models_settings(settings_, expected, tmp_path, encoders):
    if settings_:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling/config.json").write_text(json.dumps(settings_))
    assert pooling(tmp_path) == expected
    judge = Judge(str(encoders["encoder"]))
    judge.folder = tmp_path
    assert judge.embed(ANSWERS[:1])[0] == pytest.approx(judge.embed(ANSWERS[:4])[0], abs=1e-4)


def test_judges_that_cannot_be_used(encoders, tmp_path):
    for name, message in ((encoders["topics"], "without a label 'entailment'"), (tmp_path / "no-such", "no such folder")):
        with pytest.raises(UserError, match=message):
            Judge(str(name))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(UserError, match="remote code"):
        Judge(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="no safetensors"):
        Judge(str(tmp_path))
    with pytest.raises(UserError, match="more than the 64"):
        Judge(str(encoders["nli"])).entails([("word " * 60, "word " * 60)])
    assert entailment_label({"id2label": {"0": "entailment", "1": "not_entailment"}}) == 0
    assert entailment_label({"id2label": {"0": "NOT_ENTAILMENT"}}) is None
