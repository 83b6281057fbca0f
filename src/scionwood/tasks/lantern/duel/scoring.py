"""The automatic measures of a duel: each per task, with its interval by task, and every two contestants on the same tasks."""

from __future__ import annotations

import itertools
import re
from typing import Any, Callable, Iterable, Sequence

import numpy as np

from scionwood.evidence.intervals import MIN_SOURCES, Sample, draws, percentiles, wilson
from scionwood.evidence.paired import Difference, McNemar, difference, holm, mcnemar, verdict
from scionwood.task import Case, Metric, ScoredRow
from scionwood.tasks.lantern.duel.questions import CHECKED, FACT, Question
from scionwood.tasks.lantern.duel.reading import MISSING, Answer, Duel
from scionwood.tasks.lantern.measures import kinds
from scionwood.tasks.lantern.measures.ordinary import ordinary
from scionwood.tasks.lantern.measures.sets import distinct_k, mean_overlap, same_words
from scionwood.tasks.lantern.measures.text import measure_text
from scionwood.tasks.lantern.measures.words import language_of, splitter
from scionwood.teaching.journal import OK, TIMEOUT

THERMOMETER = (kinds.H50, kinds.Mtld, kinds.HdD, kinds.WordEntropy)
LEGACY = kinds.WordEntropy.NAME  # printed because it was published; it takes no part in the verdicts' adjustment
CORRECT, DISTINCT, OVERLAP = "correct", kinds.DistinctK.NAME, kinds.Overlap.NAME


def mean_of(name: str) -> Callable[[Sequence[ScoredRow]], float | None]:
    """The mean of a score over rows; None without any. Pure, so that rows can be resampled."""

    def mean(rows: Sequence[ScoredRow]) -> float | None:
        values = [r.scores[name] for r in rows if name in r.scores]
        return sum(values) / len(values) if values else None

    return mean


def metric(name: str, better: str, about: str) -> Metric:
    """A measure as a metric over rows of one task each."""
    return Metric(name, mean_of(name), better, rows=lambda r: name in r.scores, about=about)


METRICS = (
    metric(CORRECT, "higher", "right answers to fact and analysis tasks, within the words that are measured; a failure is wrong"),
    metric(DISTINCT, "higher", "how many of k answers to one prompt differ in their words; a failure adds none"),
    metric(OVERLAP, "lower", "words that two answers to one prompt share over those that either has"),
    *(metric(k.NAME, "higher", re.split(r"\.(?:\s|$)", k.__doc__ or "")[0]) for k in THERMOMETER),
)


def by_task(values: Sequence[float]) -> Sample:
    """The mean of one value per task, and its bootstrap replicates over tasks: what ``intervals.sample`` gives for a mean with each task a
    source, all resamples at once. Two samples of the same tasks in the same order are paired."""
    x = np.asarray(values, dtype=float)
    if not len(x):
        return Sample(None, np.empty(0), 0)
    return Sample(float(x.mean()), x[draws(len(x))].mean(1) if len(x) >= MIN_SOURCES else np.empty(0), len(x))


def compare(before: Sequence[float], after: Sequence[float]) -> tuple[Difference, McNemar]:
    """The paired bootstrap of one value per task, and the exact sign test: on how many tasks the second had more, and less."""
    signs = mcnemar([float(b > a) for b, a in zip(before, after)], [float(a > b) for b, a in zip(before, after)])
    return difference(by_task(before), by_task(after)), signs


def p_of(d: Difference, signs: McNemar) -> float | None:
    """The bootstrap's p; the sign test's where every task has the same difference, of which a bootstrap sees no spread; None below
    ``MIN_SOURCES`` tasks."""
    if d.low is not None:
        return d.p
    return signs.p if d.sources >= MIN_SOURCES else None


def values_of(m: Metric, rows: Sequence[ScoredRow]) -> dict[str, float]:
    """A measure by task, in the order in which ``intervals`` draws sources."""
    return {r.case.id: r.scores[m.name] for r in sorted(m.select(rows), key=lambda r: r.case.id)}


def text_scores(text: str) -> dict[str, float]:
    """The thermometer of one text that was cut to the length."""
    found = measure_text(text).measures
    return {k.NAME: v for k in THERMOMETER if (v := found[k.NAME].value) is not None}


