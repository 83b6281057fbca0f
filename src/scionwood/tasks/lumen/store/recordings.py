"""Recordings of any kind, played back: a store, a compact recording, raw telemetry."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Callable, Iterable, Iterator

from scionwood.errors import UserError
from scionwood.settings import check
from scionwood.tasks.lumen.sensing.readings import FIELDS, Reading, reading
from scionwood.tasks.lumen.state.settings import State
from scionwood.tasks.lumen.store.compact import read_compact
from scionwood.tasks.lumen.store.raw import is_raw, read_raw
from scionwood.tasks.lumen.store.schema import connect


def kind_of(path: Path) -> str:
    """"store", "compact" or "raw", by what a file begins with. Raises UserError for anything else."""
    try:
        with open(path, "rb") as f:
            start = f.read(65536)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from None
    if start.startswith(b"SQLite format 3\0"):
        return "store"
    if start.startswith(b"\xfd7zXZ\0"):
        return "compact"
    if is_raw(start.split(b"\n")[0].decode("utf-8", "replace")):
        return "raw"
    raise UserError(f"{path}: not a recording (a store, a compact recording .csv.xz, or raw telemetry in JSON lines)")


def sessions(path: Path) -> list[dict]:
    """The sessions of a store that hold readings: id, start, source, the [state] table they were felt with, and count."""
    db = connect(path, new=False)
    try:
        found = db.execute("SELECT s.id, s.started, s.source, s.state, count(*) FROM sessions s JOIN readings r ON r.session = s.id "
                           "GROUP BY s.id ORDER BY s.id").fetchall()
    finally:
        db.close()
    return [{"id": i, "started": t, "source": source, "state": json.loads(state), "count": n} for i, t, source, state, n in found]


def read_session(path: Path, session: int) -> Iterator[Reading]:
    """The readings of one session of a store, in the order in which they were written."""
    db = connect(path, new=False)
    try:
        rows = db.execute(f"SELECT r.t, {', '.join('r.' + name for name in FIELDS)}, w.text FROM readings r "
                          "LEFT JOIN reasons w ON w.id = r.reasons WHERE r.session = ? ORDER BY r.id", (session,))
        for t, *values, why in rows:
            yield reading(t, dict(zip(FIELDS, values)), json.loads(why) if why else {})
    finally:
        db.close()


def recorded_state(path: Path, session: int | None = None) -> State | None:
    """The [state] table that a session of a store was felt with (default: the last); None for recordings of other kinds."""
    if kind_of(path) != "store":
        return None
    tables = {s["id"]: s["state"] for s in sessions(path)}
    found = tables.get(session if session is not None else max(tables, default=None))
    return check(found, State, f"{path}: [state] of the session") if found else None


def read_recording(path: Path, session: int | None = None) -> Iterator[Reading]:
    """The readings of a recording of any kind. Of a store, one session: the given one, or the last that holds readings."""
    kind = kind_of(path)
    if kind != "store":
        if session is not None:
            raise UserError(f"{path}: only a store has sessions")
        return read_compact(path) if kind == "compact" else read_raw(path)
    known = [s["id"] for s in sessions(path)]
    if not known:
        raise UserError(f"{path}: the store holds no reading yet")
    if session is not None and session not in known:
        raise UserError(f"{path}: no session {session} (known: {', '.join(map(str, known))})")
    return read_session(path, known[-1] if session is None else session)


def paced(readings: Iterable[Reading], tempo: float, longest: float = 10.0, clock: Callable[[], float] = time.monotonic,
          sleep: Callable[[float], None] = time.sleep) -> Iterator[Reading]:
    """Readings in their own time, ``tempo`` times as fast; 0 does not wait at all. A gap is waited for ``longest`` recorded seconds.

    Waits are held against the clock, so that the time that is spent between two readings does not add up.
    """
    due, before = clock(), None
    for r in readings:
        if tempo and before is not None:
            due = max(due + min(max(r.t - before, 0.0), longest) / tempo, clock() - 1.0)  # late by a second at most, then go on from there
            if (wait := due - clock()) > 0:
                sleep(wait)
        before = r.t
        yield r
