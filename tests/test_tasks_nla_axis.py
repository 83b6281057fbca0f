"""Axes: folds that keep groups whole, figures against independent ones, the layer chosen where nothing is reported, directions on disk."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nla_tools_fakes import LAYER, LAYERS, WIDTH, write_base, write_run
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from scionwood.errors import UserError
from scionwood.tasks.nla import axis as a
from scionwood.tasks.nla import axis_told
from scionwood.tasks.nla.axis_made import make_axis, take_direction
from scionwood.tasks.nla.axis_said import contrast_states, say
from scionwood.tasks.nla.checkpoints import open_pair
from scionwood.tasks.nla.directions import Direction, read_direction, unit_direction, write_direction
from scionwood.tasks.nla.states import block_states, prompt_ids


def contrast(n=30, groups=None):
    labels = np.array([True] * n + [False] * n)
    return a.Contrast([f"text {i}" for i in range(2 * n)], labels, groups or [f"g{i}" for i in range(2 * n)], ("up", "down"))


def planted(n=30, layers=5, d=24, strong=3, seed=0):
    """States where one layer tells the labels apart and the others hold noise."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(2 * n, layers, d)) + rng.normal(size=(1, layers, d)) * 5
    states[:n, strong, 0] += 3
    return states.astype(np.float32)


# -- figures ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=4, max_size=40), st.randoms(use_true_random=False))
def test_auc_is_that_of_scikit_learn(values, chance):
    labels = np.array([True, False] + [chance.random() < 0.5 for _ in values[2:]])
    assert a.auc(np.array(values, float), labels) == pytest.approx(roc_auc_score(labels, values))


def test_dprime_is_the_difference_over_the_mean_spread():
    scores, labels = np.array([4.0, 6.0, 1.0, 2.0]), np.array([True, True, False, False])
    assert a.dprime(scores, labels) == pytest.approx(3.5 / np.sqrt((2 + 0.5) / 2))
    assert np.isnan(a.dprime(scores, np.array([True, True, True, False]))) and np.isnan(a.auc(scores, np.array([True] * 4)))


def test_folds_keep_groups_whole_and_have_both_sides():
    groups = [f"pair {i % 30}" for i in range(60)]  # every group has one text of each side
    c = contrast(30, groups)
    folds = a.folds_of(c)
    assert all(len({f for f, g in zip(folds, groups) if g == name}) == 1 for name in groups)
    for k in range(5):
        assert {bool(x) for x in c.labels[folds == k]} == {True, False} and 10 <= (folds == k).sum() <= 14
    np.testing.assert_array_equal(folds, a.folds_of(c))


def test_scores_from_the_gram_matrix_are_those_of_the_vectors():
    c, states = contrast(10), planted(10)
    folds = a.folds_of(c)
    centred = states - states.mean(0, keepdims=True)
    found = a.score(np.einsum("ild,jld->lij", centred.astype(float), centred.astype(float)), c.labels, folds)
    k, layer = 2, 3
    fit = (folds != k) & (folds != (k + 1) % 5)
    direction = states[fit & c.labels, layer].mean(0) - states[fit & ~c.labels, layer].mean(0)
    raw = states[:, layer] @ direction
    test = folds == k
    order = np.argsort(raw[test])
    np.testing.assert_array_equal(order, np.argsort(found.test[layer, test]))
    middle = 0.5 * (raw[fit & c.labels].mean() + raw[fit & ~c.labels].mean())
    np.testing.assert_allclose(found.test[layer, test], (raw[test] - middle) / (direction @ direction), rtol=1e-3, atol=1e-3)


def test_a_planted_layer_is_found_and_its_direction_is_the_mean_difference():
    c, states = contrast(), planted()
    found = a.fit_axis(states, c, range(5), shuffles=40)
    assert found.layer == 3 and set(found.chosen) == {3} and found.nested_auc > 0.9
    assert found.nested_low < found.nested_auc < found.nested_high
    assert max(found.test_auc[i] for i in (0, 1, 2, 4)) < 0.75 and 0.35 < found.shuffled_auc < 0.65
    whole = states[:30, 3].mean(0) - states[30:, 3].mean(0)
    np.testing.assert_allclose(found.directions[3], whole / np.linalg.norm(whole), atol=1e-5)
    assert found.norms[3] == pytest.approx(np.linalg.norm(whole), rel=1e-4)


