"""What 'scion lumen live' and 'scion lumen watch' run: everything put together, and taken apart again in the end."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

from scionwood.tasks.lumen.body.light import HIGHEST
from scionwood.tasks.lumen.body.twins import Terminal
from scionwood.tasks.lumen.live.loop import Breathing, live, played, sensed
from scionwood.tasks.lumen.live.outputs import Outputs
from scionwood.tasks.lumen.live.session import Moment, Session
from scionwood.tasks.lumen.sensing.readings import Reading
from scionwood.tasks.lumen.settings import Body, body_of
from scionwood.tasks.lumen.stopping import stopped_by_signals
from scionwood.tasks.lumen.student.compact import SHIPPED, CompactStudent


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line. ``page`` 0 means none, unless ``watch`` is set; then it means any free port."""

    replay: Path | None = None
    tempo: float | None = None
    leds: bool = False
    panel: bool = False
    speech: list[list[str]] | None = None
    terminal: Terminal | None = None
    frames: Path | None = None
    gallery: Path | None = None
    journal: Path | None = None
    store: Path | None = None
    page: int = 0
    brightest: float = HIGHEST
    temperature: float = 1.0
    seed: int = 0
    student: Path | None = None
    seconds: float = 0.0
    watch: bool = False


def run(wishes: Wishes, recipe: Path | None, sets: Sequence[str], say: Callable[[str], None]) -> int:
    """Run a body until it is stopped (Ctrl-C, SIGTERM), its time is up, or its recording ends; returns the number of ticks."""
    body = body_of(recipe, sets)
    session = Session(CompactStudent(wishes.student or SHIPPED), body.state, body.shapes, wishes.seed, wishes.temperature,
                      highest=wishes.brightest)
    tempo = (1.0 if wishes.watch else 0.0) if wishes.tempo is None else wishes.tempo
    outputs = Outputs(say, wishes.leds, wishes.panel, wishes.speech, wishes.terminal, wishes.frames, wishes.gallery, wishes.journal,
                      wishes.brightest)
    opened: list[Any] = [outputs]
    watchers: list[Callable[[Moment], None]] = []
    with stopped_by_signals() as stop:
        rest = Breathing(session, outputs, stop, 1.0 if wishes.replay is None else tempo)
        timer = threading.Timer(wishes.seconds, stop.set) if wishes.seconds else None
        try:
            readings = _readings(wishes, body, rest, opened)
            if wishes.store:
                watchers.append(_recorder(wishes, body, opened, say))
            if wishes.page or wishes.watch:
                watchers.append(_page(wishes, session, opened, say))
            if timer:
                timer.start()
            count = live(readings, session, outputs, stop, lambda moment: [w(moment) for w in watchers])
            if wishes.watch and wishes.replay and not stop.is_set():
                say("the recording has ended; the page stays until Ctrl-C")
                stop.wait()
            return count
        finally:
            if timer:
                timer.cancel()
            for thing in reversed(opened):
                thing.close()


def _readings(wishes: Wishes, body: Body, rest: Breathing, opened: list[Any]) -> Iterable[Reading]:
    if wishes.replay:
        from scionwood.tasks.lumen.store.recordings import read_recording

        return played(read_recording(wishes.replay), rest)
    from scionwood.tasks.lumen.sensing.panel import Panel

    panel = Panel(body.sensing)
    opened.append(panel)
    return sensed(panel, body.state.every_s, rest)


def _recorder(wishes: Wishes, body: Body, opened: list[Any], say: Callable[[str], None]) -> Callable[[Moment], None]:
    """Keeps readings and states in a store; a full or absent disk is told once and waited for."""
    from scionwood.tasks.lumen.store.recorder import Recorder

    recorder = Recorder(wishes.store, "live", body.state, body.store.keep_days, body.store.waiting)
    opened.append(recorder)
    told = [""]

    def add(moment: Moment) -> None:
        recorder.add(moment.reading, moment.felt)
        if recorder.trouble != told[0]:
            told[0] = recorder.trouble
            say(f"{wishes.store}: {told[0] or 'written again'}")

    return add


def _page(wishes: Wishes, session: Session, opened: list[Any], say: Callable[[str], None]) -> Callable[[Moment], None]:
    from scionwood.tasks.lumen.live.feed import Feed
    from scionwood.tasks.lumen.live.page import serve

    feed = Feed(session, wishes.replay.name if wishes.replay else "this machine")
    server = serve(feed, wishes.page)
    opened.append(server)
    say(f"watch at {server.address} (Ctrl-C ends it)")
    return feed.add
