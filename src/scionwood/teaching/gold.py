"""Behavioural cloning with a gold filter: a teacher's answer trains the student only where it agrees with the reference.

The text that is trained on is ``task.target(case)``, not the teacher's own: an answer that is right can be spelt in many
ways (blanks, key order, a polite sentence around it), and a student that sees one spelling of each answer need not learn
which of them is meant. The teacher therefore decides *which* cases are learnt from, never *how* an answer is written.
"""

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from scionwood.task import Case, Invalid, Task
from scionwood.teaching.journal import OK, TIMEOUT, Row

ACCEPTED, UNPARSEABLE, DIFFERS, NO_ANSWER = "accepted", "unparseable", "differs", "no answer"
VERDICTS = (ACCEPTED, DIFFERS, UNPARSEABLE, TIMEOUT, NO_ANSWER)


@dataclass(frozen=True)
class Kept:
    """What the filter made of a teacher's answers.

    ``accepted``: rows {"case", "job", "text" (canonical, to train on), "said" (the teacher's own)}. ``refused``: rows
    {"case", "job", "text" (the teacher's own), "verdict", "reason"}. ``counts``: per job, the number of cases "asked" and
    of each verdict. ``agreement``: per job, accepted / asked; a case that the teacher failed on counts against it.
    """

    accepted: list[Row]
    refused: list[Row]
    counts: dict[str, dict[str, int]]
    agreement: dict[str, float]


def judge(task: Task, case: Case, row: Mapping[str, Any] | None) -> tuple[str, str]:
    """The verdict on one answer and, unless it is accepted, the reason."""
    if row is None:
        return NO_ANSWER, "no answer"
    if row["status"] == TIMEOUT:
        return TIMEOUT, "timeout"
    if row["status"] != OK:
        return NO_ANSWER, f"no answer: {row.get('reason') or row['status']}"
    answer = task.parse(case, row["text"])
    if isinstance(answer, Invalid):
        return UNPARSEABLE, f"unparseable: {answer.reason}"
    if answer == case.reference:
        return ACCEPTED, ""
    return DIFFERS, f"differs from gold: said {answer}, gold {case.reference}"


def keep(task: Task, cases: Sequence[Case], answers: Mapping[str, Row]) -> Kept:
    """Sort a teacher's answers (rows by case id) into those to train on and those that are refused, and why."""
    accepted, refused, counts = [], [], {}
    for case in cases:
        row = answers.get(case.id)
        verdict, reason = judge(task, case, row)
        said = row["text"] if row else ""
        of_job = counts.setdefault(case.job, {"asked": 0} | dict.fromkeys(VERDICTS, 0))
        of_job["asked"] += 1
        of_job[verdict] += 1
        if verdict == ACCEPTED:
            accepted.append({"case": case.id, "job": case.job, "text": task.target(case), "said": said})
        else:
            refused.append({"case": case.id, "job": case.job, "text": said, "verdict": verdict, "reason": reason})
    return Kept(accepted, refused, counts, {job: n[ACCEPTED] / n["asked"] for job, n in counts.items()})
