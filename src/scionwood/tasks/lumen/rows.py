"""Rows in the published format: what a window's numbers look like in a prompt, and the three lines of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any, Sequence

from scionwood.tasks.lumen.shapes import DIMENSIONS, SHAPES, Point
from scionwood.tasks.lumen.trajectories.published import differences
from scionwood.tasks.lumen.vocabulary import pattern_of, spelled, words_of

SYSTEM = ("You are an EISV trajectory expression mapper. Given a trajectory window with its shape classification, EISV state values, "
          "derivatives, and second derivatives, generate an appropriate primitive expression. Output the EISV tokens, their Lumen "
          "translations, and the expression pattern.")


@dataclass(frozen=True)
class Numbers:
    """What a published prompt tells of a window beside its shape: how many states, how many seconds, and twelve means.

    ``first`` and ``second`` are mean rates of change per second and per second squared, in the order E, I, S, V.
    """

    states: int
    seconds: float
    means: tuple[float, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One row of the published format. ``answer`` is the assistant's text."""

    shape: str
    numbers: Numbers
    answer: str

    def user(self) -> str:
        return f"SHAPE: {self.shape}\n{told(self.numbers)}"

    def value(self) -> dict[str, Any]:
        """The row as the published JSON object: ``text``, ``shape``, ``pattern`` and ``messages``."""
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": self.user()},
                    {"role": "assistant", "content": self.answer}]
        return {"text": "\n".join(f"<|{m['role']}|>\n{m['content']}" for m in messages), "shape": self.shape,
                "pattern": self.answer.rpartition("PATTERN: ")[2], "messages": messages}


def numbers_of(points: Sequence[Point]) -> Numbers:
    """The published numbers of a window of at least one state; a rate that is not defined is 0."""
    first = differences(points)
    second = differences(first)

    def means(of: Sequence[Point]) -> tuple[float, ...]:
        return tuple(fmean(getattr(p, d) for p in of) if of else 0.0 for d in DIMENSIONS)

    return Numbers(len(points), points[-1].t - points[0].t, means(points), means(first), means(second))


def told(n: Numbers) -> str:
    """The four lines of numbers of a published prompt."""

    def line(title: str, prefix: str, values: Sequence[float]) -> str:
        return f"{title}: " + " ".join(f"{prefix}{d}={x:.4f}" for d, x in zip(DIMENSIONS, values))

    return "\n".join([f"WINDOW: n_states={n.states} duration={n.seconds:.2f}", line("MEAN_EISV", "", n.means),
                      line("DERIVATIVES", "d", n.first), line("SECOND_DERIVATIVES", "d2", n.second)])


def written(tokens: Sequence[str]) -> str:
    """The three lines of a published answer."""
    return (f"EISV_TOKENS: {' '.join(map(spelled, tokens))}\nLUMEN_TOKENS: {' '.join(words_of(tokens))}\n"
            f"PATTERN: {pattern_of(tokens)}")


def row_of(shape: str, points: Sequence[Point], tokens: Sequence[str]) -> Row:
    """A row from a window, its shape and an expression."""
    if shape not in SHAPES:
        raise ValueError(f"unknown shape '{shape}'")
    return Row(shape, numbers_of(points), written(tokens))