def task_scores(question: Question, answers: Sequence[Answer], texts: dict[str, dict[str, float]]) -> dict[str, float]:
    """The measures of one contestant on one task: means over its samples. ``texts``: the thermometer by text, so that none is read twice.

    The thermometer and the overlap take answers of the full length alone, and leave out fact tasks, whose right answer may be one
    word. Correctness and distinct_k take every answer that was asked for: failures count.
    """
    good = [a for a in answers if a.status == OK]
    scores: dict[str, float] = {}
    if question.kind in CHECKED:
        scores[CORRECT] = sum(question.right(a.cut.measured) for a in good) / len(answers)
    if question.kind == FACT:
        return scores
    if len(answers) > 1:
        scores[DISTINCT] = float(distinct_k(same_words([a.cut.measured for a in good])))
    full = [a.cut.measured for a in good if not a.cut.short]
    if (overlap := mean_overlap([frozenset(splitter(language_of(t))(t)) for t in full])) is not None:
        scores[OVERLAP] = overlap
    for name in (k.NAME for k in THERMOMETER):
        values = [texts[t][name] for t in full if name in texts[t]]
        if values:
            scores[name] = sum(values) / len(values)
    return scores


def rows(duel: Duel, tell: Callable[[str], None] = lambda line: None) -> dict[str, list[ScoredRow]]:
    """One row per contestant and task, its scores being that task's measures. Tasks that were not asked yet are left out."""
    texts: dict[str, dict[str, float]] = {}
    out: dict[str, list[ScoredRow]] = {}
    for name in duel.names:
        out[name] = []
        for q in duel.questions:
            answers = [a for a in duel.answers[name][q.id] if a.status != MISSING]
            if not answers:
                continue
            for a in answers:
                if a.cut and not a.cut.short and q.kind != FACT and a.cut.measured not in texts:
                    texts[a.cut.measured] = text_scores(a.cut.measured)
            out[name].append(ScoredRow(Case(q.id, q.id, q.kind, {}, None), None, OK, task_scores(q, answers, texts)))
    return out


def figures(scored: dict[str, list[ScoredRow]]) -> dict[str, dict[str, dict[str, Any]]]:
    """By contestant and measure: value, interval by task, and the number of tasks."""
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for name, mine in scored.items():
        out[name] = {}
        for m in METRICS:
            s = by_task(list(values_of(m, mine).values()))
            low, high = percentiles(s.replicates)
            out[name][m.name] = {"value": s.value, "low": low, "high": high, "n": s.sources}
    return out


def comparisons(scored: dict[str, list[ScoredRow]]) -> list[dict[str, Any]]:
    """Every two contestants on every measure, on the tasks where both have it: the second against the first.

    p comes from the paired bootstrap by task; ``adjusted`` is Holm's over all but the legacy measure, and the verdict follows it.
    """
    out = []
    for first, second in itertools.combinations(scored, 2):
        for m in METRICS:
            one, other = (values_of(m, scored[name]) for name in (first, second))
            both = [task for task in one if task in other]
            if not both:
                continue
            d, signs = compare([one[t] for t in both], [other[t] for t in both])
            out.append(
                {
                    "metric": m.name,
                    "first": first,
                    "second": second,
                    "n": len(both),
                    "difference": d.difference,
                    "low": d.low,
                    "high": d.high,
                    "p": p_of(d, signs),
                    "detectable": d.detectable(),
                    "better": m.better,
                }
            )
    tested = {str(i): c["p"] for i, c in enumerate(out) if c["p"] is not None and c["metric"] != LEGACY}
    adjusted = holm(tested)
    for i, c in enumerate(out):
        c["adjusted"] = adjusted.get(str(i), c["p"])
        c["verdict"] = verdict(c["difference"], 1.0 if c["adjusted"] is None else c["adjusted"], c["better"])
    return out


def told_answers(duel: Duel) -> dict[str, dict[str, Any]]:
    """By contestant, what became of its answers: how many were asked for, failed, were too short, or were cut at the most tokens."""
    out = {}
    for name in duel.names:
        each = [a for samples in duel.answers[name].values() for a in samples]
        long = [a for q in duel.questions if q.kind != FACT for a in duel.answers[name][q.id] if a.status == OK]
        good = [a for a in each if a.status == OK]
        asked = [a for a in each if a.status != MISSING]
        short = sum(a.cut.short for a in long)
        out[name] = {
            "asked": len(asked),
            "missing": len(each) - len(asked),
            "ok": len(good),
            "timeout": sum(a.status == TIMEOUT for a in each),
            "failed": sum(a.status not in (OK, TIMEOUT, MISSING) for a in each),
            "measurable": len(long),
            "short": short,
            "short_share": short / len(long) if long else None,
            "short_interval": list(wilson(short, len(long))) if long else None,
            "cut_at_tokens": sum(not a.ended for a in good),
            "mean_words": _mean(a.cut.words for a in long),
            "mean_latency_ms": _mean(a.latency_ms for a in good if a.latency_ms is not None),
        }
    return out


def prose(words: int) -> dict[str, float | None]:
    """What ordinary English prose of this length has, by measure."""
    found = {k.NAME: ordinary(k, "en", words) for k in (*THERMOMETER, kinds.Overlap)}
    return {name: o.mean if o else None for name, o in found.items()}


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return sum(kept) / len(kept) if kept else None
