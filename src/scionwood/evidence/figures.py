"""From predictions to every figure that a card may print: ``compute`` builds the value of figures.json."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Callable, Sequence

import numpy as np

from scionwood.errors import UserError, nearest
from scionwood.evidence.comparisons import compare, figure_of, opponents, proved, strongest
from scionwood.evidence.controls import compare_controls
from scionwood.evidence.exports import compare_exports
from scionwood.evidence.intervals import RESAMPLES, Sample, percentiles, sample, sources_of, wilson
from scionwood.evidence.paired import ALPHA
from scionwood.evidence.rows import (ANSWERED, STATUSES, Entrant, Run, SystemRows, graded_jobs, read_system, scored_rows,
                                     share_correct)
from scionwood.evidence.slices import compare_slices
from scionwood.task import Case, Metric, ScoredRow, Task

__all__ = ["SystemRows", "compute", "read_system", "scored_rows"]

FAILED = "(failed)"
MAX_LABELS = 50  # more gold labels than this are free text, which has no confusion table


def compute(task: Task, cases: Sequence[Case], systems: Sequence[SystemRows],
            progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Every figure of a run, as a JSON value; the same input gives the same value.

    Numbers keep six decimals, or six significant digits where that is finer. Figures that are not defined are None, and so
    are the bounds of a bootstrap interval over fewer than six sources or without any spread (method "none"). Several seeds of
    one system are given one by one and as mean, minimum and maximum; how they are compared is said in ``comparisons``.
    ``progress`` is told each file whose figures have been bootstrapped. Raises UserError where predictions and cases do not
    match.
    """
    metrics = {m.name: m for m in task.metrics()}
    if task.primary not in metrics:
        raise UserError(f"task '{task.name}': primary metric '{task.primary}' is not among its metrics"
                        f"{nearest(task.primary, metrics)}")
    if not cases:
        raise UserError(f"task '{task.name}': no cases to compute figures from")
    primary = metrics[task.primary]
    _check_systems(cases, systems)
    scored = [scored_rows(task, cases, s.predictions, s.file) for s in systems]
    graded = graded_jobs(scored)
    entrants = line_up(systems, scored, list(metrics.values()), primary, progress)
    best = strongest(opponents(entrants), primary)
    return tidy({
        "task": task.name,
        "primary": primary.name,
        "alpha": ALPHA,
        "resamples": RESAMPLES,
        "cases": len(cases),
        "sources": len({c.source for c in cases}),
        "jobs": dict(Counter(c.job for c in cases)),
        "metrics": {m.name: {"better": m.better, "job": m.job, "about": m.about} for m in metrics.values()},
        "systems": {e.name: entrant_figures(task, e, list(metrics.values()), graded) for e in entrants},
        "strongest": {"name": best.name, "kind": best.kind, "value": figure_of(best, primary)} if best else None,
        "comparisons": [entry for e in proved(entrants) for entry in compare(e, opponents(entrants), primary, graded)],
        "exports": compare_exports(entrants, primary, graded),
        "slices": [{"system": e.name, "against": best.name, "slices": compare_slices(e, best)} for e in proved(entrants) if best],
        "controls": compare_controls(entrants, primary, graded, task.chance),
        "files": {s.file: s.sha256 for s in systems},
    })


def line_up(systems: Sequence[SystemRows], scored: Sequence[list[ScoredRow]], metrics: Sequence[Metric], primary: Metric,
            progress: Callable[[str], None] | None = None) -> list[Entrant]:
    """Gather each system's seeds under its name, and bootstrap what needs it: the primary metric and all but proportions."""
    # One list of sources per metric, so that every system is drawn alike.
    drawn = {m: sources_of(m, *scored) for m in metrics if m.proportion is None or m is primary}
    entrants: dict[str, Entrant] = {}
    for system, rows in zip(systems, scored):
        run = Run(system, rows, {m.name: sample(m, rows, sources) for m, sources in drawn.items()})
        entrants.setdefault(system.name, Entrant(system.name, system.kind, [])).runs.append(run)
        if progress:
            progress(system.file)
    return list(entrants.values())


def _check_systems(cases: Sequence[Case], systems: Sequence[SystemRows]) -> None:
    twice = [name for name, n in Counter(c.id for c in cases).items() if n > 1]
    if twice:
        raise UserError(f"case '{twice[0]}' stands twice among the test cases; ids must differ")
    seen: dict[str, SystemRows] = {}
    for s in systems:
        first = seen.setdefault(s.name, s)
        if first.kind != s.kind:
            raise UserError(f"{s.file}: system '{s.name}' is of kind {s.kind}, but of kind {first.kind} in {first.file}")
    for (name, seed), n in Counter((s.name, s.seed) for s in systems).items():
        if n > 1:
            raise UserError(f"system '{name}' with seed {seed} stands in {n} files; every seed has one")


