"""The interface of everything that answers cases, and the one evaluator that asks it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, Sequence

from scionwood.task import Case, Invalid, Task

OK, GATED, INVALID, TIMEOUT, ERROR = "ok", "gated", "invalid", "timeout", "error"


@dataclass(frozen=True)
class Prediction:
    """One system's answer to one case.

    ``status``: ok, gated (answered by the task's gate), invalid (unparseable), timeout, error. ``answer`` is the parsed
    answer where the status is ok or gated. ``confidence`` comes from label probabilities, never from generated text.
    """

    case: str
    text: str = ""
    answer: Any = None
    status: str = OK
    latency_ms: float | None = None
    confidence: float | None = None
    reason: str = ""

    def row(self) -> dict[str, Any]:
        # an empty text is an answer too where the task accepts it
        return {k: v for k, v in asdict(self).items() if v is not None and (v != "" or k == "answer")}


def from_text(task: Task, case: Case, text: str, **kw) -> Prediction:
    """Parse a system's raw text into a prediction; what is not legal becomes a row with status invalid."""
    answer = task.parse(case, text)
    if isinstance(answer, Invalid):
        return Prediction(case.id, text, None, INVALID, reason=answer.reason, **kw)
    return Prediction(case.id, text, answer, OK, **kw)


class System(ABC):
    """Answers cases. ``kind`` is base, adapter, export, teacher, rival or control."""

    name: str
    kind: str = "system"

    @abstractmethod
    def predict(self, cases: Sequence[Case]) -> list[Prediction]:
        """One prediction per case, in order. Failures are rows with a status, never exceptions or gaps."""


class Rival(System):
    """A trivial system, fitted on the training cases."""

    kind = "rival"
    about: str = ""

    def fit(self, task: Task, cases: Sequence[Case]) -> None:
        self.task = task

    def answer(self, case: Case) -> tuple[str, float | None]:
        """The answer's text and a confidence, for rivals that decide case by case."""
        raise NotImplementedError

    def predict(self, cases: Sequence[Case]) -> list[Prediction]:
        out = []
        for case in cases:
            start = time.perf_counter()
            text, confidence = self.answer(case)
            ms = (time.perf_counter() - start) * 1000
            out.append(from_text(self.task, case, text, latency_ms=round(ms, 4), confidence=confidence))
        return out


def evaluate(system: System, task: Task, cases: Sequence[Case]) -> list[Prediction]:
    """Run any system on any task. The task's gate answers first, alike for all systems; the rest is asked of the system.

    Every case comes back exactly once and in order; a system that returns something else is an error of ours, not a gap.
    """
    ruled = {case.id: p for case in cases if (p := gated(task, case)) is not None}
    asked = [c for c in cases if c.id not in ruled]
    got = system.predict(asked)
    if [p.case for p in got] != [c.id for c in asked]:
        raise RuntimeError(f"system '{system.name}' did not return one prediction per case in order")
    by_id = {p.case: p for p in got} | ruled
    return [by_id[c.id] for c in cases]


def gated(task: Task, case: Case) -> Prediction | None:
    """The answer of the task's gate, or None where a system has to be asked."""
    answer = task.gate(case)
    return None if answer is None else Prediction(case.id, task.target(_with(case, answer)), answer, GATED)


def _with(case: Case, answer: Any) -> Case:
    from dataclasses import replace

    return replace(case, reference=answer)
