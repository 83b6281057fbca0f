"""Memory routing as a task."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from scionwood.systems.base import Rival
from scionwood.task import Case, Choices, Metric, Task
from scionwood.tasks.cerebellum import answers, cases, gate, metrics, prompts, swaps
from scionwood.tasks.cerebellum.labels import decision_of


class Cerebellum(Task):
    """Three jobs, one adapter. ``data`` names a folder of your own cases in the format of GUIDE.md."""

    name = "cerebellum"
    primary = "arbitrate_macro_f1"
    summary = "memory routing: classify a message, judge what is worth keeping, arbitrate a new fact against stored ones"

    def __init__(self, data: str | None = None):
        self.folder = Path(data).expanduser() if data else cases.DATA
        self._read = cache(self._read_split)

    def _read_split(self, split: str) -> tuple[Case, ...]:
        records = [r for f in cases.split_files(self.folder, split) for r in cases.read_records(f)]
        return tuple(c for r in records for c in cases.cases_of(r))

    def cases(self, split: str) -> list[Case]:
        return list(self._read(split))

    def messages(self, case: Case) -> list[dict[str, str]]:
        return prompts.messages(case)

    def target(self, case: Case) -> str:
        return answers.text_of(case.job, case.reference)

    def constraint(self, case: Case) -> Choices:
        return answers.CHOICES[case.job]

    def parse(self, case: Case, text: str):
        return answers.parse(case, text)

    def score(self, case: Case, answer) -> dict[str, float]:
        return metrics.score(case, answer)

    def metrics(self) -> list[Metric]:
        return metrics.all_metrics()

    def rivals(self) -> list[Rival]:
        from scionwood.systems.rivals import Majority, NearestNeighbour, TfidfLogistic
        from scionwood.tasks.cerebellum.rivals import AlwaysNone, OverlapThreshold

        return [Majority(), AlwaysNone(), OverlapThreshold(), TfidfLogistic(fields), NearestNeighbour(fields)]

    def label(self, case: Case, answer) -> str:
        """Memorize is shown by its decision, which is what its accuracy is about."""
        return decision_of(answer["kind"]) if case.job == "memorize" else str(answer)

    def more(self, case: Case) -> list[Case]:
        swapped = swaps.swap(case)
        return [swapped] if swapped else []

    def gate(self, case: Case):
        """Secret values are never kept and exact duplicates never stored twice, whatever a model would say."""
        if case.job == "memorize" and gate.has_secret(case.input["text"]):
            return {"kind": "secret", "mixed": False}
        if case.job == "arbitrate" and gate.is_duplicate(case.input["new"]["text"], case.input["stored"]["text"]):
            return "same"
        return None

    def default(self, case: Case):
        """On failure nothing is changed and nothing is lost: a new fact stays, a text goes to the queue for a later look."""
        return {"classify": "other", "memorize": {"kind": "unclear", "mixed": False}, "arbitrate": "unsure"}[case.job]

    def routes(self):
        from scionwood.tasks.cerebellum.routes import routes

        return routes()

    def data_files(self) -> list[Path]:
        return [f for split in ("train", "dev", "test") for f in cases.split_files(self.folder, split)]


def fields(case: Case) -> list[str]:
    """The parts of a case that a text classifier looks at, each in features of its own."""
    if case.job == "arbitrate":
        new, stored = case.input["new"], case.input["stored"]
        return [new["text"], stored["text"], cases.time_order(new, stored)]
    return ["\n".join(case.input.get("previous", [])), case.input["text"]]
