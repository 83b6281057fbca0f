"""Two systems on the same cases, outside the figures of a run: what ``scion compare`` prints."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from scionwood.errors import UserError
from scionwood.evidence.comparisons import Test, in_job, settle
from scionwood.evidence.figures import tidy
from scionwood.evidence.format import number, several, tally
from scionwood.evidence.intervals import sample, sources_of
from scionwood.evidence.paired import difference, mcnemar, verdict
from scionwood.evidence.rows import CORRECT, graded_jobs, share_correct
from scionwood.evidence.summary import TESTED, aligned, tested
from scionwood.task import Metric, ScoredRow, Task

Rows = Sequence[ScoredRow]


def compare_rows(task: Task, rows_a: Rows, rows_b: Rows) -> dict[str, Any]:
    """Compare system a with system b, row by row, as a JSON value; differences are a - b, verdicts are about a.

    {"task", "primary", "cases", "sources", "metrics": {name: {"a", "b", "better", "difference", "low", "high", "p", "p_holm",
    "verdict", "detectable", ...}}, "jobs": {job: {"a", "b", "n", "gains", "losses", "difference", "p", "p_holm", "verdict",
    "floor", "detectable", ...}}}. Metrics are tested by the paired cluster bootstrap, jobs by exact McNemar on "correct". The
    primary metric was fixed in advance and stands alone; Holm's adjustment runs over the other metrics, and over the jobs.
    Raises UserError where the rows are not of the same cases.
    """
    rows_b = _same_cases(rows_a, rows_b)
    return tidy({
        "task": task.name,
        "primary": task.primary,
        "cases": len(rows_a),
        "sources": len({r.case.source for r in rows_a}),
        "metrics": compare_metrics(task, rows_a, rows_b),
        "jobs": compare_jobs(rows_a, rows_b),
    })


def _same_cases(rows_a: Rows, rows_b: Rows) -> list[ScoredRow]:
    """The rows of b in the order of a; a case counts as the same where its input and reference are."""
    by_id = {r.case.id: r for r in rows_b}
    for row in rows_a:
        other = by_id.get(row.case.id)
        if other is None or other.case != row.case:
            raise UserError(f"compare: case '{row.case.id}' {'is missing from' if other is None else 'is another in'} the second "
                            "system's test cases; both must answer the same cases")
    if len(rows_a) != len(rows_b):
        raise UserError(f"compare: {several(len(rows_a), 'case')} against {len(rows_b)}; both systems must answer the same cases")
    return [by_id[r.case.id] for r in rows_a]


def compare_metrics(task: Task, rows_a: Rows, rows_b: Rows) -> dict[str, dict[str, Any]]:
    """Every metric of the task by name, in its order."""
    metrics = {m.name: m for m in task.metrics()}
    values, tests = {}, {}
    for name, metric in metrics.items():
        sources = sources_of(metric, rows_a, rows_b)
        a, b = (sample(metric, rows, sources) for rows in (rows_a, rows_b))
        values[name], tests[name] = {"a": a.value, "b": b.value, "better": metric.better}, difference(b, a)
    families = ([task.primary], [name for name in metrics if name != task.primary])
    settled = {name: entry for names in families for name, entry in _family(metrics, tests, names).items()}
    return {name: values[name] | settled[name] for name in metrics}


def _family(metrics: Mapping[str, Metric], tests: Mapping[str, Test], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """One family of tests, each metric judged in its own direction."""
    settled = settle({name: tests[name] for name in names})
    return {name: entry | {"verdict": verdict(entry["difference"], entry["p_holm"], metrics[name].better)}
            for name, entry in settled.items()}


def compare_jobs(rows_a: Rows, rows_b: Rows) -> dict[str, dict[str, Any]]:
    """Exact McNemar for every job whose rows carry "correct"."""
    jobs = graded_jobs([rows_a, rows_b])
    mine = {job: [[r for r in rows if in_job(job)(r)] for rows in (rows_a, rows_b)] for job in jobs}
    tests = {job: mcnemar(*([r.scores[CORRECT] for r in rows] for rows in (b, a))) for job, (a, b) in mine.items()}
    settled = settle(tests)
    return {job: {"a": share_correct(a), "b": share_correct(b)} | settled[job] for job, (a, b) in mine.items()}


def table(result: Mapping[str, Any], name_a: str, name_b: str) -> str:
    """A comparison as plain text: the two systems, every metric, and every job."""
    head = (f"{result['task']}: {several(result['cases'], 'test case')} from {several(result['sources'], 'source')}\n"
            f"a: {name_a}\nb: {name_b}\ndifferences are a - b; verdicts are about a")
    metrics = [[name + " (primary)" * (name == result["primary"]), m["better"], number(m["a"]), number(m["b"]), *tested(m)]
               for name, m in result["metrics"].items()]
    jobs = [[job, number(j["a"]), number(j["b"]), f"{tally(j['gains'])} of {j['n']}", f"{tally(j['losses'])} of {j['n']}",
             *without_interval(tested(j))] for job, j in result["jobs"].items()]
    parts = [head, aligned([["metric", "better", "a", "b", *TESTED], *metrics])]
    if jobs:
        parts.append(aligned([["correct in job", "a", "b", "only a", "only b", *without_interval(TESTED)], *jobs]))
    return "\n\n".join(parts)


def without_interval(cells: Sequence[str]) -> list[str]:
    """McNemar's test gives none."""
    return [*cells[:1], *cells[2:]]
