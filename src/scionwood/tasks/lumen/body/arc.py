"""What a drawing feels while it is drawn: the published drawing equations, and the arc of a drawing from its opening to its end.

These four values are the drawing's own and have nothing to do with the state of the body. Every gesture of the pen is one Euler step.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import NamedTuple

# Source of equations and constants: DrawingEISV of the device's authors.
DT = 0.1
ALPHA, BETA_E, GAMMA_E, BETA_I, K, GAMMA_I = 0.01, 0.005, 0.002, 0.015, 0.005, 0.012
MU, LAMBDA1, LAMBDA2, KAPPA, DELTA = 0.04, 0.02, 0.008, 0.015, 0.02
START = (0.4, 0.2, 0.5, 0.0)
REMEMBERED = 20  # gestures that entropy and switch rate look back on

OPENING, DEVELOPING, RESOLVING, CLOSING, DONE = PHASES = ("opening", "developing", "resolving", "closing", "done")
FEWEST, MOST = 80, 1200  # gestures: a drawing opens for so long, and never has more


class Inner(NamedTuple):
    """E, I, S and V of the drawing."""

    E: float
    I: float  # noqa: E741 - the published name
    S: float
    V: float

    def coherence(self) -> float:
        """C = (1 + tanh V) / 2."""
        return 0.5 * (1 + math.tanh(self.V))


def step(x: Inner, intent: float, entropy: float, switching: float, dt: float = DT) -> Inner:
    """One Euler step. ``intent``, ``entropy`` and ``switching`` (of the last gestures) are 0 to 1."""
    c = x.coherence()
    dE = ALPHA * (intent - x.E) - BETA_E * x.E * entropy + GAMMA_E * switching**2
    dI = BETA_I * c - K * entropy - GAMMA_I * x.I
    dS = -MU * x.S + LAMBDA1 * switching**2 - LAMBDA2 * c
    dV = KAPPA * (intent - x.E) - DELTA * x.V
    E, I, S = (min(1.0, max(0.0, v + dt * d)) for v, d in ((x.E, dE), (x.I, dI), (x.S, dS)))  # noqa: E741
    return Inner(E, I, S, x.V + dt * dV)


class Arc:
    """The course of one drawing.

    It opens for its first gestures, develops while V (intent not yet met by energy) holds near its height, resolves as V falls, and
    closes when V has lost three fifths of it, or the paper fills, or the gestures are nearly used up.
    """

    def __init__(self, kinds: int):
        self.kinds = kinds
        self.inner = Inner(*START)
        self.recent: deque[str] = deque(maxlen=REMEMBERED)
        self.gestures, self.top, self.phase = 0, 0.0, OPENING

    def entropy(self) -> float:
        """Entropy of the last gestures over the most that there could be, 0 to 1."""
        n = len(self.recent)
        most = math.log(min(self.kinds, n)) if n > 1 else 0.0
        return -sum(c / n * math.log(c / n) for c in Counter(self.recent).values()) / most if most else 0.0

    def switching(self) -> float:
        """Share of the last gestures that differ from the one before, 0 to 1."""
        recent = list(self.recent)
        return sum(a != b for a, b in zip(recent, recent[1:])) / (len(recent) - 1) if len(recent) > 1 else 0.0

    def made(self, gesture: str, intent: float, covered: float) -> None:
        """Count a gesture, made with an intent of 0 to 1, that leaves so much of the paper covered (0 to 1)."""
        self.recent.append(gesture)
        self.gestures += 1
        self.inner = step(self.inner, intent, self.entropy(), self.switching())
        self.top = max(self.top, self.inner.V)
        now = self._now(covered)
        if PHASES.index(now) > PHASES.index(self.phase):  # an arc never goes back
            self.phase = now

    def _now(self, covered: float) -> str:
        share = self.inner.V / self.top if self.top > 0 else 0.0
        if self.gestures >= MOST or covered >= 0.5:
            return DONE
        if self.gestures < FEWEST:
            return OPENING
        if self.phase == CLOSING:
            return DONE if share < 0.3 or self.gestures >= 0.97 * MOST else CLOSING
        if share < 0.4 or covered >= 0.45 or self.gestures >= 0.9 * MOST:
            return CLOSING
        return RESOLVING if share < 0.9 or covered >= 0.36 else DEVELOPING
