"""The three prompts: ``card`` and ``table`` tell the shape, ``blind`` shows the window as numbers and tells no shape."""

from __future__ import annotations

from typing import Any, Literal, Sequence

from scionwood.tasks.lumen.grammar import Notation
from scionwood.tasks.lumen.rows import SYSTEM, Numbers, told
from scionwood.tasks.lumen.shapes import DIMENSIONS, Point

Prompt = Literal["card", "table", "blind"]
PROMPTS: tuple[Prompt, ...] = ("card", "table", "blind")
NOTATIONS: dict[Prompt, Notation] = {"card": "card", "table": "rows", "blind": "card"}

CARD = "You are an EISV expression generator. Given trajectory dynamics, produce a primitive expression."
FULL = {"E": "Energy", "I": "Information Integrity", "S": "Entropy", "V": "Void"}
STABLE = 0.05  # net change over the window up to which the card's prompt says "stable"

BLIND = """\
Each line is one sense of a small machine, in percent: E energy, I integrity, S entropy, V void, D drift. The first number is where it \
began, the others are how far it was from there at each later moment.
Say in one expression what it went through."""
EVERY = 2  # of the window's states every second one is printed


def card(shape: str, n: Numbers) -> list[dict[str, str]]:
    """The prompt of the model card. Its dominant dimension is the one with the highest mean; its trend is that dimension's net change."""
    top = max(range(len(DIMENSIONS)), key=n.means.__getitem__)
    change = n.first[top] * n.seconds
    trend = "stable" if abs(change) <= STABLE else "rising" if change > 0 else "falling"
    values = ", ".join(f"{d}={x:.2f}" for d, x in zip(DIMENSIONS, n.means))
    name = DIMENSIONS[top]
    return [{"role": "system", "content": CARD},
            {"role": "user", "content": f"Trajectory shape: {shape}\nEISV values: {values}\nDominant dimension: {name} ({FULL[name]})\n"
                                        f"Trend: {trend}\n\nExpression:"}]


def table(shape: str, n: Numbers) -> list[dict[str, str]]:
    """The prompt of the published data set."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"SHAPE: {shape}\n{told(n)}"}]


def printed(points: Sequence[Point]) -> dict[str, list[int]]:
    """What ``blind`` prints of a window: five rows of whole percents from 0 to 99, every second state."""
    shown = points[::EVERY]
    return {name: [min(99, max(0, round(100 * getattr(p, field)))) for p in shown]
            for name, field in [*((d, d) for d in DIMENSIONS), ("D", "drift")]}


def blind(lines: dict[str, list[int]]) -> list[dict[str, str]]:
    """The window as numbers: of each row its first value, then the distances from it. Nothing is lost, and a move shows in every digit."""
    text = "\n".join(f"{name} {first} " + " ".join(f"{v - first:+d}" if v != first else "0" for v in later)
                     for name, (first, *later) in lines.items())
    return [{"role": "system", "content": BLIND}, {"role": "user", "content": text}]


def numbers_from(value: dict[str, Any]) -> Numbers:
    """The numbers of a case's input."""
    return Numbers(value["states"], value["seconds"], *(tuple(value[k]) for k in ("means", "first", "second")))
