"""Exported files beside the adapter that they were made from, on the same cases: what did the export cost?

The adapter's run with the export's seed is what was exported. The exports of a run are one family for Holm's adjustment, on the
primary metric (paired bootstrap) and on each job (exact McNemar). Equal answers are counted over the cases that were asked: those
that the task's gate answers are equal by themselves.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any, Sequence

from scionwood.evidence.comparisons import in_job, mcnemar_of, pairs, settle
from scionwood.evidence.paired import difference
from scionwood.evidence.rows import ANSWERED, Entrant, Run
from scionwood.task import Metric, ScoredRow

EXPORT = "export"  # the kind of an exported file
GATED = "gated"
NAMED = 10  # cases that are named where answers differ


def compare_exports(entrants: Sequence[Entrant], metric: Metric, jobs: Sequence[str]) -> list[dict[str, Any]]:
    """One entry per export; none where a run has no exports or no adapter."""
    adapter = next((e for e in entrants if e.kind == "adapter"), None)
    exports = [e for e in entrants if e.kind == EXPORT]
    if adapter is None or not exports:
        return []
    runs = {e.name: pairs(adapter, e)[0] for e in exports}
    primary = settle({name: difference(b.samples[metric.name], a.samples[metric.name]) for name, (b, a) in runs.items()}, metric.better)
    by_job = {job: settle({name: mcnemar_of(b, a, in_job(job)) for name, (b, a) in runs.items()}) for job in jobs}
    return [{"system": name, "against": adapter.name, "seed": before.system.seed, "same": same_answers(before, after),
             "confidence": confidence_change(before, after),
             "primary": {"metric": metric.name, **primary[name]}, "jobs": {job: by_job[job][name] for job in jobs}}
            for name, (before, after) in runs.items()]


def same_answers(before: Run, after: Run) -> dict[str, Any]:
    """{"n": cases asked, "same": equal answers, "differ": the first cases whose answers differ}."""
    asked = [(b, a) for b, a in zip(before.rows, after.rows) if b.status != GATED]
    differ = [b.case.id for b, a in asked if _answer(b) != _answer(a)]
    return {"n": len(asked), "same": len(asked) - len(differ), "differ": differ[:NAMED]}


def confidence_change(before: Run, after: Run) -> dict[str, float] | None:
    """{"mean", "largest"} absolute change of the confidence over the cases asked; None where no case has one on both sides.

    Answers that differ while confidences hardly do were nearly level, so that rounding decided between them.
    """
    changes = [abs(b.confidence - a.confidence) for b, a in zip(before.rows, after.rows)
               if b.status != GATED and b.confidence is not None and a.confidence is not None]
    return {"mean": fmean(changes), "largest": max(changes)} if changes else None


def _answer(row: ScoredRow) -> tuple[str, Any]:
    """What a row answered; of a failure, how it failed."""
    return ("answered", row.answer) if row.status in ANSWERED else (row.status, None)
