"""Axes: from two sets of texts to a direction per layer, measured on texts that it was not made of.

The direction of a layer is the mean of the states of the one set less that of the other, at the chat template's last token. It is
measured by folds: in each, one part of the texts makes the direction, one (dev) chooses the layer, one (test) tells what the
choice is worth. Every text is once in each role of the two that look, and never in two roles at a time. Texts of one group (a pair, a
near-duplicate) stay together.

All scores are sums of products of states, so they follow from one Gram matrix per layer, and a thousand relabelled copies cost little.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from scionwood.errors import UserError, nearest
from scionwood.evidence.intervals import draws, percentiles
from scionwood.tasks.nla.inputs import Given, read_given

FOLDS = 5
LEAST = 6  # texts of each label: with fewer, a fold is empty
SHUFFLES = 200
SEED = 20240229


@dataclass(frozen=True)
class Contrast:
    """Texts with their label: True for the side that the direction points to. ``groups`` keep together what belongs together."""

    texts: list[str]
    labels: np.ndarray  # (n,) bool
    groups: list[str]
    names: tuple[str, str]  # of the positive and of the negative side


def read_contrast(files: Sequence[Path], positive: str | None = None, negative: str | None = None, key: str = "label") -> Contrast:
    """Two files, the positive side first; or, with ``positive``, JSON lines with a label under ``key`` (and a ``group``, where texts
    belong together). With more than two labels, ``negative`` names the other side, and texts of neither are left out."""
    if not files:
        raise UserError("axis: name two files of texts, or JSON lines with a label on each and --positive LABEL")
    if positive is None:
        if len(files) != 2:
            raise UserError(f"axis: {len(files)} file; name two, the positive side first, or a label with --positive")
        sides = [read_given(f) for f in files]
        texts = [g for side in sides for g in side]
        labels = [True] * len(sides[0]) + [False] * len(sides[1])
        names = (Path(files[0]).stem, Path(files[1]).stem)
    else:
        texts, labels, names = _labelled(files, positive, negative, key)
    groups = [str(g.row.get("group") or " ".join(g.text.lower().split())) for g in texts]
    contrast = Contrast([g.text for g in texts], np.array(labels), groups, names)
    _check_groups(contrast)
    return contrast


def _labelled(files: Sequence[Path], positive: str, negative: str | None, key: str) -> tuple[list[Given], list[bool], tuple[str, str]]:
    """Texts of both sides from JSON lines, which of them are of the positive one, and both names."""
    everything = [g for f in files for g in read_given(f)]
    known = sorted({str(g.row[key]) for g in everything if key in g.row})
    if not known:
        raise UserError(f"{files[0]}: has no '{key}' on its lines; name the key of the labels with --label")
    for option, wanted in (("--positive", positive), ("--negative", negative)):
        if wanted is not None and wanted not in known:
            raise UserError(f"{option} {wanted}: no such label{nearest(wanted, known)} (known: {', '.join(known)})")
    if negative is None:
        if len(known) != 2:
            raise UserError(f"--negative: name the other side; there are {len(known)} labels ({', '.join(known)})")
        negative = next(k for k in known if k != positive)
    if negative == positive:
        raise UserError(f"--negative {negative}: is the positive side already")
    chosen = [g for g in everything if str(g.row.get(key)) in (positive, negative)]
    return chosen, [str(g.row[key]) == positive for g in chosen], (positive, negative)


def _check_groups(contrast: Contrast) -> None:
    for side, name in ((True, contrast.names[0]), (False, contrast.names[1])):
        found = {g for g, label in zip(contrast.groups, contrast.labels) if label == side}
        if len(found) < LEAST:
            raise UserError(f"axis: {len(found)} different texts or groups on the side '{name}'; at least {LEAST} are needed")


def folds_of(contrast: Contrast, folds: int = FOLDS, seed: int = SEED) -> np.ndarray:
    """The fold of each text, (n,) int: whole groups, dealt out label by label so that every fold has both."""
    order = sorted(set(contrast.groups))
    random.Random(seed).shuffle(order)
    counts = {g: [0, 0] for g in order}
    for group, label in zip(contrast.groups, contrast.labels):
        counts[group][int(label)] += 1
    filled = np.zeros((folds, 2), dtype=int)
    where: dict[str, int] = {}
    for group in sorted(order, key=lambda g: -sum(counts[g])):  # stable: large groups first, the rest as shuffled
        need = np.array(counts[group]) > 0
        where[group] = int(min(range(folds), key=lambda f: (filled[f][need].sum(), filled[f].sum())))
        filled[where[group]] += counts[group]
    return np.array([where[g] for g in contrast.groups])


def auc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of scores (..., n) for labels (n,): how often a positive scores above a negative, ties half
    (Mann and Whitney 1947). NaN where a side is missing."""
    a, b = scores[..., labels], scores[..., ~labels]
    if not a.shape[-1] or not b.shape[-1]:
        return np.full(scores.shape[:-1], np.nan)
    apart = a[..., :, None] - b[..., None, :]
    return ((apart > 0) + 0.5 * (apart == 0)).mean(axis=(-2, -1))


