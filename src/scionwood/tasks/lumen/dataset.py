"""The cases of the task: rows of the published format, regenerated or from files, and windows for the prompt without a shape."""

from __future__ import annotations

import random
from pathlib import Path

from scionwood.errors import UserError
from scionwood.task import Case
from scionwood.tasks.lumen import implied, synthetic
from scionwood.tasks.lumen.grammar import Notation, in_notation, read
from scionwood.tasks.lumen.prompts import NOTATIONS, printed
from scionwood.tasks.lumen.rows import Row
from scionwood.tasks.lumen.shapes import SHAPES
from scionwood.tasks.lumen.store.published import read_rows
from scionwood.tasks.lumen.trajectories import natural
from scionwood.tasks.lumen.trajectories.noise import Noise

JOB = "lumen"
FILES = {"train": ("train",), "dev": ("val", "dev"), "test": ("test",)}
FURTHER = {"train": 6000, "dev": 4000, "test": 200}  # where the seeds of further rows begin, behind the 200 published ones
STRETCHES = {"train": (0.0, 0.6), "dev": (0.6, 0.7), "test": (0.7, 1.0)}  # of the recording that the noise comes from


def case_of(name: str, source: str, row: Row, notation: Notation) -> Case:
    """A row as a case. The shape is part of the reference: the prompts that tell it read it there."""
    expression = read(row.answer, "rows")
    if isinstance(expression, str) or not expression.strict:
        raise UserError(f"case {name}: its answer is no legal expression ({expression if isinstance(expression, str) else row.answer!r})")
    expression = in_notation(expression.tokens, notation)
    n = row.numbers
    given = {"states": n.states, "seconds": n.seconds, "means": list(n.means), "first": list(n.first), "second": list(n.second)}
    return Case(name, source, JOB, given, {"shape": row.shape, "tokens": list(expression.tokens), "pattern": expression.pattern})


def synthetic_cases(split: str, per_shape: int | None, notation: Notation) -> list[Case]:
    """The published split, cut or filled to ``per_shape`` rows of each shape by the same recipe."""
    chosen = synthetic.splits()[split]
    out = []
    for shape in SHAPES:
        indices = [i for s, i in chosen if s == shape]
        wanted = len(indices) if per_shape is None else per_shape
        indices = indices[:wanted] + [FURTHER[split] + k for k in range(wanted - len(indices))]
        out += [case_of(f"{shape}-{i}", f"{shape}-{i}", synthetic.row(shape, i), notation) for i in indices]
    return out


def blind_cases(split: str, per_shape: int, noise: Noise, plain: bool = False) -> list[Case]:
    """Windows of all shapes under measured noise; each split takes its noise from a stretch of the recording of its own.

    Labels are telling draws, or with ``plain`` the likeliest telling expression of each shape.
    """
    notation = NOTATIONS["blind"]
    found = natural.windows(noise, per_shape, list(FURTHER).index(split), STRETCHES[split])
    out = []
    for k, (shape, remainder, points) in enumerate(found):
        expression = implied.plainest(shape, notation) if plain else implied.draw_telling(random.Random(f"{split}/{k}"), shape, notation)
        out.append(Case(f"{split}-{k}", f"noise-{remainder}", JOB, printed(points),
                        {"shape": shape, "tokens": list(expression.tokens), "pattern": expression.pattern}))
    return out


def file_cases(path: Path, notation: Notation) -> list[Case]:
    """The rows of a file as cases, named by file and line."""
    name = Path(path).stem
    return [case_of(f"{name}-{k}", f"{name}-{k}", row, notation) for k, row in enumerate(read_rows(path), 1)]


def folder_file(folder: Path, split: str) -> Path:
    """The file of a split in a folder of rows."""
    for stem in FILES[split]:
        for ending in (".json", ".jsonl"):
            if (path := folder / (stem + ending)).is_file():
                return path
    raise UserError(f"{folder}: no file {' or '.join(f'{s}.json(l)' for s in FILES[split])} with {split} rows")

