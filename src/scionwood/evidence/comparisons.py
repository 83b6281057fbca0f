"""Comparisons of the systems to be proved with the untuned base and every rival, on the same cases.

Several seeds: each seed is tested alone (against the opponent's run of the same seed, or its first run), and all together:

- paired bootstrap: the figure is averaged over the seeds within every resample. For a metric that is a mean of row scores
  this equals averaging each case's score over the seeds first; it also holds for metrics such as macro-F1 that read answers.
- McNemar: gains and losses are averaged over the seeds, p is that of the intersection-union test (Berger 1982, Technometrics
  24:295-300): the largest of the seeds' p-values, and 1 where the seeds do not agree on the direction.

Holm's adjustment runs over the opponents. The smallest difference is given at the level alpha / m that the smallest of the
m p-values has to meet, so that a verdict and the difference printed beside it belong to the same test.
"""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean
from typing import Any, Callable, Mapping, Sequence

from scionwood.evidence.paired import ALPHA, Difference, McNemar, difference, holm, mcnemar, mean_sample, verdict
from scionwood.evidence.rows import CORRECT, Entrant, Run
from scionwood.task import Metric, ScoredRow

OPPONENTS = ("base", "rival")
NOT_PROVED = (*OPPONENTS, "control", "teacher", "ceiling", "probe")

Test = McNemar | Difference
Pairs = list[tuple[Run, Run]]  # (before, after), one per seed


def proved(entrants: Sequence[Entrant]) -> list[Entrant]:
    """The systems that the run is about: adapters, students, exports."""
    return [e for e in entrants if e.kind not in NOT_PROVED]


def opponents(entrants: Sequence[Entrant]) -> list[Entrant]:
    """What a system has to beat: the untuned base and the rivals alike."""
    return [e for e in entrants if e.kind in OPPONENTS]


def figure_of(entrant: Entrant, metric: Metric) -> float | None:
    """A bootstrapped metric, averaged over the seeds."""
    return mean_sample([run.samples[metric.name] for run in entrant.runs]).value


def strongest(candidates: Sequence[Entrant], metric: Metric) -> Entrant | None:
    """The best on the metric; the first of equals; None where none has a figure."""
    defined = [e for e in candidates if figure_of(e, metric) is not None]
    sign = 1 if metric.better == "higher" else -1
    return max(defined, key=lambda e: sign * figure_of(e, metric), default=None)


def pairs(before: Entrant, after: Entrant) -> Pairs:
    """For every seed of ``after``, the run of ``before`` with the same seed, or its first."""
    by_seed = {run.system.seed: run for run in before.runs}
    return [(by_seed.get(run.system.seed, before.runs[0]), run) for run in after.runs]


def mcnemar_of(before: Run, after: Run, keep: Callable[[ScoredRow], bool]) -> McNemar:
    """McNemar on the score "correct" of the rows to keep (``keep`` looks at the case only)."""
    scores = ([r.scores[CORRECT] for r in run.rows if CORRECT in r.scores and keep(r)] for run in (before, after))
    return mcnemar(*scores)


def combined(tests: Sequence[McNemar]) -> McNemar:
    """The seeds' tests as one: mean gains and losses, the largest p, or 1 where the directions differ."""
    if len(tests) == 1:
        return tests[0]
    directions = {(t.difference > 0) - (t.difference < 0) for t in tests}
    p = max(t.p for t in tests) if len(directions) == 1 else 1.0
    return McNemar(tests[0].n, fmean(t.gains for t in tests), fmean(t.losses for t in tests), p)


def settle(tests: Mapping[str, Test], better: str = "higher") -> dict[str, dict[str, Any]]:
    """One family of tests as JSON: each with Holm's p, its verdict, and the smallest difference at the level it needed."""
    adjusted = holm({key: test.p for key, test in tests.items()})
    level = ALPHA / max(1, len(tests))
    out = {}
    for key, test in tests.items():
        out[key] = {**asdict(test), "difference": test.difference, "p_holm": adjusted[key],
                    "verdict": verdict(test.difference, adjusted[key], better), "alpha": level}
        if isinstance(test, McNemar):
            out[key]["floor"] = test.floor(level)
        out[key]["detectable"] = test.detectable(level)
    return out


def with_seeds(overall: Mapping[str, Test], seeds: Mapping[str, Sequence[Test]], names: Sequence[int | None],
               better: str = "higher") -> dict[str, dict[str, Any]]:
    """A family of tests over all seeds, each entry with the same family per seed under "seeds" ([] for a single seed)."""
    per_seed = [settle({key: tests[i] for key, tests in seeds.items()}, better) for i in range(len(names))]
    several = len(names) > 1
    return {key: {**entry, "seeds": [{"seed": s, **per_seed[i][key]} for i, s in enumerate(names)] if several else []}
            for key, entry in settle(overall, better).items()}


def mcnemar_family(paired: Mapping[str, tuple[Pairs, Callable[[ScoredRow], bool]]]) -> dict[str, dict[str, Any]]:
    """McNemar for each key's runs and rows, as one family; every key's pairs have the same seeds."""
    seeds = {key: [mcnemar_of(b, a, keep) for b, a in runs] for key, (runs, keep) in paired.items()}
    names = [a.system.seed for _, a in next(iter(paired.values()))[0]]
    return with_seeds({key: combined(tests) for key, tests in seeds.items()}, seeds, names)


def primary_family(system: Entrant, against: Sequence[Entrant], metric: Metric) -> dict[str, dict[str, Any]]:
    """The paired bootstrap of a metric against each opponent, by the opponents' names."""
    def over(entrant: Entrant):
        return mean_sample([run.samples[metric.name] for run in entrant.runs])

    overall = {e.name: difference(over(e), over(system)) for e in against}
    seeds = {e.name: [difference(b.samples[metric.name], a.samples[metric.name]) for b, a in pairs(e, system)] for e in against}
    return with_seeds(overall, seeds, [run.system.seed for run in system.runs], metric.better)


def compare(system: Entrant, against: Sequence[Entrant], metric: Metric, jobs: Sequence[str]) -> list[dict[str, Any]]:
    """One entry per opponent: the primary metric, and "correct" for each job that has it."""
    if not against:
        return []
    primary = primary_family(system, against, metric)
    by_job = {job: mcnemar_family({e.name: (pairs(e, system), in_job(job)) for e in against}) for job in jobs}
    return [{"system": system.name, "against": e.name, "kind": e.kind,
             "primary": {"metric": metric.name, **primary[e.name]},
             "jobs": {job: by_job[job][e.name] for job in jobs}} for e in against]


def in_job(job: str) -> Callable[[ScoredRow], bool]:
    """Keeps the rows of one job."""
    return lambda row: row.case.job == job
