"""What the student learns from: windows with a teacher's expression, whoever the teacher is, and their split by time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Iterable, Sequence

from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.task import Case
from scionwood.tasks.lumen import dataset, grammar
from scionwood.tasks.lumen.generator import Generator
from scionwood.tasks.lumen.prompts import numbers_from
from scionwood.tasks.lumen.rows import Numbers, numbers_of
from scionwood.tasks.lumen.shapes import UNCLASSIFIED, Point
from scionwood.tasks.lumen.student.assemble import drawn
from scionwood.tasks.lumen.student.features import features_of, twelve

RULES = "rules"  # the name of the rule-based generator as a teacher
DEV, TEST = 0.1, 0.3  # shares of the time: the last stretch is held out, the one before it chooses the size of leaves


@dataclass(frozen=True)
class Window:
    """A window without an expression. ``start`` and ``end`` place it in time (any unit), so that the split can keep apart what overlaps."""

    id: str
    shape: str
    numbers: tuple[float, ...]
    start: float
    end: float


@dataclass(frozen=True)
class Example:
    """A window and the tokens that a teacher would express, as drawn (see ``assemble.drawn``)."""

    window: Window
    tokens: tuple[str, ...]

    def features(self) -> list[float]:
        return features_of(self.window.numbers, self.window.shape)


def natural_windows(per_shape: int, seed: int = 0, noise: Path | None = None) -> list[Window]:
    """Synthetic windows of all nine shapes under measured noise. Their time is that of the noise in its recording."""
    from scionwood.tasks.lumen.trajectories import natural
    from scionwood.tasks.lumen.trajectories.noise import FILE, load

    found = natural.windows(load(noise or FILE), per_shape, seed)
    return [_window(f"natural-{seed}-{n}", shape, points, k, k) for n, (shape, k, points) in enumerate(found)]


def recorded_windows(points: Iterable[Point], name: str = "recorded") -> list[Window]:
    """The windows of a recording that the robust classifier gives a shape."""
    from scionwood.tasks.lumen.trajectories import robust
    from scionwood.tasks.lumen.trajectories.windows import windows

    out = []
    for n, w in enumerate(windows(points)):
        shape = robust.classify(w)
        if shape != UNCLASSIFIED:
            out.append(_window(f"{name}-{n}", shape, w, w[0].t, w[-1].t))
    return out


def on_one_scale(windows: Sequence[Window]) -> list[Window]:
    """Windows with their times from 0 to 1, so that those of two sources can be split together, each at its own stretch."""
    if not windows:
        return []
    low, high = min(w.start for w in windows), max(w.end for w in windows)
    span = (high - low) or 1.0
    return [replace(w, start=(w.start - low) / span, end=(w.end - low) / span) for w in windows]


def _window(name: str, shape: str, points: Sequence[Point], start: float, end: float) -> Window:
    return Window(name, shape, tuple(twelve(numbers_of(points))), start, end)


def taught_by_rules(windows: Sequence[Window], seed: int = 0) -> list[Example]:
    """What the rules would draw for each window; they see nothing of it but its shape."""
    return [Example(w, tuple(Generator(f"{seed}/{w.id}").generate(w.shape))) for w in windows]


def taught_in_rows(path: Path, answers: Path | None = None) -> tuple[list[Example], int]:
    """Rows of the published format with their own answers, or with those of a file (see ``evaluating.answers_of``).

    Returns the examples, and how many rows the teacher answered with nothing that the student can write (they are left out). Rows hold
    no time: they are placed by a hash of their numbers, so equal windows stay on one side of the split.
    """
    from scionwood.tasks.lumen.evaluating import answers_of

    cases = dataset.file_cases(path, "rows")
    if answers is None:
        found = [drawn(c.reference["pattern"], c.reference["tokens"]) for c in cases]
    else:
        found = [tokens_in(text, None) if text else None for text in answers_of(answers, cases)]
    return _examples(cases, found)


def taught_in_run(folder: Path, system: str) -> tuple[list[Example], int]:
    """The answers of a system of a run of the task lumen, under a prompt whose cases carry the numbers of the window."""
    from scionwood.flow import open_flow
    from scionwood.systems.base import GATED, OK

    flow = open_flow(folder, lambda line: None)
    if flow.task.name != "lumen" or flow.task.blind:
        raise UserError(f"{folder}: not a run of task lumen with the prompt 'card' or 'table'; only their cases carry the window's numbers")
    file = flow.run.path("predictions", f"{system}.jsonl")
    if not file.exists():
        known = sorted(p.stem for p in flow.run.path("predictions").glob("*.jsonl"))
        raise UserError(f"{folder}: the run has no system '{system}' (known: {', '.join(known)})")
    rows = {row["case"]: row for row in read_jsonl(file)}
    cases = [c for c in flow.task.cases("test") if c.id in rows]
    said = [rows[c.id]["answer"] if rows[c.id].get("status", OK) in (OK, GATED) else None for c in cases]
    return _examples(cases, [drawn(a["pattern"], a["tokens"]) if a else None for a in said])


def _examples(cases: Sequence[Case], found: Sequence[tuple[str, ...] | None]) -> tuple[list[Example], int]:
    """Cases with their drawn tokens, and how many had none."""
    out = []
    for case, tokens in zip(cases, found):
        if tokens:
            n = numbers_from(case.input)
            place = _place(n)
            out.append(Example(Window(case.id, case.reference["shape"], tuple(twelve(n)), place, place), tokens))
    return out, len(cases) - len(out)


def tokens_in(text: str, notation: grammar.Notation | None) -> tuple[str, ...] | None:
    """The drawn tokens of a written answer, or None. Without a notation, the one in which the text can be read."""
    if notation is None:
        notation = "rows" if "EISV_TOKENS" in text else "card"
    found = grammar.read(text, notation)
    return None if isinstance(found, str) else drawn(found.pattern, found.tokens)


def _place(n: Numbers) -> float:
    return int(sha256(repr(twelve(n)).encode()).hexdigest()[:12], 16) / 16**12


def split_by_time(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """"train", "dev" and "test": three stretches of time, one after the other. What reaches from one into the next is left out of both.

    Raises UserError where a part would be empty.
    """
    starts = sorted({e.window.start for e in examples})
    if len(starts) < 10:
        raise UserError(f"{len(examples)} windows at {len(starts)} different times: too few to hold a stretch of time out (10 at least)")
    last, middle = (starts[int(len(starts) * (1 - share))] for share in (TEST, TEST + DEV))
    return {
        "train": [e for e in examples if e.window.end < middle],
        "dev": [e for e in examples if middle <= e.window.start and e.window.end < last],
        "test": [e for e in examples if last <= e.window.start],
    }


def shuffled_numbers(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """The same shapes with the numbers of other windows: a permutation of everything but the shape."""
    import random

    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    return [replace(e, window=replace(e.window, numbers=examples[k].window.numbers)) for e, k in zip(examples, order)]
