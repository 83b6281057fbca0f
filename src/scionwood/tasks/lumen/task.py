"""Lumen as a task: from what a small body went through to the expression that tells it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from scionwood.errors import UserError, nearest
from scionwood.systems.base import Rival
from scionwood.task import Case, Grammar, Invalid, Metric, Task
from scionwood.tasks.lumen import dataset, grammar, prompts, rivals, scores
from scionwood.tasks.lumen.trajectories.noise import FILE, load
from scionwood.tasks.lumen.trajectories.windows import STEP

Labels = Literal["drawn", "plain"]
LABELS: tuple[Labels, ...] = get_args(Labels)
BLIND_ROWS = {"train": 200, "dev": 20, "test": 60}  # of each shape
TEST_ROWS = 60
SHIPPED = Path(__file__).parent / "data" / "recording.csv.xz"


class Lumen(Task):
    """One job under one of three prompts.

    ``prompt``: "card" (the model card's; the shape is given), "table" (the published data set's; the shape is given) or "blind" (the
    window as numbers, no shape). ``data``: a folder of train, val and test rows in the published format, for the two prompts that tell
    the shape; without it the published synthetic rows are regenerated. ``train``, ``dev``, ``test``: how many rows of each shape,
    instead of the prompt's usual ones. ``recording``: a recording whose windows are to be half of the rows, for the same two prompts;
    "shipped" is the one that comes with the package.
    ``noise``: a file of measured noise for "blind". ``labels``: in "blind", "drawn" (telling draws of the rules) or "plain" (the likeliest
    telling expression of each shape).
    """

    name = "lumen"
    summary = "from a window of a small body's states to an expression of one to three tokens"
    chance = "marginal"

    def __init__(self, prompt: prompts.Prompt = "card", data: str | None = None, train: int | None = None, dev: int | None = None,
                 test: int | None = None, recording: str | None = None, noise: str | None = None, labels: Labels = "drawn"):
        if prompt not in prompts.PROMPTS:
            raise UserError(f"task lumen: prompt '{prompt}' is unknown{nearest(str(prompt), prompts.PROMPTS)} "
                            f"(known: {', '.join(prompts.PROMPTS)})")
        if prompt == "blind" and (data or recording):
            raise UserError("task lumen: rows of the published format hold no windows, so prompt 'blind' makes its own; "
                            "leave out data and recording")
        if data and (recording or train or dev or test):
            raise UserError("task lumen: data brings its own rows; leave out train, dev, test and recording")
        if labels not in LABELS or (labels == "plain" and prompt != "blind"):
            raise UserError(f"task lumen: labels '{labels}': expected drawn, or plain with prompt 'blind'")
        for key, value in (("train", train), ("dev", dev), ("test", test)):
            if value is not None and (not isinstance(value, int) or not 1 <= value <= 1000):
                raise UserError(f"task lumen: {key} = {value!r}: expected 1 to 1000 rows of each shape")
        self.prompt, self.notation = prompt, prompts.NOTATIONS[prompt]
        self.primary = "shape_macro_f1" if self.blind else "js_distance"
        self.folder = Path(data).expanduser() if data else None
        self.recording = SHIPPED if recording == "shipped" else Path(recording).expanduser() if recording else None
        self.noise_file = Path(noise).expanduser() if noise else FILE
        self.plain = labels == "plain"
        self.rows = {"train": train, "dev": dev, "test": test}
        self._read = cache(self._read_split)
        self._metrics = cache(lambda: scores.all_metrics(self.notation, self.blind, self.plain))

    @property
    def blind(self) -> bool:
        return self.prompt == "blind"

    def _read_split(self, split: str) -> tuple[Case, ...]:
        if self.blind:
            return tuple(dataset.blind_cases(split, self.rows[split] or BLIND_ROWS[split], load(self.noise_file), self.plain))
        if self.folder:
            return tuple(dataset.file_cases(dataset.folder_file(self.folder, split), self.notation))
        per_shape = self.rows[split] or (TEST_ROWS if split == "test" else None)
        if self.recording:
            from scionwood.tasks.lumen.blend import blended_cases

            return tuple(blended_cases(split, per_shape, self.notation, self.recording))
        return tuple(dataset.synthetic_cases(split, per_shape, self.notation))

    def cases(self, split: str) -> list[Case]:
        return list(self._read(split))

    def messages(self, case: Case) -> list[dict[str, str]]:
        if self.blind:
            return prompts.blind(case.input)
        numbers = prompts.numbers_from(case.input)
        return (prompts.card if self.prompt == "card" else prompts.table)(case.reference["shape"], numbers)

    def target(self, case: Case) -> str:
        return grammar.text_of(grammar.Expression(tuple(case.reference["tokens"]), case.reference["pattern"]), self.notation)

    def constraint(self, case: Case) -> Grammar:
        return Grammar(grammar.lark(self.notation))

    def parse(self, case: Case, text: str) -> dict[str, Any] | Invalid:
        """The answer as {"tokens", "pattern", "strict"}. What only the published lax rule accepts is an answer that is not strict."""
        found = grammar.read(text, self.notation)
        if isinstance(found, str):
            return Invalid(found)
        return {"tokens": list(found.tokens), "pattern": found.pattern, "strict": found.strict}

    def score(self, case: Case, answer: dict[str, Any] | None) -> dict[str, float]:
        out = scores.score(case, answer)
        if self.blind:
            true, told = case.reference["shape"], scores.implied_shape(answer, self.notation)
            out |= {"correct": float(told == true), "shape": scores.shape_number(true), "implied": scores.shape_number(told)}
        return out

    def metrics(self) -> list[Metric]:
        return self._metrics()

    def rivals(self) -> list[Rival]:
        return rivals.all_rivals(self.notation, self.blind, STEP * prompts.EVERY, plain=self.plain)

    def label(self, case: Case, answer: dict[str, Any]) -> str:
        """In "blind" the shape that is implied; else the pattern."""
        return scores.implied_shape(answer, self.notation) or "(none)" if self.blind else answer["pattern"]

    def default(self, case: Case) -> dict[str, Any]:
        """Where a system fails, the body says that it is still."""
        return {"tokens": ["stillness"], "pattern": "SINGLE", "strict": True}

    def export(self, case: Case) -> dict[str, Any]:
        return {"id": case.id, "source": case.source, **case.input, "reference": case.reference}

    def data_files(self) -> list[Path]:
        if self.folder:
            return [dataset.folder_file(self.folder, s) for s in ("train", "dev", "test")]
        return [p for p, used in ((self.noise_file, self.blind), (self.recording, self.recording is not None)) if used]
