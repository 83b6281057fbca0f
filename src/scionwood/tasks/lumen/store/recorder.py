"""The recorder: writes readings and states as they come, survives a full or absent disk, and drops what is too old."""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from pathlib import Path
from typing import Iterable

from scionwood.errors import UserError
from scionwood.tasks.lumen.sensing.readings import FIELDS, Reading
from scionwood.tasks.lumen.shapes import DIMENSIONS
from scionwood.tasks.lumen.state.bands import Bands
from scionwood.tasks.lumen.state.eisv import SCALARS, Felt
from scionwood.tasks.lumen.state.settings import State
from scionwood.tasks.lumen.store.schema import connect

STATE_COLUMNS = (*DIMENSIONS, *SCALARS, *Bands._fields)
CLEAN_EVERY_S = 3600.0


class Recorder:
    """One session in a store. ``add`` never raises for the disk's sake: what cannot be written waits, and ``trouble`` says why."""

    def __init__(self, path: Path, source: str, table: State, keep_days: float = 0.0, waiting: int = 1800):
        self.path, self.source, self.table, self.keep_s = Path(path), source, table, keep_days * 86400
        self.pending: deque[tuple[Reading, Felt]] = deque(maxlen=waiting)
        self.dropped = 0  # readings that fell out of ``pending``
        self.trouble = ""
        self.session: int | None = None
        self._cleaned: float | None = None
        self._writing: int | None = None  # the session of the transaction that is open
        self._db: sqlite3.Connection | None = connect(self.path)

    def add(self, r: Reading, felt: Felt) -> None:
        """Keep a reading and its state; committed when this returns, unless ``trouble`` says otherwise."""
        self.dropped += len(self.pending) == self.pending.maxlen
        self.pending.append((r, felt))
        self.flush()

    def add_all(self, pairs: Iterable[tuple[Reading, Felt]]) -> int:
        """Keep many in one transaction; returns how many. Raises UserError where the disk does not let it."""
        count = 0
        try:
            for r, felt in pairs:
                if not count:
                    self._begin(r.t)
                self._insert(r, felt)
                count += 1
            self._commit()
        except sqlite3.Error as e:
            raise UserError(f"{self.path}: cannot be written ({e})") from None
        finally:
            self._rollback()
        return count

    def flush(self) -> None:
        """Write what waits."""
        if not self.pending:
            return
        try:
            if self._db is None or not self.path.exists():  # removed under us: a new file, rather than writing to one without a name
                self._drop_connection()
                self._db = connect(self.path)
            self._begin(self.pending[0][0].t)
            for r, felt in self.pending:
                self._insert(r, felt)
            cleaned = self._clean(self.pending[-1][0].t)
            self._commit()
            self.pending.clear()
            self.trouble = ""
            if cleaned:
                self._db.executescript("PRAGMA incremental_vacuum")  # execute() would give back one page of it
        except (sqlite3.Error, OSError, UserError) as e:
            self.trouble = str(e)
            self._rollback()
            self._drop_connection()

    def close(self) -> None:
        """Write what waits and close the file."""
        self.flush()
        self._drop_connection()

    def _begin(self, started: float) -> None:
        """Begin a transaction, with a row for this session in it."""
        self._db.execute("BEGIN IMMEDIATE")
        known = self._db.execute("SELECT 1 FROM sessions WHERE id = ?", (self.session,)).fetchone()
        self._writing = self.session if known else self._db.execute(
            "INSERT INTO sessions (started, source, state) VALUES (?, ?, ?)",
            (started, self.source, json.dumps(self.table.model_dump()))).lastrowid

    def _commit(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")
            self.session = self._writing

    def _insert(self, r: Reading, felt: Felt) -> None:
        why = None
        if r.reasons:
            text = json.dumps(r.reasons, sort_keys=True)
            self._db.execute("INSERT OR IGNORE INTO reasons (text) VALUES (?)", (text,))
            why = self._db.execute("SELECT id FROM reasons WHERE text = ?", (text,)).fetchone()[0]
        marks = ", ".join("?" * (3 + len(FIELDS)))
        row = self._db.execute(f"INSERT INTO readings (session, t, {', '.join(FIELDS)}, reasons) VALUES ({marks})",
                               (self._writing, r.t, *(r[name] for name in FIELDS), why)).lastrowid
        values = (*felt[1:9], *felt.bands)
        self._db.execute(f"INSERT INTO states (id, {', '.join(STATE_COLUMNS)}) VALUES (?, {', '.join('?' * len(values))})", (row, *values))

    def _clean(self, now: float) -> bool:
        """Drop what is older than the retention, once an hour of recorded time; returns whether it was time to."""
        if not self.keep_s or (self._cleaned is not None and now - self._cleaned < CLEAN_EVERY_S):
            return False
        self._cleaned = now
        self._db.execute("DELETE FROM readings WHERE t < ?", (now - self.keep_s,))
        self._db.execute("DELETE FROM reasons WHERE id NOT IN (SELECT reasons FROM readings WHERE reasons IS NOT NULL)")
        return True

    def _rollback(self) -> None:
        if self._db is not None and self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                pass  # the connection is given up anyway

    def _drop_connection(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
