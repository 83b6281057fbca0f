"""What k answers to one prompt score: diversity, and diversity with quality. Pure functions of the rows, so that figures can be checked."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Callable, Sequence

import numpy as np

from scionwood.task import Metric, ScoredRow
from scionwood.tasks.lantern.lengths import count
from scionwood.tasks.lantern.measures import kinds, mtld as mtld_measure
from scionwood.tasks.lantern.measures.counts import entropy
from scionwood.tasks.lantern.measures.ordinary import ordinary
from scionwood.tasks.lantern.measures.sets import distinct_k, jaccard, mean_overlap, utility_k
from scionwood.tasks.lantern.measures.windows import window_entropies
from scionwood.tasks.lantern.measures.words import splitter, words_between_blanks

Answer = dict[str, Any]

MEANS = {  # of each score: which way is better, and what it is
    "utility_k": ("higher", "quality of the answers that are unlike all earlier ones, later ones counting less (NoveltyBench)"),
    "distinct_k": ("higher", "how many of the k answers are unlike all earlier ones"),
    "quality": ("higher", "mean quality of an answer, from 0 to 1; 0 for one that did not come to its length"),
    "full_length": ("higher", "share of answers that came to their length; the others are of no use, and have no figure of diversity"),
    "h50": ("higher", "word entropy of windows of 50 words, nats"),
    "mtld": ("higher", "words until the share of different ones has fallen to .72"),
    "repetition": ("lower", "share of word triples that stood in the same answer before"),
    "overlap": ("lower", "words that two answers to one prompt share, over those that either has"),
    "e1": ("higher", "word entropy as published, nats: a measure of length, here of one length for all"),
    "predictive_entropy": ("higher", "entropy of the model's next token while it wrote, T = 1, nats"),
    "drawn_entropy": ("higher", "entropy of what tokens were drawn from, after temperature and filters, nats"),
    "surprisal": ("lower", "minus log-likelihood of a token under the untouched base, nats; neither the lowest nor the highest is good"),
}


def coherence(surprisal: float, prose: float) -> float:
    """exp(-|s - s0|): how near an answer's surprisal under the base is to that of ordinary prose, both in nats per token.

    1 where the base finds the answer as likely as ordinary prose, 1/2 where its perplexity is twice or half of that. Too likely
    is as bad as too unlikely: what a model finds likeliest of all is a loop (Holtzman et al. 2020).
    """
    return math.exp(-abs(surprisal - prose))


@cache
def alike_from(lang: str, words: int) -> float:
    """The overlap from which two answers count as alike: that which only one in twenty pairs of unrelated passages of ordinary prose
    of this length reaches."""
    found = ordinary(kinds.Overlap, lang, words)
    return found.high if found else 1.0


def classes_of(sets: Sequence[frozenset], threshold: float) -> list[int]:
    """The class of each answer (k,): that of the first earlier answer that opened a class and is alike, else a new one."""
    firsts: list[int] = []
    classes = []
    for i, words in enumerate(sets):
        found = next((c for c, j in enumerate(firsts) if jaccard(words, sets[j]) >= threshold), len(firsts))
        if found == len(firsts):
            firsts.append(i)
        classes.append(found)
    return classes


def qualities(answer: Answer) -> list[float]:
    """Quality of each answer: the judge's, where there was one, else coherence."""
    if "quality" in answer:
        return list(answer["quality"])
    if "surprisal" not in answer:
        return [0.0] * len(answer["texts"])
    return [coherence(s, answer["ordinary"]) for s in answer["surprisal"]]


def score(answer: Answer | None, lang: str, words: int) -> dict[str, float]:
    """The scores of the answers to one prompt; a failure has the worst of what counts, and no figure of what it did not write."""
    if answer is None or not answer["texts"]:
        return {"utility_k": 0.0, "distinct_k": 0.0, "quality": 0.0, "full_length": 0.0}
    texts = answer["texts"]
    full = [count(t, lang) >= words for t in texts]
    lists = [splitter(lang)(t) for t in texts]
    whole = [w for w, f in zip(lists, full) if f]
    classes = answer.get("classes") or classes_of([frozenset(w) for w in lists], alike_from(lang, words))
    good = [q if f else 0.0 for q, f in zip(qualities(answer), full)]
    out = {"utility_k": utility_k(classes, good), "distinct_k": float(distinct_k([c for c, f in zip(classes, full) if f])),
           "quality": sum(good) / len(good), "full_length": sum(full) / len(full), **diversity(whole)}
    written = [t for t, f in zip(texts, full) if f]
    out |= averaged("e1", [entropy(np.unique(words_between_blanks(t), return_counts=True)[1]) for t in written] if lang != "zh" else [])
    for name, key in (("predictive_entropy", "entropy"), ("drawn_entropy", "drawn"), ("surprisal", "surprisal")):
        out |= averaged(name, answer.get(key, []))
    return out


def diversity(lists: Sequence[Sequence[str]]) -> dict[str, float]:
    """Means over the answers of one length, given as words; what is not defined is left out."""
    ids = [np.unique(w, return_inverse=True)[1] for w in lists]
    triples = [list(zip(i.tolist(), i[1:].tolist(), i[2:].tolist())) for i in ids]
    lengths = [mtld_measure.mtld(*mtld_measure.of_ids(i)) for i in ids]
    return (averaged("h50", [float(window_entropies(i, kinds.H50.WINDOW).mean()) for i in ids])
            | averaged("mtld", [v for v in lengths if v is not None])
            | averaged("repetition", [1 - len(set(t)) / len(t) for t in triples])
            | averaged("overlap", [v for v in [mean_overlap([frozenset(w) for w in lists])] if v is not None]))


def averaged(name: str, values: Sequence[float]) -> dict[str, float]:
    """{name: mean}, or nothing where there is no value."""
    return {name: sum(values) / len(values)} if values else {}


def mean_of(name: str) -> Callable[[Sequence[ScoredRow]], float | None]:
    """The mean of one score over the rows that have it."""

    def mean(rows: Sequence[ScoredRow]) -> float | None:
        values = [r.scores[name] for r in rows if name in r.scores]
        return sum(values) / len(values) if values else None

    return mean


def all_metrics(kinds_of_prompts: Sequence[str]) -> list[Metric]:
    """Every score as its mean over the prompts, and the primary one over the prompts of each kind."""
    out = [Metric(name, mean_of(name), better, about=about) for name, (better, about) in MEANS.items()]
    return out + [Metric(f"utility_k_{kind}", mean_of("utility_k"), "higher", rows=lambda r, kind=kind: kind in r.case.slices,
                         about=f"utility_k on the prompts of the kind {kind}") for kind in kinds_of_prompts]
