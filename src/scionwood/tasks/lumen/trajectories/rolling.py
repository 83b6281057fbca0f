"""The window that ends now: what a live loop or a replay knows of the last states."""

from __future__ import annotations

from collections import deque

from scionwood.tasks.lumen.shapes import Point
from scionwood.tasks.lumen.trajectories.robust import Verdict, judge
from scionwood.tasks.lumen.trajectories.settings import Shapes
from scionwood.tasks.lumen.trajectories.windows import GAP, POINTS, STEP


class Rolling:
    """The last ``count`` states at a tick of ``step`` seconds. A long silence, or a clock that was set, empties it."""

    def __init__(self, step: float = STEP, count: int = POINTS, table: Shapes | None = None):
        self.step, self.span, self.table = step, step * (count - 1), table or Shapes()
        self.points: deque[Point] = deque()

    def add(self, p: Point) -> list[Point]:
        """Take in the newest state; returns the window."""
        if self.points and not 0 <= p.t - self.points[-1].t <= GAP * self.step:
            self.points.clear()
        self.points.append(p)
        while p.t - self.points[0].t > self.span + self.step / 2:  # half a tick of leeway, since no tick is exact
            self.points.popleft()
        return list(self.points)

    @property
    def full(self) -> bool:
        """Whether the states span a whole window."""
        return bool(self.points) and self.points[-1].t - self.points[0].t >= self.span - self.step / 2

    def judge(self) -> Verdict:
        """The shape of the window as it is; with too few states it is unclassified."""
        return judge(list(self.points), self.table)