def test_noise_scores_no_better_than_shuffled_labels():
    """The best layer's in-sample AUC on noise is near 1; the nested figure is not fooled by it."""
    rng = np.random.default_rng(1)
    c, states = contrast(20), rng.normal(size=(40, 12, 64)).astype(np.float32)
    found = a.fit_axis(states, c, range(12), shuffles=60)
    own = a.auc(np.einsum("nld,ld->ln", states, found.directions), c.labels)
    assert own.min() > 0.9 and 0.25 < found.nested_auc < found.shuffled_high + 0.1 and found.shuffled_high < 0.8


def test_no_text_is_fitted_where_it_is_scored():
    """A text that is changed changes nobody's dev or test score in the folds where it was held out."""
    c, states = contrast(10), planted(10)
    folds = a.folds_of(c)
    gram = lambda s: np.einsum("ild,jld->lij", s.astype(float), s.astype(float))  # noqa: E731
    before = a.score(gram(states), c.labels, folds)
    states[4] += 50
    after = a.score(gram(states), c.labels, folds)
    same = (folds == folds[4]) & (np.arange(20) != 4)
    np.testing.assert_allclose(before.test[:, same], after.test[:, same])
    np.testing.assert_allclose(before.dev[:, same], after.dev[:, same])
    other = folds == (folds[4] + 2) % 5
    assert np.abs(before.test[:, other] - after.test[:, other]).max() > 1e-3


# -- files -----------------------------------------------------------------------------------------------------------------


def test_contrasts_come_from_two_files_or_from_labels(tmp_path):
    (tmp_path / "up.txt").write_text("\n".join(f"good day {i}" for i in range(8)))
    (tmp_path / "down.txt").write_text("\n".join(f"bad day {i}" for i in range(7)))
    two = a.read_contrast([tmp_path / "up.txt", tmp_path / "down.txt"])
    assert two.names == ("up", "down") and two.labels.sum() == 8 and len(two.texts) == 15
    rows = [{"text": f"t{i}", "label": "hi" if i % 2 else "lo", "group": f"g{i // 2}"} for i in range(16)]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one = a.read_contrast([tmp_path / "l.jsonl"], "hi")
    assert one.names == ("hi", "lo") and one.labels.sum() == 8 and len(set(one.groups)) == 8
    labelled = [tmp_path / "l.jsonl"]
    for args, why in (((labelled,), "--positive"), ((labelled, "high"), "did you mean 'hi'"), (([],), "two files"),
                      (([tmp_path / "up.txt"], "x"), "no 'label'"), ((labelled, "hi", "hi"), "already"),
                      ((labelled, "hi", None, "kind"), "no 'kind'")):
        with pytest.raises(UserError, match=why):
            a.read_contrast(*args)
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps(r | {"id": i, "label": "mid"}) for i, r in enumerate(rows)))
    three = a.read_contrast([*labelled, tmp_path / "m.jsonl"], "mid", "lo")
    assert three.names == ("mid", "lo") and len(three.texts) == 24 and three.labels.sum() == 16
    with pytest.raises(UserError, match="3 labels"):
        a.read_contrast([*labelled, tmp_path / "m.jsonl"], "mid")
    (tmp_path / "few.txt").write_text("same text\n" * 9 + "another")
    with pytest.raises(UserError, match="2 different texts or groups on the side 'few'"):
        a.read_contrast([tmp_path / "up.txt", tmp_path / "few.txt"])


def test_directions_come_back_as_they_were(tmp_path):
    vector = np.random.default_rng(0).normal(size=8).astype(np.float32)
    there = unit_direction("joy", vector, 3, {"at": "last"})
    write_direction(tmp_path / "d.safetensors", there)
    back = read_direction(tmp_path / "d.safetensors")
    assert (back.name, back.layer, back.about) == ("joy", 3, {"at": "last"}) and back.norm == pytest.approx(float(np.linalg.norm(vector)))
    np.testing.assert_allclose(back.vector * back.norm, vector, rtol=1e-5)
    for value in (torch.from_numpy(vector), {"direction": torch.from_numpy(vector)}, torch.from_numpy(vector)[None]):
        torch.save(value, tmp_path / "d.pt")
        np.testing.assert_allclose(read_direction(tmp_path / "d.pt").vector, vector / np.linalg.norm(vector), rtol=1e-5)


