"""From prediction rows to scored rows: every case once, failures inside the denominator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from scionwood.errors import UserError, nearest
from scionwood.evidence.intervals import Sample
from scionwood.files import file_hash, read_jsonl
from scionwood.task import Case, ScoredRow, Task

# The statuses of scionwood.systems.base, said again because evidence imports no system; a test holds them equal.
ANSWERED = ("ok", "gated")
STATUSES = (*ANSWERED, "invalid", "timeout", "error")
CORRECT = "correct"  # the 0/1 score that paired tests, slices and controls use


@dataclass(frozen=True)
class SystemRows:
    """One system's predictions of the test cases, as ``Prediction.row()`` writes them.

    ``kind`` is "base", "rival", "control" or "teacher", or "ceiling" or "probe" (shown beside the others, never judged); any
    other kind ("adapter", "student", "export") is a system that is to be proved. Trained with several seeds, a system stands
    here once per seed under the same name. ``file`` is the path in the run folder that every figure names as its origin,
    ``sha256`` the hash of that file.
    """

    name: str
    kind: str
    seed: int | None
    predictions: Sequence[Mapping[str, Any]]
    file: str
    sha256: str = ""


@dataclass(frozen=True)
class Run:
    """One system with one seed: its scored rows in the order of the cases, and its bootstrapped figures by metric."""

    system: SystemRows
    rows: list[ScoredRow]
    samples: dict[str, Sample]


@dataclass(frozen=True)
class Entrant:
    """One system with all its seeds."""

    name: str
    kind: str
    runs: list[Run]


def read_system(run: Path, file: str, name: str, kind: str, seed: int | None = None) -> SystemRows:
    """Read a predictions file of a run folder; ``file`` is relative to it ("predictions/adapter-0.jsonl")."""
    path = Path(run) / file
    return SystemRows(name, kind, seed, read_jsonl(path), file, file_hash(path))


def scored_rows(task: Task, cases: Sequence[Case], predictions: Sequence[Mapping[str, Any]],
                where: str = "predictions") -> list[ScoredRow]:
    """Score one system's predictions; returns one row per case, in the order of ``cases``.

    A row whose status is invalid, timeout or error is scored with answer None. ``where`` names the file in errors. Raises
    UserError for a case that is missing, unknown or answered twice, and for an unknown status.
    """
    known = {case.id for case in cases}
    by_case: dict[str, Mapping[str, Any]] = {}
    for row in predictions:
        name, status = row.get("case"), row.get("status")
        if name not in known:
            raise UserError(f"{where}: case '{name}' is not one of the test cases{nearest(str(name), known)}")
        if name in by_case:
            raise UserError(f"{where}: case '{name}' is answered twice; every case has one row")
        if status not in STATUSES:
            raise UserError(f"{where}: case '{name}' has status '{status}'; known are {', '.join(STATUSES)}")
        by_case[name] = row
    missing = [case.id for case in cases if case.id not in by_case]
    if missing:
        raise UserError(f"{where}: {len(missing)} of {len(cases)} cases have no row, first '{missing[0]}'; a failure is a row "
                        "with a status, never a gap")
    return [_score(task, case, by_case[case.id]) for case in cases]


def _score(task: Task, case: Case, row: Mapping[str, Any]) -> ScoredRow:
    answer = row.get("answer") if row["status"] in ANSWERED else None
    return ScoredRow(case, answer, row["status"], task.score(case, answer), row.get("latency_ms"), row.get("confidence"))


def graded_jobs(systems: Sequence[Sequence[ScoredRow]]) -> list[str]:
    """The jobs that have a right answer, in the order of the cases.

    Raises UserError where a score "correct" is not 0 or 1, or where only some rows of such a job carry it: systems would then
    not be compared on the same cases.
    """
    rows = [row for system in systems for row in system]
    jobs = list(dict.fromkeys(r.case.job for r in rows if CORRECT in r.scores))
    for r in rows:
        if r.case.job in jobs and r.scores.get(CORRECT) not in (0, 1):
            raise UserError(f"case '{r.case.id}': score '{CORRECT}' is {r.scores.get(CORRECT)}; every row of job "
                            f"'{r.case.job}' needs 0 or 1, failures too")
    return jobs


def share_correct(rows: Sequence[ScoredRow]) -> float | None:
    """The share of correct rows among those that are graded; None where none is."""
    scores = [r.scores[CORRECT] for r in rows if CORRECT in r.scores]
    return sum(scores) / len(scores) if scores else None
