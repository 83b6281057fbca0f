"""From predicted vectors to prediction rows: each holds its errors and what they are held against, so figures need no model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from scionwood.systems.base import Prediction
from scionwood.task import Case
from scionwood.tasks.nla import choice, fve
from scionwood.tasks.nla.metrics import WEB, group_of

DIGITS = 6
# The groups whose training means errors are held against, by the name of the score.
GROUPS: dict[str, Callable[[Case], str]] = {
    "language_spread": lambda c: c.lang,
    "set_spread": lambda c: WEB if c.reference["category"] == WEB else "axis",
    "category_spread": group_of,
}


@dataclass(frozen=True)
class Yardstick:
    """The cases and raw vectors (n, d) of the training split, and what they fix: their mean and D."""

    cases: Sequence[Case]
    values: np.ndarray
    spread: fve.Spread

    @classmethod
    def of(cls, cases: Sequence[Case], values: np.ndarray) -> "Yardstick":
        return cls(cases, values, fve.fit_spread(values))

    def spreads(self, cases: Sequence[Case], true: np.ndarray) -> dict[str, np.ndarray]:
        """For each case, the mean squared distance of its vector from the training mean, and from that of each of its groups."""
        found = {"spread": fve.spreads(true, self.spread.mean)}
        for name, group in GROUPS.items():
            means = fve.group_means(self.values, [group(c) for c in self.cases], [group(c) for c in cases])
            found[name] = fve.spreads(true, means)
        return found | {"train_spread": np.full(len(cases), self.spread.strict)}


@dataclass(frozen=True)
class Told:
    """What a system has to say of some cases beside its vectors: lists in the order of the cases, where it has them."""

    said: Sequence[str] | None = None
    complete: Sequence[bool] | None = None
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    latency_ms: Sequence[float] | None = None


def choice_groups(cases: Sequence[Case]) -> list[str]:
    """From which texts nine others are drawn: those of the same category and language; of the language alone where these are too few."""
    groups = [group_of(c) for c in cases]
    counts = Counter(groups)
    return [g if counts[g] >= choice.OF else c.lang for g, c in zip(groups, cases)]


def answers(yardstick: Yardstick, cases: Sequence[Case], true: np.ndarray, predicted: np.ndarray, told: Told = Told()) -> list[Prediction]:
    """One prediction for each case. ``true`` are raw vectors (n, d), ``predicted`` are of the scale of ``fve.unit``: a rival may stop
    short of the norm sqrt(d), which is to its advantage; what the reconstructor says is brought to it, as published."""
    mean = yardstick.spread.mean
    numbers: dict[str, Any] = {
        "error": fve.free_errors(predicted, true), **yardstick.spreads(cases, true), "cosine": fve.cosines(predicted, true),
        "centred_cosine": fve.cosines(predicted - mean, fve.unit(true) - mean)}
    numbers |= told.losses
    ranks = choice.ranks(predicted, true, choice.candidates([c.id for c in cases], choice_groups(cases)), mean)
    out = []
    for i, case in enumerate(cases):
        said = told.said[i] if told.said else ""
        answer = {"said": said, **({"complete": bool(told.complete[i])} if told.complete is not None else {}), "rank": int(ranks[i]),
                  **{k: round(float(v[i]), DIGITS) for k, v in numbers.items()}}
        out.append(Prediction(case.id, said, answer, latency_ms=round(told.latency_ms[i], 3) if told.latency_ms is not None else None))
    return out
