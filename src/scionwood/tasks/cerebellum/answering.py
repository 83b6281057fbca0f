"""A run's adapter that answers requests: base and adapter are loaded once, many requests are one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Sequence

from scionwood.errors import UserError, nearest
from scionwood.files import file_hash, text_hash
from scionwood.flow import Flow, open_flow
from scionwood.systems.base import ERROR, Prediction, evaluate
from scionwood.task import Case
from scionwood.tasks.cerebellum.requests import Request, respond, to_cases
from scionwood.tasks.cerebellum.task import Cerebellum


class Router:
    """Answers requests of the three jobs with one adapter of a run.

    ``adapter`` names it (default: that of the recipe's first seed). ``device`` is chosen for this machine, not taken from the
    recipe: a run that was trained on a GPU may be asked on a Raspberry Pi. ``model_rev`` is a short hash of base and adapter.
    """

    def __init__(self, run_folder: Path, adapter: str | None = None, device: str = "auto", echo: Callable[[str], None] = print):
        from scionwood.models.loading import load_adapter
        from scionwood.systems.label_scoring import LabelScorer

        flow = open_flow(run_folder, echo)
        if not isinstance(flow.task, Cerebellum):
            raise UserError(f"{run_folder}: a run of task '{flow.task.name}'; memory requests need a run of task 'cerebellum'")
        recipe = flow.recipe
        flow.recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"device": device})})
        folder = adapter_folder(flow, adapter or f"adapter-{recipe.train.seeds[0]}")
        model = load_adapter(flow.load_base(flow.measuring), folder)
        self.task = flow.task
        self.system = LabelScorer("adapter", "adapter", model, flow.renderer, self.task, flow.autocast(flow.measuring),
                                  max_length=recipe.train.max_length)
        self.model_rev = text_hash([flow.base_hash, file_hash(folder)])[:12]

    def answer(self, job: str, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """One response per request, in order."""
        cases = [to_cases(job, request, f"r{n}") for n, request in enumerate(requests)]
        predictions = iter(self.predict([c for own in cases for c in own]))
        return [respond(job, request, [next(predictions) for _ in own], self.model_rev) for request, own in zip(requests, cases)]

    def predict(self, cases: Sequence[Case]) -> list[Prediction]:
        """One prediction per case. A case that the model cannot take (too many tokens) fails alone, not with its batch."""
        try:
            return evaluate(self.system, self.task, cases)
        except UserError as e:
            if len(cases) == 1:
                return [Prediction(cases[0].id, status=ERROR, reason=str(e))]
            return [p for case in cases for p in self.predict([case])]


def adapter_folder(flow: Flow, name: str) -> Path:
    """The folder of a run's trained adapter, in PEFT format."""
    folder = flow.run.path("adapter", name, "best")
    if not (folder / "adapter_model.safetensors").exists():
        known = sorted(p.parent.parent.name for p in flow.run.path("adapter").glob("*/best/adapter_model.safetensors"))
        raise UserError(f"{flow.run.folder}: has no trained adapter '{name}'{nearest(name, known)} "
                        f"(known: {', '.join(known) or 'none'})")
    return folder