class Evil:
    """Unpickling this would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pt_file_runs_no_code(tmp_path):
    torch.save({"direction": Evil(tmp_path / "harm")}, tmp_path / "d.pt")
    with pytest.raises(UserError, match="not a tensor that can be read safely"):
        read_direction(tmp_path / "d.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name, write, why", [
    ("a.pt", lambda p: torch.save(torch.zeros(4), p), "norm 0"), ("b.pt", lambda p: torch.save([1, 2], p), "holds a list"),
    ("c.pt", lambda p: p.write_text("hello"), "cannot|safely"), ("d.safetensors", lambda p: p.write_text("hello"), "cannot be read"),
    ("e.safetensors", lambda p: save_file({"a": torch.ones(2), "b": torch.ones(2)}, p), "2 tensors"),
    ("f.npy", lambda p: p.write_text(""), "not a direction"), ("g.pt", lambda p: torch.save(torch.ones(2, 4), p), "shape"),
])
def test_a_file_that_is_no_direction_is_told(tmp_path, name, write, why):
    write(tmp_path / name)
    with pytest.raises(UserError, match=why):
        read_direction(tmp_path / name)


# -- with models -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory, renderer):
    folder = tmp_path_factory.mktemp("nla")
    return open_pair(write_run(folder / "run", write_base(folder / "base"), renderer, seeds=(3,)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "cats.txt").write_text("\n".join(f"the cat number {i} sleeps on a mat" for i in range(12)))
    (folder / "stocks.txt").write_text("\n".join(f"share price {i * 7} fell today in heavy trade" for i in range(12)))
    return [folder / "cats.txt", folder / "stocks.txt"]


def test_states_are_those_of_the_template_or_the_mean_of_the_text(pair):
    texts = ["hello you", "a longer text, with more words"]
    last = contrast_states(pair.model, pair.renderer, texts, [0, LAYER])
    np.testing.assert_allclose(last, np.stack(block_states(pair.model, prompt_ids(pair.renderer, texts), [0, LAYER])), atol=1e-6)
    mean = contrast_states(pair.model, pair.renderer, ["猫"], [LAYER], "mean")
    ids = prompt_ids(pair.renderer, ["猫"])[0]
    at = next(i for i, t in enumerate(ids) if pair.renderer.tokenizer.decode([t]) == "猫")
    np.testing.assert_allclose(mean[0, 0], block_states(pair.model, [ids], [LAYER], every=True)[0][0][at], atol=1e-6)


def test_an_axis_is_made_measured_said_and_written(pair, files, tmp_path):
    made = make_axis(pair, a.read_contrast(files), None, "last", randoms=2, tokens=6)
    assert made.axis.layers == list(range(LAYERS)) and made.axis.nested_auc > 0.8
    assert [(s.kind, s.number, s.sign) for s in made.spoken] == [("axis", 0, 1), ("axis", 0, -1), ("random", 1, 1), ("random", 1, -1),
                                                                ("random", 2, 1), ("random", 2, -1)]
    text = axis_told.whole(made)
    assert "cats (12 texts) against stocks" in text and "shuffled labels" in text and "cats:" in text and "random 2 -:" in text
    written = axis_told.write(made, tmp_path / "out")
    assert {p.name for p in written} >= {"axis.json", "axis.svg", "direction.safetensors"} and all(p.exists() for p in written)
    row = json.loads((tmp_path / "out/axis.json").read_text())
    assert row["axis"]["nested_auc"] == made.axis.nested_auc and row["layer"] == made.axis.layer and len(row["spoken"]) == 6
    assert (tmp_path / "out/axis.svg").read_text().startswith("<svg")
    back = take_direction(pair, tmp_path / "out/direction.safetensors", a.read_contrast(files), None, "last", randoms=0, tokens=4)
    assert back.measured["auc"] > 0.9 and back.direction.layer == made.axis.layer and back.names == ("cats", "stocks")


def test_random_directions_have_the_same_norm_and_the_signs_differ(pair, monkeypatch):
    seen = []
    real = type(pair.av).verbalize
    monkeypatch.setattr(type(pair.av), "verbalize", lambda self, values, **kw: seen.append(values) or real(self, values, **kw))
    direction = Direction("d", unit_direction("d", np.arange(1, WIDTH + 1)).vector, LAYER, norm=7.0)
    say(pair, direction, randoms=3, tokens=3)
    (values,) = seen
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 7.0, rtol=1e-5)
    np.testing.assert_allclose(values[::2], -values[1::2])


def test_one_layer_alone_and_what_does_not_fit(pair, files, tmp_path):
    made = make_axis(pair, a.read_contrast(files), 1, "mean", randoms=0, tokens=3)
    assert made.axis.layers == [1] and "verbalizer reads layer 2" in "".join(made.notes)
    with pytest.raises(UserError, match="blocks 0 to 3"):
        make_axis(pair, a.read_contrast(files), 9, "last")
    torch.save(torch.ones(5), tmp_path / "d.pt")
    with pytest.raises(UserError, match="5 values, but this model's vectors have 32"):
        take_direction(pair, tmp_path / "d.pt", None, None, "last")