def dprime(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """d' of scores (..., n): difference of the means over the root of the mean of the two variances (Green and Swets 1966)."""
    a, b = scores[..., labels], scores[..., ~labels]
    if a.shape[-1] < 2 or b.shape[-1] < 2:
        return np.full(scores.shape[:-1], np.nan)
    spread = np.sqrt((a.var(axis=-1, ddof=1) + b.var(axis=-1, ddof=1)) / 2)
    return (a.mean(axis=-1) - b.mean(axis=-1)) / np.maximum(spread, 1e-12)


def weights(labels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """What each text weighs in the direction, (n,): 1/n+ and -1/n- for the chosen ones, else 0."""
    up, down = chosen & labels, chosen & ~labels
    if not up.any() or not down.any():
        raise UserError("axis: a fold has texts of one side only; bring more texts, or fewer that share a group")
    return up / up.sum() - down / down.sum()


@dataclass(frozen=True)
class Scores:
    """Of every fold: dev and test scores per layer, in units of the fold's own spread so that folds can be pooled."""

    dev: np.ndarray  # (layers, n): each text's score where its fold was dev
    test: np.ndarray  # (layers, n): where its fold was test
    chosen: np.ndarray  # (folds,): the layer (by place) that the fold's dev texts chose


def score(gram: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Scores:
    """Scores by folds from the Gram matrices (layers, n, n) of the states."""
    layers, n = gram.shape[0], len(labels)
    count = int(folds.max()) + 1
    dev, test, chosen = np.full((layers, n), np.nan), np.full((layers, n), np.nan), []
    for k in range(count):
        is_test, is_dev = folds == k, folds == (k + 1) % count
        fit = ~is_test & ~is_dev
        w = weights(labels, fit)
        raw = gram @ w  # (layers, n): each state's product with the direction
        middle = 0.5 * (raw[:, fit & labels].mean(1) + raw[:, fit & ~labels].mean(1))
        length = np.sqrt(np.maximum(np.einsum("i,lij,j->l", w, gram, w), 1e-30))
        placed = (raw - middle[:, None]) / length[:, None] ** 2  # -1/2 and 1/2 are the means of the two sides that it was made of
        dev[:, is_dev], test[:, is_test] = placed[:, is_dev], placed[:, is_test]
        good = list(zip(np.round(auc(placed[:, is_dev], labels[is_dev]), 9), np.nan_to_num(dprime(placed[:, is_dev], labels[is_dev]))))
        chosen.append(max(range(layers), key=lambda layer: good[layer]))
    return Scores(dev, test, np.array(chosen))


@dataclass(frozen=True)
class Axis:
    """An axis and what is known of it. Lists go by layer; ``layer`` is the one that the dev texts of all folds chose together.
    ``nested``: test AUC and d' where each fold's dev texts chose its layer; what the whole procedure is worth."""

    names: tuple[str, str]
    texts: tuple[int, int]
    groups: int
    folds: int
    layers: list[int]
    dev_auc: list[float]
    dev_dprime: list[float]
    test_auc: list[float]
    test_dprime: list[float]
    layer: int
    chosen: list[int]
    nested_auc: float
    nested_low: float | None
    nested_high: float | None
    nested_dprime: float
    shuffled_auc: float  # the same procedure on shuffled labels: mean
    shuffled_high: float  # and the value that 95 % of them stay below
    directions: np.ndarray = field(repr=False)  # (layers, d) float32, of unit norm, made of all texts
    norms: list[float] = field(repr=False)  # of the mean differences

    def row(self) -> dict[str, Any]:
        """As a JSON value, without the vectors."""
        return {k: v for k, v in asdict(self).items() if k != "directions"}


def fit_axis(states: np.ndarray, contrast: Contrast, layers: Sequence[int], folds: int = FOLDS, seed: int = SEED,
             shuffles: int = SHUFFLES) -> Axis:
    """The axis of states (n, layers, d) float32 at the template's last token. Deterministic for a seed."""
    labels, where = contrast.labels, folds_of(contrast, folds, seed)
    centred = (states - states.mean(axis=0, keepdims=True)).astype(np.float64)  # moves every score alike, and keeps the sums small
    gram = np.einsum("ild,jld->lij", centred, centred, optimize=True)
    found = score(gram, labels, where)
    of_choice = found.test[found.chosen[where], np.arange(len(labels))]
    low, high = _interval(of_choice, contrast)
    dev_auc, dev_d = auc(found.dev, labels), dprime(found.dev, labels)
    best = max(range(len(layers)), key=lambda i: (round(float(dev_auc[i]), 9), float(dev_d[i])))
    shuffled = _shuffled(gram, contrast, where, seed, shuffles)
    raw = np.einsum("n,nld->ld", weights(labels, np.ones(len(labels), dtype=bool)), states.astype(np.float64))
    norms = np.linalg.norm(raw, axis=1)
    return Axis(
        names=contrast.names, texts=(int(labels.sum()), int((~labels).sum())), groups=len(set(contrast.groups)), folds=folds,
        layers=list(layers), dev_auc=dev_auc.tolist(), dev_dprime=dev_d.tolist(), test_auc=auc(found.test, labels).tolist(),
        test_dprime=dprime(found.test, labels).tolist(), layer=layers[best], chosen=[layers[i] for i in found.chosen],
        nested_auc=float(auc(of_choice, labels)), nested_low=low, nested_high=high, nested_dprime=float(dprime(of_choice, labels)),
        shuffled_auc=float(np.mean(shuffled)), shuffled_high=float(np.percentile(shuffled, 95)),
        directions=(raw / np.maximum(norms, 1e-30)[:, None]).astype(np.float32), norms=norms.tolist())


def _interval(scores: np.ndarray, contrast: Contrast) -> tuple[float | None, float | None]:
    """The percentile interval of the AUC with whole groups resampled."""
    names = sorted(set(contrast.groups))
    members = [np.flatnonzero(np.array(contrast.groups) == name) for name in names]
    replicates = []
    for draw in draws(len(names)):
        at = np.concatenate([members[i] for i in draw])
        replicates.append(float(auc(scores[at], contrast.labels[at])))
    return percentiles(np.array(replicates))


def _shuffled(gram: np.ndarray, contrast: Contrast, where: np.ndarray, seed: int, times: int) -> list[float]:
    """The nested AUC of the same procedure on labels that were shuffled: what choosing among layers finds in nothing."""
    chance, found = np.random.RandomState(seed), []
    for _ in range(times):
        labels = contrast.labels.copy()
        for fold in np.unique(where):  # within folds, so that each keeps both sides
            at = np.flatnonzero(where == fold)
            labels[at] = labels[chance.permutation(at)]
        s = score(gram, labels, where)
        found.append(float(auc(s.test[s.chosen[where], np.arange(len(labels))], labels)))
    return found
