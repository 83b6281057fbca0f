"""A whole run in a few seconds: a task of two labels, a random base of 32 hidden units, and its recipe."""

from __future__ import annotations

from pathlib import Path

from scionwood.flow import Flow
from scionwood.models.loading import embedded_folder
from scionwood.recipe import Recipe
from scionwood.run import Run
from scionwood.systems.rivals import Majority
from scionwood.task import Case, Choices, Invalid, Task, proportion

COLOURS = ("red", "blue")
PLACES = ["barn", "harbour", "school", "mill", "tower", "bridge", "market", "station", "chapel", "library", "garden", "cellar"]
WORDS = ["kettle", "ladder", "coat", "bicycle", "lamp", "boat", "basket", "drum"]


class TinyTask(Task):
    name, primary = "tiny", "accuracy"

    def cases(self, split: str) -> list[Case]:
        offset, count = {"train": (0, 24), "dev": (24, 12), "test": (36, 24)}[split]
        out = []
        for i in range(offset, offset + count):
            colour = COLOURS[(i * 7 // 3) % 2]
            text = f"{PLACES[i % 12]} {WORDS[i % 8]} number {i * 37 % 101}: {colour} {PLACES[(i * 5 + 3) % 12]}"
            out.append(Case(f"{split}-{i}", f"{split}-source-{i % 8}", "colour", {"text": text}, colour))
        return out

    def messages(self, case: Case) -> list[dict[str, str]]:
        return [{"role": "system", "content": "Name the colour."}, {"role": "user", "content": case.input["text"]}]

    def target(self, case: Case) -> str:
        return case.reference

    def constraint(self, case: Case) -> Choices:
        return Choices(COLOURS)

    def parse(self, case: Case, text: str):
        return text if text in COLOURS else Invalid("not a colour")

    def score(self, case: Case, answer) -> dict[str, float]:
        return {"correct": float(answer == case.reference)}

    def metrics(self):
        return [proportion("accuracy", "correct")]

    def rivals(self):
        return [Majority()]


def make_base(folder: Path) -> Path:
    """A random Qwen3 base with the real tokenizer, as a folder."""
    from conftest import tiny_model
    from transformers import AutoTokenizer

    tiny_model(layers=2).save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_folder()).save_pretrained(folder)
    return folder


def recipe(base: Path, **train) -> Recipe:
    settings = {"epochs": 3, "batch": 8, "lr": 0.01, "dtype": "fp32", "device": "cpu", "seeds": [0], "checkpoint_seconds": 0} | train
    return Recipe.model_validate({"name": "tiny", "task": "tiny", "base": str(base), "adapter": {"rank": 2, "dropout": 0.1, "last_layers": 1},
                                  "train": settings})


def make_flow(recipe_: Recipe, folder: Path, monkeypatch=None, lines: list | None = None) -> Flow:
    """A flow whose task is TinyTask, without an entry point. What it says goes to ``lines``."""
    import scionwood.flow as flow_module

    before, flow_module.load_task = flow_module.load_task, lambda name, **options: TinyTask()
    try:
        return Flow(recipe_, Run(folder, echo=lines.append if lines is not None else lambda text: None))
    finally:
        flow_module.load_task = before  # what is left behind would be another test's task