def entrant_figures(task: Task, entrant: Entrant, metrics: Sequence[Metric], graded: Sequence[str]) -> dict[str, Any]:
    """One system: what each run scored, and the mean, minimum and maximum over its seeds (None for a single run)."""
    runs = [run_figures(task, run, metrics, graded) for run in entrant.runs]
    return {"kind": entrant.kind, "runs": runs, "over_seeds": over_seeds(runs) if len(runs) > 1 else None}


def over_seeds(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float] | None]:
    """{metric: {"mean", "min", "max", "seeds"}}; None for a metric that some seed leaves undefined."""
    out: dict[str, dict[str, float] | None] = {}
    for name in runs[0]["figures"]:
        values = [run["figures"][name]["value"] for run in runs]
        out[name] = None if None in values else {"mean": sum(values) / len(values), "min": min(values), "max": max(values),
                                                 "seeds": len(values)}
    return out


def run_figures(task: Task, run: Run, metrics: Sequence[Metric], graded: Sequence[str]) -> dict[str, Any]:
    """One run: its figures, its accuracy per job, how it failed, how long it took and what it mistook for what."""
    return {
        "seed": run.system.seed,
        "file": run.system.file,
        "figures": {m.name: {**figure(m, run.rows, run.samples.get(m.name)), "better": m.better, "file": run.system.file}
                    for m in metrics},
        "correct": {job: accuracy([r for r in run.rows if r.case.job == job]) for job in graded},
        "status": {status: sum(r.status == status for r in run.rows) for status in STATUSES},
        "latency_ms": latency(run.rows),
        "confusion": confusion(task, run.rows),
    }


def figure(metric: Metric, rows: Sequence[ScoredRow], bootstrapped: Sample | None) -> dict[str, Any]:
    """A metric's value with n, the number of sources, its interval and the interval's method."""
    selected = metric.select(rows)
    if metric.proportion is not None:
        selected = [r for r in selected if metric.proportion in r.scores]
    value = metric.function(selected)
    low = high = None
    if value is not None and metric.proportion is not None:
        low, high = wilson(_ones(metric, selected), len(selected))
    elif value is not None and bootstrapped is not None:
        low, high = percentiles(bootstrapped.replicates)
    method = "none" if low is None else "wilson" if metric.proportion is not None else "cluster bootstrap"
    return {"value": value, "n": len(selected), "sources": len({r.case.source for r in selected}), "low": low, "high": high,
            "method": method}


def _ones(metric: Metric, rows: Sequence[ScoredRow]) -> int:
    for r in rows:
        if r.scores[metric.proportion] not in (0, 1):
            raise UserError(f"metric '{metric.name}' is a proportion, but case '{r.case.id}' has score '{metric.proportion}' "
                            f"{r.scores[metric.proportion]}; it must be 0 or 1")
    return int(sum(r.scores[metric.proportion] for r in rows))


def accuracy(rows: Sequence[ScoredRow]) -> dict[str, Any]:
    """The share of correct rows of one job, with its Wilson interval."""
    value = share_correct(rows)
    low, high = wilson(round(value * len(rows)), len(rows))
    return {"value": value, "n": len(rows), "low": low, "high": high}


def latency(rows: Sequence[ScoredRow]) -> dict[str, float] | None:
    """Percentiles of the latencies in milliseconds (linear between rows), None where no row has one."""
    times = [r.latency_ms for r in rows if r.latency_ms is not None]
    if not times:
        return None
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    return {"p50": p50, "p95": p95, "p99": p99, "n": len(times)}


def confusion(task: Task, rows: Sequence[ScoredRow]) -> dict[str, dict[str, dict[str, int]]]:
    """{job: {gold label: {predicted label: rows}}}, labels sorted, every failure under "(failed)"."""
    tables: dict[str, dict[str, Counter]] = {}
    for r in rows:
        predicted = task.label(r.case, r.answer) if r.status in ANSWERED else FAILED
        gold = tables.setdefault(r.case.job, {}).setdefault(task.label(r.case, r.case.reference), Counter())
        gold[predicted] += 1
    return {job: {gold: dict(sorted(table[gold].items())) for gold in sorted(table)}
            for job, table in tables.items() if len(table) <= MAX_LABELS}


def tidy(value: Any) -> Any:
    """A JSON value: numpy numbers made plain, floats to six decimals or significant digits, NaN and infinities None."""
    if isinstance(value, dict):
        return {str(k): tidy(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [tidy(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.6g}") if abs(value) < 1 else round(value, 6)
    return value
