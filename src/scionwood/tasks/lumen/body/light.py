"""Three lights that breathe: from an expression, the body's state and the time to three colours with their brightness.

- Colours are those of the tokens. A single token lights the middle and its neighbours more faintly, a pair the two sides, a triple one
  LED each; a repetition lights all three alike and beats twice in a breath; in a question the right LED rises before the breath ends.
- The state sets the rest: stability the length of a breath (6 to 14 s), presence and clarity the brightness, warmth the tint.
- Brightness stays within its bounds, and one expression fades into the next in two seconds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scionwood.tasks.lumen.body.palette import MANNERS, NEUTRAL, RGB, Manner, mix, tinted
from scionwood.tasks.lumen.student.assemble import Expression
from scionwood.tasks.lumen.vocabulary import PAIR, QUESTION, REPETITION, SINGLE

LEDS = 3
LOWEST, HIGHEST = 0.015, 0.12  # of full brightness: a DotStar at 1 dazzles
FADE = 2.0  # seconds
SHORTEST, LONGEST = 6.0, 14.0  # seconds of a breath
FAINT = 0.45  # brightness of the neighbours of a single token, as a share


class Lamp(NamedTuple):
    """One LED: its colour at full light (0 to 255 each), and its brightness (0 to 1)."""

    colour: RGB
    brightness: float


class Temper(NamedTuple):
    """What of the state the body shows, each 0 to 1."""

    warmth: float = 0.5
    clarity: float = 0.5
    stability: float = 0.5
    presence: float = 0.5


class Breath:
    """The lights of a session. ``say`` changes the expression, ``at`` gives the three lamps at a time that never goes backwards.

    The phase of the breath is carried along, so a change of pace never makes the light jump.
    """

    def __init__(self, lowest: float = LOWEST, highest: float = HIGHEST):
        if not 0 <= lowest < highest <= 1:
            raise ValueError(f"brightness bounds {lowest} to {highest}: expected 0 <= lowest < highest <= 1")
        self.lowest, self.highest = lowest, highest
        self.expression: Expression | None = None
        self.before: Expression | None = None
        self.since = -math.inf
        self.temper = Temper()
        self.time: float | None = None
        self.phase = 0.0

    def say(self, expression: Expression, t: float) -> None:
        """A new expression at time ``t`` (seconds)."""
        if expression != self.expression:
            self.before, self.expression, self.since = self.expression, expression, t

    def feel(self, temper: Temper) -> None:
        """A new state of the body."""
        self.temper = temper

    def at(self, t: float) -> tuple[Lamp, Lamp, Lamp]:
        """The three lamps, left to right, at time ``t``."""
        manner = _mean(self.expression)
        period = (SHORTEST + (LONGEST - SHORTEST) * self.temper.stability) / manner.pace
        self.phase = (self.phase + max(0.0, t - (t if self.time is None else self.time)) / period) % 1.0
        self.time = t
        share = min(1.0, max(0.0, (t - self.since) / FADE))
        new, old = self._lamps(self.expression), self._lamps(self.before)
        return tuple(Lamp(mix(a.colour, b.colour, share), a.brightness + (b.brightness - a.brightness) * share) for a, b in zip(old, new))

    def _lamps(self, expression: Expression | None) -> list[Lamp]:
        colours, levels = _spread(expression)
        manner, temper = _mean(expression), self.temper
        base = 0.35 + 0.4 * temper.presence + 0.25 * temper.clarity
        lamps = []
        for k, (colour, level) in enumerate(zip(colours, levels)):
            phase = self.phase - manner.lean * k / (LEDS - 1)
            wave = _wave(phase, expression.pattern if expression else SINGLE, k)
            light = base * level * (1 - manner.depth * (1 - wave))
            lamps.append(Lamp(tinted(colour, temper.warmth), min(self.highest, max(self.lowest, self.highest * light))))
        return lamps


def _wave(phase: float, pattern: str, led: int) -> float:
    """How far a breath is in, 0 to 1, at a phase in breaths."""
    if pattern == REPETITION:  # two beats, then a rest
        beat = (phase % 1.0) * 2.5
        return math.sin(math.pi * (beat % 1.0)) ** 2 if beat < 2 else 0.0
    wave = 0.5 - 0.5 * math.cos(2 * math.pi * phase)
    if pattern == QUESTION and led == LEDS - 1:  # the voice goes up at the end
        late = max(0.0, (phase % 1.0) - 0.55) / 0.45
        wave = max(wave, math.sin(math.pi * late) if late else 0.0)
    return wave


def _spread(expression: Expression | None) -> tuple[list[RGB], list[float]]:
    """The three colours, and the three levels (0 to 1)."""
    if expression is None:
        return [NEUTRAL.colour] * LEDS, [FAINT] * LEDS
    colours = [MANNERS[t].colour for t in expression.tokens]
    if expression.pattern == SINGLE:
        return colours * LEDS, [FAINT, 1.0, FAINT]
    if expression.pattern == PAIR or len(colours) == 2:
        return [colours[0], mix(*colours, 0.5), colours[1]], [1.0, 1.0 if expression.pattern == REPETITION else FAINT, 1.0]
    return colours, [1.0] * LEDS


def _mean(expression: Expression | None) -> Manner:
    """The manner of an expression: the mean of its tokens' paces, leans and depths."""
    if expression is None:
        return NEUTRAL
    manners = [MANNERS[t] for t in expression.tokens]
    pace, lean, depth = (sum(getattr(m, k) for m in manners) / len(manners) for k in ("pace", "lean", "depth"))
    return manners[0]._replace(pace=pace, lean=lean, depth=depth)
