"""Recorded answers as a contestant: JSON lines of task and text, or the answers of another duel."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Sequence

from scionwood.errors import UserError
from scionwood.files import file_hash, read_jsonl
from scionwood.tasks.lantern.duel.asking import Asked, failed, told
from scionwood.tasks.lantern.duel.contestants import Contestant
from scionwood.teaching.journal import OK, REFUSED, STATUSES, Row


class WrittenDown:
    """Answers of a file. Rows are {"task", "text"}, several of one task being its samples in order, or rows of a duel's own journal.

    A row may carry a ``status`` other than ok: a failure of then counts as it would now.
    """

    def __init__(self, contestant: Contestant):
        path = Path(contestant.what).expanduser()
        self.name, self.rows = contestant.what, read(path)
        self.identity = {"recorded": path.name, "sha256": file_hash(path)}

    def answer(self, asked: Sequence[Asked], done: Callable[[Asked, Row], None]) -> None:
        """Look every answer up; what is not there is a failure that counts."""
        for a in asked:
            texts = self.rows.get(a.question, {})
            if a.sample not in texts:
                done(a, failed(a, "no recorded answer", REFUSED))
                continue
            status, text, reason, ended = texts[a.sample]
            done(a, told(a, text, ended) if status == OK else failed(a, reason or status, status))

    def close(self) -> None:
        """Nothing is held."""


def read(path: Path) -> dict[str, dict[int, tuple[str, str, str, bool]]]:
    """By task and sample: (status, text, reason, ended). Raises UserError for a row without task or text."""
    found: dict[str, dict[int, tuple[str, str, str, bool]]] = {}
    for n, row in enumerate(read_jsonl(path), 1):
        task, text, status = row.get("task", row.get("case")), row.get("text", row.get("answer")), row.get("status", OK)
        if not isinstance(task, str) or not isinstance(text, str) or status not in STATUSES:
            raise UserError(
                f'{path}, row {n}: expected {{"task": id, "text": answer}}, with a status of {", ".join(STATUSES)} where there is one'
            )
        task, slash, sample = task.partition("/")
        samples = found.setdefault(task, {})
        at = int(sample) if slash and sample.isdigit() else len(samples)
        samples[at] = (status, text, str(row.get("reason", "")), row.get("ended") is not False)  # the last row of a journal stands
    if not found:
        raise UserError(f"{path}: holds no answer")
    return found
