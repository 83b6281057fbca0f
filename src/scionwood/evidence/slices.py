"""Slices: the named parts of the test set (and each language) on which a system might win or lose."""

from __future__ import annotations

from statistics import fmean
from typing import Any, Callable

from scionwood.evidence.comparisons import mcnemar_family, pairs
from scionwood.evidence.rows import CORRECT, Entrant, share_correct
from scionwood.task import Case, ScoredRow


def slices_of(case: Case) -> list[str]:
    """The slices that a case belongs to; its language stands among them as "lang:en"."""
    return [*case.slices, f"lang:{case.lang}"]


def compare_slices(system: Entrant, against: Entrant) -> dict[str, dict[str, Any]]:
    """For every slice with a score "correct": n, sources, both shares, and McNemar with Holm over the slices.

    Slices are sorted by name; a case counts in each of its slices. Shares are averaged over the seeds.
    """
    rows = [r for r in system.runs[0].rows if CORRECT in r.scores]
    names = sorted({name for row in rows for name in slices_of(row.case)})
    if not names:
        return {}
    tests = mcnemar_family({name: (pairs(against, system), in_slice(name)) for name in names})
    return {name: {"sources": len({r.case.source for r in rows if in_slice(name)(r)}),
                   "correct": share(system, in_slice(name)), "against_correct": share(against, in_slice(name)),
                   **tests[name]} for name in names}


def share(entrant: Entrant, keep: Callable[[ScoredRow], bool]) -> float:
    """The share of correct rows among those to keep, averaged over the seeds."""
    return fmean(share_correct([r for r in run.rows if keep(r)]) for run in entrant.runs)


def in_slice(name: str) -> Callable[[ScoredRow], bool]:
    """Keeps the rows of one slice."""
    return lambda row: name in slices_of(row.case)
