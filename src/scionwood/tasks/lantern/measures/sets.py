"""Measures of a set of answers to one prompt: distinct_k, utility_k, overlap, and semantic entropy over given classes."""

from __future__ import annotations

import itertools
import math
from typing import Callable, Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.tasks.lantern.measures import kinds
from scionwood.tasks.lantern.measures.counts import around, entropy
from scionwood.tasks.lantern.measures.ordinary import ordinary
from scionwood.tasks.lantern.measures.words import SPLITTERS, language_of, splitter

PATIENCE = 0.8  # NoveltyBench: how likely a reader goes on to the next answer
MOST_PAIRS = 2_000_000
SAME_TEXT = "same words"

Same = Callable[[Sequence[str]], list[int]]  # answers -> the class of each; classes are numbered in order of appearance


def jaccard(a: frozenset, b: frozenset) -> float:
    """Shared words over all words of two sets; 1 for two empty ones, which are the same."""
    return len(a & b) / len(a | b) if a or b else 1.0


def same_words(answers: Sequence[str]) -> list[int]:
    """Classes of answers that are equal but for case, punctuation and blanks: what can be said without a model."""
    seen: dict[tuple, int] = {}
    return [seen.setdefault(tuple(splitter(language_of(a))(a)), len(seen)) for a in answers]


def distinct_k(classes: Sequence[int]) -> int:
    """How many classes k answers fall into (NoveltyBench)."""
    return len(set(classes))


def utility_k(classes: Sequence[int], utilities: Sequence[float], patience: float = PATIENCE) -> float | None:
    """(1 - p)/(1 - p^k) sum_i p^(i-1) 1[answer i opens a class] u_i (NoveltyBench); None without answers.

    ``utilities`` (k,) are the qualities of the answers in the order in which they were given.
    """
    if len(utilities) != len(classes):
        raise UserError(f"utility_k: {len(classes)} answers, but {len(utilities)} qualities; give one for each")
    if not classes:
        return None
    seen: set[int] = set()
    total = 0.0
    for i, (c, u) in enumerate(zip(classes, utilities)):
        total += patience**i * u * (c not in seen)
        seen.add(c)
    return (1 - patience) / (1 - patience ** len(classes)) * total


def mean_overlap(sets: Sequence[frozenset]) -> float | None:
    """Mean Jaccard index over all pairs; None below two answers."""
    pairs = list(itertools.combinations(sets, 2))
    return sum(jaccard(a, b) for a, b in pairs) / len(pairs) if pairs else None


def semantic_entropy(classes: Sequence[int], log_likelihoods: Sequence[float] | None = None) -> float | None:
    """-sum P(c) ln P(c) over classes (Farquhar et al. 2024); None without answers.

    Discrete: P(c) is the share of the answers in class c. With ``log_likelihoods`` (k,), each divided by its answer's length,
    P(c) is the share of the likelihood that the class holds.
    """
    if not classes:
        return None
    if log_likelihoods is None:
        return entropy(np.unique(np.asarray(classes), return_counts=True)[1])
    if len(log_likelihoods) != len(classes):
        raise UserError(f"semantic entropy: {len(classes)} answers, but {len(log_likelihoods)} likelihoods; give one for each")
    weights = np.exp(np.asarray(log_likelihoods) - max(log_likelihoods))
    shares = np.bincount(np.unique(np.asarray(classes), return_inverse=True)[1], weights=weights / weights.sum())
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def jackknife(figure: Callable[[list[int]], float | None], k: int) -> tuple[float | None, float | None]:
    """The 95 % interval of a figure of k answers from the k figures with one answer left out (Tukey 1958); none below 6."""
    if k < 6:
        return None, None
    without = np.array([figure([j for j in range(k) if j != i]) for i in range(k)], dtype=float)
    return around(figure(list(range(k))), (k - 1) / k * float(((without - without.mean()) ** 2).sum()))


def measure_answers(answers: Sequence[str], utilities: Sequence[float] | None = None, classes: Sequence[int] | None = None,
                    classes_by: str = SAME_TEXT, log_likelihoods: Sequence[float] | None = None) -> dict[str, kinds.Measure]:
    """All measures of the answers to one prompt.

    ``classes`` (k,) say which answers mean the same, and ``classes_by`` who decided it; without them answers must have the same
    words. ``utilities`` (k,) are qualities in the order of the answers: without them there is no utility_k.
    """
    given = list(same_words(answers) if classes is None else classes)
    k = len(answers)
    if len(given) != k:
        raise UserError(f"answers: {k} texts, but {len(given)} classes")
    langs = [language_of(a) for a in answers]
    lang = "zh" if langs.count("zh") > k / 2 else "en"
    lists = [splitter(x)(a) for x, a in zip(langs, answers)]
    sets = [frozenset(w) for w in lists]

    def of(function: Callable, *lists) -> Callable[[list[int]], float | None]:
        return lambda kept: function(*([x[i] for i in kept] for x in lists))

    figures = {kinds.DistinctK: (of(distinct_k, given), k, classes_by), kinds.Overlap: (of(mean_overlap, sets), k * (k - 1) // 2, SPLITTERS[lang]),
               kinds.SemanticEntropy: (of(semantic_entropy, given), k, classes_by)}
    if utilities is not None:
        figures[kinds.UtilityK] = (of(utility_k, given, list(utilities)), k, classes_by)
    if log_likelihoods is not None:
        figures[kinds.WeightedSemanticEntropy] = (of(semantic_entropy, given, list(log_likelihoods)), k, classes_by)
    out = {}
    for kind in kinds.SETS:
        if kind in figures:
            figure, n, basis = figures[kind]
            value = figure(list(range(k)))
            low, high = jackknife(figure, k) if k * k * k <= MOST_PAIRS else (None, None)
            length = round(sum(map(len, lists)) / k) if k else 0
            out[kind.NAME] = kind(value=None if value is None else float(value), n=n, low=low, high=high, basis=basis,
                                  ordinary=ordinary(kind, lang, length), why="" if value is not None else "too few answers")
    return out
