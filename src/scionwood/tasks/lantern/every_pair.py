"""Every system against every other on the primary metric: differences, intervals clustered by prompt, verdicts."""

from __future__ import annotations

import itertools
from typing import Any, Sequence

from scionwood.evidence.comparisons import settle
from scionwood.evidence.figures import line_up, tidy
from scionwood.evidence.paired import difference, mean_sample
from scionwood.evidence.rows import SystemRows, scored_rows
from scionwood.task import Case, Task


def every_pair(task: Task, cases: Sequence[Case], systems: Sequence[SystemRows]) -> list[dict[str, Any]]:
    """One entry for each pair of systems, the first minus the second, their seeds averaged in every resample of the prompts.

    Holm's adjustment runs over all pairs. The comparisons of the adapter alone, adjusted over its opponents, stand in
    ``comparisons`` as in every run; these are here to tell the controls apart from each other.
    """
    metric = next(m for m in task.metrics() if m.name == task.primary)
    scored = [scored_rows(task, cases, s.predictions, s.file) for s in systems]
    figures = {e.name: mean_sample([run.samples[metric.name] for run in e.runs]) for e in line_up(systems, scored, [metric], metric)}
    pairs = list(itertools.combinations(figures, 2))
    tests = settle({f"{a}/{b}": difference(figures[b], figures[a]) for a, b in pairs}, metric.better)
    return tidy([{"system": a, "against": b, **tests[f"{a}/{b}"]} for a, b in pairs])
