"""The loop of a live body: a tick for every reading, lights in between, until it is told to stop."""

from __future__ import annotations

import time
from typing import Callable, Iterable, Iterator, Protocol

from scionwood.tasks.lumen.live.outputs import Outputs
from scionwood.tasks.lumen.live.session import Moment, Session
from scionwood.tasks.lumen.sensing.panel import Panel
from scionwood.tasks.lumen.sensing.readings import Reading

LIGHTS_HZ = 4.0  # new lights a second; a breath takes 6 seconds and more
LONGEST_GAP_S = 10.0  # of a recording that is waited for

Clock = Callable[[], float]


class Stop(Protocol):
    """What ends the loop: ``stopping.Stop``, or an event where no signal sets it."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool: ...


def live(readings: Iterable[Reading], session: Session, outputs: Outputs, stop: Stop,
         seen: Callable[[Moment], None] = lambda moment: None) -> int:
    """Take readings until they end or ``stop`` is set; returns the number of ticks. ``seen`` is told of every moment.

    The readings set the pace: see ``sensed`` and ``played``. Sensors that are lost are None in them, lost outputs are kept by ``outputs``.
    """
    count = 0
    for reading in readings:
        if stop.is_set():
            break
        moment = session.tick(reading)
        outputs.show(session, moment, session.breath.at(reading.t))
        seen(moment)
        count += 1
    return count


class Breathing:
    """Waits, and lets the lights breathe on meanwhile. ``tempo``: seconds of the session in one second."""

    def __init__(self, session: Session, outputs: Outputs, stop: Stop, tempo: float = 1.0, clock: Clock = time.monotonic):
        self.session, self.outputs, self.stop, self.tempo, self.clock = session, outputs, stop, tempo, clock

    def until(self, due: float, t: float) -> None:
        """Wait until the clock shows ``due``. ``t`` is the session's time now, in seconds."""
        began = self.clock()
        while (left := due - self.clock()) > 0 and not self.stop.wait(min(left, 1 / LIGHTS_HZ)):
            self.outputs.lights(self.session.breath.at(t + (self.clock() - began) * self.tempo))


def sensed(panel: Panel, every: float, rest: Breathing) -> Iterator[Reading]:
    """A reading every so many seconds, as evenly as the clock allows. A tick that comes too late is left out, not made up for."""
    start, n = rest.clock(), 0
    while not rest.stop.is_set():
        r = panel.read()
        yield r
        n = max(n + 1, int((rest.clock() - start) / every))
        rest.until(start + n * every, r.t)


def played(readings: Iterable[Reading], rest: Breathing) -> Iterator[Reading]:
    """A recording at the tempo of ``rest``; with 0 nothing is waited for, and lights change at ticks only."""
    due, before = rest.clock(), None
    for r in readings:
        if before is not None and rest.tempo:
            due = max(due + min(max(r.t - before, 0.0), LONGEST_GAP_S) / rest.tempo, rest.clock() - 1.0)  # late by a second at most
            rest.until(due, before)
        before = r.t
        yield r
