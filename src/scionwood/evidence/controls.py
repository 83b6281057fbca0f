"""Controls: deliberately broken variants that must score no better than chance. One that does shows a leak."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from scionwood.evidence.comparisons import figure_of, in_job, mcnemar_of, settle, strongest
from scionwood.evidence.paired import BETTER, difference
from scionwood.evidence.rows import Entrant, Run, share_correct
from scionwood.task import Metric, ScoredRow

AT_CHANCE, LEAKS = "at chance", "leaks"


def chance_rival(entrants: Sequence[Entrant], metric: Metric, name: str = "majority") -> Entrant | None:
    """What stands for chance: the rival that the task names for it, else the strongest rival; None without rivals."""
    rivals = [e for e in entrants if e.kind == "rival"]
    return next((e for e in rivals if e.name == name), None) or strongest(rivals, metric)


def chance_of(chance: str | Mapping[str, str], control: str) -> str:
    """The rival that stands for chance where a task names one for each control ("*": for all others)."""
    return chance if isinstance(chance, str) else chance.get(control, chance["*"])


def compare_controls(entrants: Sequence[Entrant], metric: Metric, jobs: Sequence[str],
                     chance: str | Mapping[str, str] = "majority") -> list[dict[str, Any]]:
    """One entry per control and seed, beside the rival named ``chance`` (see ``Task.chance``).

    A control leaks where it is significantly better than chance on "correct" in any job (McNemar, Holm over the jobs); a task
    without such jobs is judged by the paired bootstrap of the primary metric. "At chance" means only that no leak was found:
    the tests' "detectable" says how large a leak could have been seen. The verdict is None where there is no rival.
    """
    return [_compare(e, run, chance_rival(entrants, metric, chance_of(chance, e.name)), metric, jobs)
            for e in entrants if e.kind == "control" for run in e.runs]


def _compare(control: Entrant, run: Run, chance: Entrant | None, metric: Metric, jobs: Sequence[str]) -> dict[str, Any]:
    value = run.samples[metric.name].value
    entry = {"system": control.name, "seed": run.system.seed, "against": None, "verdict": None,
             "primary": {"metric": metric.name, "value": value, "chance": None}, "jobs": {}}
    if chance is None:
        return entry
    before = chance.runs[0]
    primary = settle({"primary": difference(before.samples[metric.name], run.samples[metric.name])}, metric.better)["primary"]
    tests = settle({job: mcnemar_of(before, run, in_job(job)) for job in jobs})
    verdicts = [t["verdict"] for t in tests.values()] or [primary["verdict"]]
    return {
        **entry,
        "against": chance.name,
        "verdict": LEAKS if BETTER in verdicts else AT_CHANCE,
        "primary": {"metric": metric.name, "value": value, "chance": figure_of(chance, metric), **primary},
        "jobs": {job: {"correct": _share(run.rows, job), "chance": _share(before.rows, job), **tests[job]} for job in jobs},
    }


def _share(rows: Sequence[ScoredRow], job: str) -> float | None:
    return share_correct([r for r in rows if r.case.job == job])
