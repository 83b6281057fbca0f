"""Lantern as a task: answers that stay diverse and good, k to each prompt and all of one length."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scionwood.settings import check
from scionwood.task import Case, Invalid, Metric, Task
from scionwood.tasks.lantern import cases as data
from scionwood.tasks.lantern import scores
from scionwood.tasks.lantern.measures.ordinary import TABLE
from scionwood.tasks.lantern.measures.predictive import PROSE
from scionwood.tasks.lantern.settings import Options

if TYPE_CHECKING:
    from scionwood.flow import Flow


class Lantern(Task):
    """One job: to write. A case is a prompt, an answer the list of k texts with the figures that need a model (see ``answering.in_rows``).

    Trained on the hand-written examples, measured on the prompts of the duel. Options: see ``settings.Options``.
    """

    name = "lantern"
    summary = "answers to open prompts that are good and stay unlike each other"
    # Diversity without quality is noise, quality without diversity is one good answer k times: utility_k asks for both at once.
    primary = "utility_k"

    def __init__(self, **options: Any):
        self.options: Options = check(options, Options, "[task_options]")
        self.tasks = Path(self.options.tasks).expanduser() if self.options.tasks else data.TASKS

    @cached_property
    def examples(self) -> list[dict]:
        """The training examples with their twins."""
        return data.read_examples(self.options.languages, self.options.authors)

    @cached_property
    def splits(self) -> dict[str, list[Case]]:
        """The cases of each split; test prompts that share a run of words with training text are refused."""
        tests = data.test_cases(self.tasks, self.options.languages)
        data.check_clean(self.examples, tests)
        return {**data.training_cases(self.examples), "test": tests}

    def cases(self, split: str) -> list[Case]:
        return self.splits[split]

    def messages(self, case: Case) -> list[dict[str, str]]:
        return [{"role": "user", "content": case.input["prompt"]}]

    def target(self, case: Case) -> str:
        return case.reference["text"] if case.reference else ""

    def constraint(self, case: Case) -> None:
        return None

    def parse(self, case: Case, text: str) -> dict[str, Any] | Invalid:
        """A single answer from elsewhere; without a model's figures it has no quality."""
        return {"texts": [text.strip()]} if text.strip() else Invalid("empty")

    def score(self, case: Case, answer: dict[str, Any] | None) -> dict[str, float]:
        return scores.score(answer, case.lang, self.options.words)

    def metrics(self) -> list[Metric]:
        return self._metrics

    @cached_property
    def _metrics(self) -> list[Metric]:
        return scores.all_metrics(sorted({kind for c in self.cases("test") for kind in c.slices}))

    def label(self, case: Case, answer: Any) -> str:
        """Free text has no labels; every case is its own, so that no table of mistakes is made of it."""
        return case.id

    def watch(self, renderer, settings, autocast):
        from scionwood.tasks.lantern.monitor import watch

        return watch(renderer, [self.messages(c) for c in self.cases("dev")], settings, autocast, full=True)

    def flow(self) -> type[Flow]:
        from scionwood.tasks.lantern.flow import LanternFlow

        return LanternFlow

    def export(self, case: Case) -> dict[str, Any]:
        return {"id": case.id, "source": case.source, "lang": case.lang, **case.input, "reference": case.reference}

    def data_files(self) -> list[Path]:
        return [data.EXAMPLES, data.TWINS, self.tasks, TABLE, PROSE]
