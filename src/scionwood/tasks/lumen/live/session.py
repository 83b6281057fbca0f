"""One session of a body, from reading to expression to light, drawing and voice. The same readings and seed give the same session."""

from __future__ import annotations

import random
from typing import Any, Callable, NamedTuple, Sequence

from scionwood.tasks.lumen.body.drawing import Drawing
from scionwood.tasks.lumen.body.light import HIGHEST, LOWEST, Breath, Temper
from scionwood.tasks.lumen.body.voice import Voice
from scionwood.tasks.lumen.sensing.readings import Reading
from scionwood.tasks.lumen.shapes import UNCLASSIFIED, Point
from scionwood.tasks.lumen.state.eisv import Feeling, Felt
from scionwood.tasks.lumen.state.settings import State
from scionwood.tasks.lumen.student.assemble import FORESTS, Expression, decide, drawing
from scionwood.tasks.lumen.student.compact import CompactStudent
from scionwood.tasks.lumen.student.features import NUMBERS, features_of, numbers_of_points
from scionwood.tasks.lumen.trajectories.robust import Verdict
from scionwood.tasks.lumen.trajectories.rolling import Rolling
from scionwood.tasks.lumen.trajectories.settings import Shapes
from scionwood.tasks.lumen.vocabulary import PATTERNS, TOKENS

SOON_S = 10.0  # between two expressions at least
EVERY_S = 60.0  # after so long the same shape is expressed anew
SURE = 2  # states in a row that a new shape must hold


class Why(NamedTuple):
    """Why an expression was chosen. ``odds`` holds, for each forest that was asked, the share of every class that was allowed."""

    occasion: str
    shape: str
    verdict: str
    numbers: dict[str, float]
    odds: dict[str, dict[str, float]]


class Moment(NamedTuple):
    """All that one tick brought. ``why`` and ``said`` are None and empty unless the expression is new."""

    number: int
    reading: Reading
    felt: Felt
    verdict: Verdict
    expression: Expression | None
    why: Why | None
    said: str
    gesture: str
    sheet: int
    phase: str


class Session:
    """The state of a session. ``tick`` takes one reading; ``breath`` gives the lights at any time, ``drawing`` the picture."""

    def __init__(self, student: CompactStudent, state: State | None = None, shapes: Shapes | None = None, seed: int | str = 0,
                 temperature: float = 1.0, lowest: float = LOWEST, highest: float = HIGHEST):
        self.student, self.feeling = student, Feeling(state or State())
        self.rolling = Rolling(self.feeling.table.every_s, table=shapes)
        self.choose = drawing(random.Random(f"expression/{seed}"), temperature)
        self.breath, self.drawing, self.voice = Breath(lowest, highest), Drawing(seed), Voice(seed)
        self.expression: Expression | None = None
        self.expressed_at, self.expressed_shape = 0.0, ""
        self.shape, self.held, self.number, self.said = "", 0, 0, ""
        self.window: list[Point] = []

    def tick(self, reading: Reading) -> Moment:
        """Take one reading; times need not be regular."""
        felt = self.feeling.next(reading)
        self.window = self.rolling.add(felt.point())
        verdict = self.rolling.judge()
        self.held = self.held + 1 if verdict.shape == self.shape else 1
        self.shape = verdict.shape
        why, said = None, ""
        occasion = self._occasion(reading.t)
        if occasion:
            why = self._express(occasion, verdict, reading.t)
            self.said = said = self.voice.say(self.expression, verdict.shape, reading)
        temper = Temper(felt.warmth, felt.clarity, felt.stability, felt.presence)
        self.breath.feel(temper)
        gesture = self.drawing.gesture(self.expression, temper)
        self.number += 1
        return Moment(self.number, reading, felt, verdict, self.expression, why, said, gesture, self.drawing.number, self.drawing.arc.phase)

    def _occasion(self, t: float) -> str:
        """Why something should be expressed now; empty where nothing should."""
        if self.shape == UNCLASSIFIED or self.held < SURE:
            return ""
        if self.expression is None:
            return "the first shape of the session"
        since = t - self.expressed_at
        if since < 0:
            return "the clock was set back"
        if self.shape != self.expressed_shape and since >= SOON_S:
            return f"the shape was {self.expressed_shape}, and is {self.shape} now"
        return f"{since:.0f} seconds have passed" if since >= EVERY_S else ""

    def _express(self, occasion: str, verdict: Verdict, t: float) -> Why:
        """Ask the student, and keep what it weighed."""
        numbers = numbers_of_points(self.window)
        odds: dict[str, dict[str, float]] = {}
        scores, choose = _traced(self.student, self.choose, odds)
        self.expression = decide(scores, features_of(numbers, verdict.shape), choose)
        self.expressed_at, self.expressed_shape = t, verdict.shape
        self.breath.say(self.expression, t)
        return Why(occasion, verdict.shape, verdict.why, dict(zip(NUMBERS, numbers)), odds)


def _traced(scores: Callable, choose: Callable, odds: dict[str, dict[str, float]]) -> tuple[Callable, Callable]:
    """Scores and a choice that also write down what was weighed: the shares of the allowed classes."""
    asked = iter(FORESTS)

    def chosen(weights: Sequence[float], classes: Sequence[int]) -> int:
        forest = next(asked)
        names: Sequence[Any] = PATTERNS if forest == "pattern" else [*TOKENS, "none"]
        total = sum(weights[c] for c in classes)
        odds[forest] = {names[c]: weights[c] / total if total else 1 / len(classes) for c in classes}
        return choose(weights, classes)

    return scores, chosen
