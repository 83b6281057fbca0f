"""The natural language autoencoder as a task: from an activation to words, and from the words back to the activation."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scionwood.task import Case, Invalid, Metric, Task
from scionwood.tasks.nla import metrics, template, texts
from scionwood.tasks.nla.settings import options_of

if TYPE_CHECKING:
    from scionwood.flow import Flow

JOB = "text"
LANGUAGES = {"en": "English", "zh": "Chinese"}


def lead_of(text: texts.Text) -> str:
    """Language and category of a text as a lead before its description."""
    return f"{LANGUAGES[text.lang]}, {text.category}."


class Nla(Task):
    """One case is one text with its vector. The vector is what the base makes of the text, so the run computes it, not the task.

    The options are those of ``settings.Options``.
    """

    name = "nla"
    summary = "reading a model's activations in words, and rebuilding them from the words"
    primary = "round_trip_fve"
    # A vector of the same category tells the category; any other tells nothing of the text.
    chance = {"shuffled-in-category": "category-language-mean", "*": "mean"}

    def __init__(self, **options: Any):
        self.options = options_of(options)
        self._splits = cache(lambda: texts.splits(self.texts(), test_author=self.options.test_author))
        self._clusters = cache(lambda: texts.clusters(self.texts()))

    def texts(self) -> list[texts.Text]:
        """All texts, of all splits."""
        return texts.load_texts(Path(self.options.data).expanduser() if self.options.data else None)

    def split(self, name: str) -> list[texts.Text]:
        """The texts of a split, in the order of its cases; with the option ``lead``, their descriptions begin with it."""
        return [replace(t, description=f"{lead_of(t)} {t.description}") if self.options.lead else t for t in self._splits()[name]]

    def plain(self, name: str) -> list[str]:
        """The descriptions of a split as their authors wrote them."""
        return [t.description for t in self._splits()[name]]

    def cases(self, split: str) -> list[Case]:
        clusters = self._clusters()
        return [Case(t.id, clusters[t.id], JOB, {"text": t.text}, {k: getattr(t, k) for k in ("category", "description", "summary")},
                     t.lang, (t.category,)) for t in self.split(split)]

    def messages(self, case: Case) -> list[dict[str, str]]:
        """The verbalizer's prompt, with a placeholder for the vector: which character holds its place depends on the tokenizer."""
        return [{"role": "user", "content": template.AV}]

    def target(self, case: Case) -> str:
        return f"{template.OPEN}{case.reference['description']}{template.CLOSE}"

    def constraint(self, case: Case) -> None:
        return None

    def parse(self, case: Case, text: str) -> dict[str, Any] | Invalid:
        """Words alone are no answer yet: what counts is the vector that follows from them, and only a run can compute it."""
        return Invalid("words without a vector; run the recipe")

    def score(self, case: Case, answer: dict[str, Any] | None) -> dict[str, float]:
        out = metrics.score(answer)
        if self.options.lead and "complete" in out:  # only what a verbalizer wrote tells anything of the vector
            lead = answer["said"].partition(".")[0].split(", ")
            out["language_named"] = float(lead[0] == LANGUAGES[case.lang])
            out["category_named"] = float(case.reference["category"] in lead[1:])
        return out

    def metrics(self) -> list[Metric]:
        return metrics.all_metrics(self.options.lead)

    def label(self, case: Case, answer: Any) -> str:
        """Every text is a label of its own: there is no table of what was taken for what."""
        return case.id

    def flow(self) -> type[Flow]:
        from scionwood.tasks.nla.flow import NlaFlow

        return NlaFlow

    def export(self, case: Case) -> dict[str, Any]:
        return {"id": case.id, "source": case.source, "lang": case.lang, **case.input, **case.reference}

    def data_files(self) -> list[Path]:
        return texts.files(Path(self.options.data).expanduser() if self.options.data else None)
