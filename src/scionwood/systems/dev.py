"""The task's primary metric on the dev split: what the best adapter of a training is chosen by."""

from __future__ import annotations

from typing import Callable

from scionwood.errors import UserError
from scionwood.systems.base import System, evaluate
from scionwood.task import ScoredRow, Task


def dev_metric(task: Task, system_of: Callable[[object], System]) -> Callable[[object], float]:
    """A function from a model to its figure, signed so that higher is better. ``system_of`` makes a system of the model."""
    metric = next((m for m in task.metrics() if m.name == task.primary), None)
    if metric is None:
        raise UserError(f"task '{task.name}': its primary metric '{task.primary}' is not one of its metrics()")
    cases = [c for c in task.cases("dev") if metric.job is None or c.job == metric.job]

    def value(model) -> float:
        predictions = evaluate(system_of(model), task, cases)
        rows = [ScoredRow(c, p.answer, p.status, task.score(c, p.answer)) for c, p in zip(cases, predictions)]
        got = metric.function(metric.select(rows))
        if got is None:
            raise UserError(f"task '{task.name}': the dev split has no case for the primary metric '{metric.name}'")
        return got if metric.better == "higher" else -got

    return value
