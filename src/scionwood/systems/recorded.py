"""Recorded answers as a system, so that a teacher is measured like any other."""

from pathlib import Path
from typing import Mapping, Sequence

from scionwood.systems.base import ERROR, TIMEOUT, Prediction, System, from_text
from scionwood.task import Case, Task
from scionwood.teaching import journal
from scionwood.teaching.recorded import missing_row, read_recorded


def from_row(task: Task, case: Case, row: journal.Row) -> Prediction:
    """A teacher's row as a prediction. A refusal is an error: the system gave no answer to this case."""
    latency_ms, reason = row.get("latency_ms"), row.get("reason", "")
    if row["status"] == journal.OK:
        return from_text(task, case, row["text"], latency_ms=latency_ms)
    if row["status"] == journal.REFUSED:
        reason = f"refused: {reason}"
    status = TIMEOUT if row["status"] == journal.TIMEOUT else ERROR
    return Prediction(case.id, row["text"], None, status, latency_ms, reason=reason)


class RecordedSystem(System):
    """Answers from a file ({"case", "text"} lines or a teacher journal) or from rows by case id."""

    def __init__(self, task: Task, rows: Path | Mapping[str, journal.Row], name: str = "recorded", kind: str = "teacher"):
        self.task, self.name, self.kind = task, name, kind
        self.rows = rows if isinstance(rows, Mapping) else read_recorded(rows)

    def predict(self, cases: Sequence[Case]) -> list[Prediction]:
        return [from_row(self.task, c, self.rows.get(c.id) or missing_row(c.id)) for c in cases]
