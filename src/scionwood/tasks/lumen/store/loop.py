"""The recording loop, and what a replay makes of readings: states, shapes, a summary."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence

from scionwood.tasks.lumen.sensing.panel import Panel
from scionwood.tasks.lumen.sensing.readings import Reading
from scionwood.tasks.lumen.settings import Body
from scionwood.tasks.lumen.shapes import SHAPES, UNCLASSIFIED, Point
from scionwood.tasks.lumen.state.eisv import Feeling, Felt
from scionwood.tasks.lumen.stopping import Stop, stopped_by_signals
from scionwood.tasks.lumen.store.recorder import Recorder
from scionwood.tasks.lumen.trajectories import published, robust
from scionwood.tasks.lumen.trajectories.robust import Verdict
from scionwood.tasks.lumen.trajectories.rolling import Rolling
from scionwood.tasks.lumen.trajectories.windows import windows


def record_until(store: Path, body: Body, seconds: float, show: Callable[[Felt, Reading], None], say: Callable[[str], None]) -> int:
    """Record for ``seconds`` (0: until Ctrl-C or SIGTERM); returns the number of states. ``say`` hears of trouble, once per kind."""
    recorder = Recorder(store, "sensors", body.state, body.store.keep_days, body.store.waiting)
    panel, feeling, count, told = Panel(body.sensing), Feeling(body.state), 0, ""
    try:
        with stopped_by_signals() as stop:
            for _ in ticks(body.state.every_s, seconds, stop):
                r = panel.read()
                felt = feeling.next(r)
                recorder.add(r, felt)
                count += 1
                show(felt, r)
                if recorder.trouble != told:
                    told = recorder.trouble
                    say(f"{store}: {told}; {len(recorder.pending)} states wait in memory" if told else f"{store}: written again")
    finally:
        panel.close()
        recorder.close()
    return count - recorder.dropped - len(recorder.pending)


def ticks(every: float, seconds: float, stop: Stop, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Count evenly, every so many seconds. A tick that comes too late is left out, not made up for. Ends after ``seconds``, if not 0."""
    start, n = clock(), 0
    while not stop.is_set():
        yield n
        n = max(n + 1, int((clock() - start) / every))
        if (seconds and n * every >= seconds) or stop.wait(max(0.0, start + n * every - clock())):
            return


def played(readings: Iterable[Reading], body: Body) -> Iterator[tuple[Felt, Verdict | None]]:
    """State by state, with the verdict on the window that ends there; None while there is no whole window yet."""
    feeling, rolling = Feeling(body.state), Rolling(body.state.every_s, table=body.shapes)
    for r in readings:
        felt = feeling.next(r)
        rolling.add(felt.point())
        yield felt, rolling.judge() if rolling.full else None


def stretches(points: Sequence[Point], shapes: Sequence[str]) -> list[tuple[float, float, str]]:
    """Runs of states whose windows have the same shape, as (from, to, shape); those without a shape are left out."""
    runs: list[list] = []
    for p, following, shape in zip(points, (*points[1:], points[-1]), shapes):
        if runs and runs[-1][2] == shape and runs[-1][1] == p.t:
            runs[-1][1] = following.t
        else:
            runs.append([p.t, following.t, shape])
    return [(a, b, shape) for a, b, shape in runs if shape]


def summary(points: Sequence[Point], body: Body) -> list[str]:
    """What both classifiers say of the windows of a recording, as lines of a table."""
    whole = list(windows(points, step=body.state.every_s))
    if not whole:
        return [f"{len(points)} states, too few for a window"]
    robustly = Counter(robust.classify(w, body.shapes) for w in whole)
    as_published = Counter(published.classify(w) for w in whole)
    width = max(map(len, SHAPES))
    return [f"{len(points)} states, {len(whole)} windows", f"{'':{width}}  robust  published",
            *(f"{s:{width}}  {robustly[s]:6}  {as_published[s]:9}" for s in (*SHAPES, UNCLASSIFIED) if robustly[s] or as_published[s])]

