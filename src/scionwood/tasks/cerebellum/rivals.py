"""Rivals of the memory router that know the job's form but no language."""

from __future__ import annotations

from collections import Counter
from typing import Sequence

from scionwood.systems.base import Rival
from scionwood.task import Case, Task
from scionwood.tasks.cerebellum.answers import text_of
from scionwood.tasks.cerebellum.gate import normal_form


class AlwaysNone(Rival):
    """Never touches a memory and keeps nothing: independent, chitchat, other."""

    name, about = "always-none", "does nothing, whatever comes"
    ANSWERS = {"classify": "other", "memorize": {"kind": "chitchat", "mixed": False}, "arbitrate": "independent"}

    def answer(self, case: Case) -> tuple[str, float | None]:
        return text_of(case.job, self.ANSWERS[case.job]), None


def overlap(a: str, b: str) -> float:
    """Jaccard overlap of character bigrams, without case and punctuation."""
    grams = [{t[i : i + 2] for i in range(len(t) - 1)} or {t} for t in (normal_form(a), normal_form(b))]
    return len(grams[0] & grams[1]) / max(1, len(grams[0] | grams[1]))


class OverlapThreshold(Rival):
    """Arbitrates by character overlap and time order alone; the other jobs by length.

    The range of the number is cut into bins of equal counts on the training cases; each bin answers what was most frequent there.
    """

    name = "overlap-threshold"
    about = "character overlap (arbitrate) or length (other jobs), cut at thresholds fitted on the training cases"
    BINS = 6

    def fit(self, task: Task, cases: Sequence[Case]) -> None:
        import numpy as np

        super().fit(task, cases)
        self.edges, self.best = {}, {}
        for job in {c.job for c in cases}:
            mine = [c for c in cases if c.job == job]
            self.edges[job] = np.quantile([self.number(c) for c in mine], np.linspace(0, 1, self.BINS + 1)[1:-1])
            counts: dict[tuple, Counter] = {}
            for c in mine:
                counts.setdefault(self.bin(c), Counter())[task.target(c)] += 1
            self.best[job] = {b: n.most_common(1)[0][0] for b, n in counts.items()}
            self.best[job][None] = Counter(task.target(c) for c in mine).most_common(1)[0][0]

    def number(self, case: Case) -> float:
        if case.job == "arbitrate":
            return overlap(case.input["new"]["text"], case.input["stored"]["text"])
        return float(len(case.input["text"]))

    def bin(self, case: Case) -> tuple:
        from scionwood.tasks.cerebellum.cases import time_order

        order = time_order(case.input["new"], case.input["stored"]) if case.job == "arbitrate" else ""
        return int(self.edges[case.job].searchsorted(self.number(case))), order

    def answer(self, case: Case) -> tuple[str, float | None]:
        best = self.best[case.job]
        return best.get(self.bin(case), best[None]), None
