"""What the page is told: the last moments of a session, and a wait for the next one."""

from __future__ import annotations

import copy
import threading
from collections import deque
from typing import Any

from scionwood.tasks.lumen.body.light import Temper
from scionwood.tasks.lumen.body.palette import MANNERS, hexed
from scionwood.tasks.lumen.body.twins import lit, png
from scionwood.tasks.lumen.live.outputs import line_of
from scionwood.tasks.lumen.live.session import Moment, Session
from scionwood.tasks.lumen.sensing.readings import FIELDS
from scionwood.tasks.lumen.shapes import ABOUT, SHAPES, UNCLASSIFIED

TICKS = 900  # kept: half an hour at 2 s
SAID = 40  # expressions kept
AHEAD, AHEAD_S = 8, 0.25  # lights that are sent ahead with a tick, so that the page can breathe smoothly


class Feed:
    """A bounded memory of a session. ``add`` is called by the loop, everything else by the threads of the server."""

    def __init__(self, session: Session, source: str):
        self.session, self.source = session, source
        self.news = threading.Condition()
        self.ticks: deque[dict[str, Any]] = deque(maxlen=TICKS)
        self.said: deque[dict[str, Any]] = deque(maxlen=SAID)
        self.image, self.closed = None, False

    def add(self, moment: Moment) -> None:
        """Take in a moment."""
        tick = self._tick(moment)
        with self.news:
            if moment.why:
                tick["expressed"] = line_of(moment)
                self.said.append(tick["expressed"])
            self.ticks.append(tick)
            self.image = self.session.drawing.image()
            self.news.notify_all()

    def _tick(self, m: Moment) -> dict[str, Any]:
        breath, lights = copy.copy(self.session.breath), []
        for k in range(AHEAD):
            lamps = breath.at(m.reading.t + k * AHEAD_S)
            lights.append([[hexed(lamp.colour), round(lamp.brightness, 4), hexed(lit(lamp))] for lamp in lamps])
        felt, inner = m.felt, self.session.drawing.arc.inner
        return {
            "n": m.number, "t": m.reading.t, "state": [round(v, 4) for v in (felt.E, felt.I, felt.S, felt.V)], "shape": m.verdict.shape,
            "verdict": m.verdict.why, "lights": lights, "temper": {k: getattr(felt, k) for k in Temper._fields},
            "expression": {"pattern": m.expression.pattern, "tokens": list(m.expression.tokens)} if m.expression else None,
            "drawing": {"sheet": m.sheet, "phase": m.phase, "gesture": m.gesture, "gestures": self.session.drawing.arc.gestures,
                        "inner": [round(v, 3) for v in inner]},
            "reading": {k: v if v is None else round(v, 2) for k, v in m.reading.values.items()}, "reasons": m.reading.reasons,
        }

    def whole(self) -> dict[str, Any]:
        """Everything that a page needs when it is opened."""
        with self.news:
            return {"source": self.source, "every": self.session.feeling.table.every_s, "ahead": AHEAD_S,
                    "ticks": list(self.ticks), "said": list(self.said),
                    "shapes": {s: ABOUT[s] for s in (*SHAPES, UNCLASSIFIED)}, "fields": FIELDS,
                    "colours": {token: hexed(manner.colour) for token, manner in MANNERS.items()}}

    def after(self, number: int, seconds: float) -> list[dict[str, Any]] | None:
        """The ticks after a number, waiting for one so long at most; None when the session is over."""
        with self.news:
            self.news.wait_for(lambda: self.closed or (self.ticks and self.ticks[-1]["n"] > number), seconds)
            return None if self.closed else [t for t in self.ticks if t["n"] > number]

    def drawing(self) -> bytes | None:
        """The drawing as PNG; None before the first tick."""
        image = self.image
        return png(image) if image else None

    def close(self) -> None:
        """Let every waiting thread go."""
        with self.news:
            self.closed = True
            self.news.notify_all()
