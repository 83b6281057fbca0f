"""Figures over labels that tasks share: pure functions from the rows of one system to a figure, so that rows can be resampled."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import Sequence

from scionwood.task import ScoredRow


def macro_f1(rows: Sequence[ScoredRow]) -> float | None:
    """The mean of F1 = 2TP / (2TP + FP + FN) over the labels that stand among the references; None without rows.

    References and answers must be labels (strings). A failed answer is a false negative of its reference, and a false
    positive of nothing. A label that is only ever answered costs the others their recall, and is not averaged itself.
    """
    pairs = Counter((r.case.reference, r.answer) for r in rows)
    gold, said = Counter(), Counter()
    for (reference, answer), n in pairs.items():
        gold[reference] += n
        said[answer] += n
    # TP + FN are the rows of a label, TP + FP the answers with it
    return fmean(2 * pairs[label, label] / (gold[label] + said[label]) for label in gold) if gold else None
