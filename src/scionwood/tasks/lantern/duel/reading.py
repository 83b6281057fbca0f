"""What a duel's folder holds: its lock file, its tasks, and every contestant's answers at one length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scionwood.errors import UserError
from scionwood.files import read_json
from scionwood.tasks.lantern.duel.asking import Asked, answered, key_of, to_ask
from scionwood.tasks.lantern.duel.contestants import Contestant, from_row
from scionwood.tasks.lantern.duel.cutting import Cut, cut
from scionwood.tasks.lantern.duel.questions import Question, read_questions
from scionwood.teaching.journal import OK, check_row, parse_lines

LOCK, TASKS, ANSWERS, LEAKS, RATINGS, JUDGED = "duel.lock.json", "tasks.jsonl", "answers", "leaks.json", "ratings.db", "judged"
MISSING = "missing"  # not asked yet: the duel was stopped


@dataclass(frozen=True)
class Answer:
    """One answer. ``status`` is ok, timeout, refused, error or missing; ``cut`` is None unless it is ok."""

    status: str
    text: str
    reason: str
    ended: bool
    latency_ms: float | None
    cut: Cut | None


@dataclass(frozen=True)
class Duel:
    """A duel as it was locked, with all answers: ``answers[contestant][task]`` lists the samples in order."""

    folder: Path
    lock: dict[str, Any]
    contestants: list[Contestant]
    questions: list[Question]
    answers: dict[str, dict[str, list[Answer]]]

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.contestants]

    @property
    def samples(self) -> int:
        return self.lock["samples"]

    @property
    def words(self) -> int:
        return self.lock["words"]


def journal_path(folder: Path, name: str) -> Path:
    """Where a contestant's answers lie."""
    return Path(folder) / ANSWERS / f"{name}.jsonl"


def asked_of(lock: dict[str, Any], questions: list[Question]) -> list[Asked]:
    """All that every contestant is asked."""
    return to_ask(questions, lock["samples"], lock["seed"], lock["note"])


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a journal that nobody writes to now; the torn last line of a killed process is passed over."""
    if not path.is_file():
        return []
    lines, _ = parse_lines(path, path.read_bytes())
    return [check_row(path, n, row) for n, row in lines]


def read_duel(folder: Path) -> Duel:
    """Read a duel's folder. Raises UserError where there is none."""
    folder = Path(folder)
    if not (folder / LOCK).is_file():
        raise UserError(f"{folder}: not the folder of a duel (no {LOCK}); 'scion lantern duel A B --out {folder}' makes one")
    lock = read_json(folder / LOCK)
    questions = read_questions(folder / TASKS)
    asked = asked_of(lock, questions)
    contestants = [from_row(row["contestant"]) for row in lock["contestants"]]
    answers = {}
    for contestant, row in zip(contestants, lock["contestants"]):
        keys = {a.case: key_of(contestant, row["identity"], a) for a in asked}
        there = answered(rows_of(journal_path(folder, contestant.name)), keys)
        mine = answers[contestant.name] = {q.id: [] for q in questions}
        for a in asked:  # sample by sample, so every list is in their order
            mine[a.question].append(_answer(there.get(a.case), lock["words"]))
    return Duel(folder, lock, contestants, questions, answers)


def _answer(row: dict[str, Any] | None, words: int) -> Answer:
    if row is None:
        return Answer(MISSING, "", "not asked yet", False, None, None)
    good = row["status"] == OK
    return Answer(
        row["status"],
        row["text"],
        row.get("reason", ""),
        bool(row.get("ended")),
        row.get("latency_ms"),
        cut(row["text"], words) if good else None,
    )
