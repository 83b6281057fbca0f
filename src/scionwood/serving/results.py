"""The durable queue: late answers, and the requests that still wait for theirs. One SQLite file that a kill cannot break.

A request is written when its caller was given the safe default, and removed when its answer is there. One that holds a secret
value is never written, nor is its answer: of such an entry the file has the id alone, and the rest lives and dies with the process.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scionwood.errors import UserError

PENDING, DONE, LOST = "pending", "done", "lost"
MOST_KEPT = 50_000  # answers; about 30 MB
MOST_TRIES = 3  # a request that brought the process down three times is not tried again
TABLE = """
CREATE TABLE IF NOT EXISTS results (
  id TEXT PRIMARY KEY, route TEXT NOT NULL, private INTEGER NOT NULL, request TEXT, response TEXT,
  tries INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, finished REAL
) STRICT"""


@dataclass(frozen=True)
class Entry:
    """A late answer. ``state``: pending, done, or lost (it held a secret and the process that knew it has ended)."""

    id: str
    route: str
    state: str
    response: dict[str, Any] | None


@dataclass(frozen=True)
class Unfinished:
    """A request to complete after a restart. ``tries``: how often work on it was begun."""

    id: str
    route: str
    request: Any
    tries: int


class Results:
    """The queue in ``folder``, which one process may use at a time. Safe to call from any thread."""

    def __init__(self, folder: Path, keep_hours: float = 24.0):
        self.folder, self.keep_seconds = Path(folder), keep_hours * 3600
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.guard = self._lock()
        path = self.folder / "results.sqlite"
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # its owner's alone; SQLite gives the same rights to its journal
        self.mutex = threading.Lock()
        self.private: dict[str, tuple[dict[str, Any] | None, float]] = {}
        try:
            self.db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            for line in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA secure_delete=ON", TABLE):
                self.db.execute(line)
            self.waiting = self.db.execute("SELECT count(*) FROM results WHERE request IS NOT NULL").fetchone()[0]
            self.purge()
        except sqlite3.DatabaseError as e:
            self.guard.close()
            if isinstance(e, sqlite3.OperationalError):  # of the system, not of the file: what was promised is still in it
                raise UserError(f"{path}: cannot be used now ({e}); see that the disk has room "
                                "and that no other program holds the file") from None
            raise UserError(f"{path}: not a queue of ours ({e}); move it away") from None

    def _lock(self):
        handle = open(self.folder / "lock", "w")
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # not a POSIX system: no lock
            pass
        except OSError:
            handle.close()
            raise UserError(f"{self.folder}: another sidecar keeps its late answers there; name another folder with --state") from None
        return handle

    def add(self, id: str, route: str, request: Any, private: bool = False) -> None:
        """A request whose caller has gone. It is on the disk when this returns."""
        text = None if private else json.dumps(request)
        with self.mutex:
            self.db.execute("INSERT INTO results (id, route, private, request, tries, created) VALUES (?, ?, ?, ?, 1, ?)",
                            (id, route, int(private), text, time.time()))
            if private:
                self.private[id] = (None, time.time())
            self.waiting += 1

    def finish(self, id: str, response: dict[str, Any]) -> None:
        """The late answer. The request is no longer needed and goes."""
        with self.mutex:
            private = id in self.private
            if private:
                self.private[id] = (response, time.time())
            text = None if private else json.dumps(response)
            self.db.execute("UPDATE results SET response = ?, request = NULL, finished = ? WHERE id = ?", (text, time.time(), id))
            self.waiting -= 1

    def get(self, id: str) -> Entry | None:
        """What is known of an id; None where it never was or is no longer kept."""
        with self.mutex:
            row = self.db.execute("SELECT route, private, response FROM results WHERE id = ?", (id,)).fetchone()
            if row is None:
                return None
            route, private, text = row
            if not private:
                return Entry(id, route, DONE if text else PENDING, json.loads(text) if text else None)
            if id not in self.private:
                return Entry(id, route, LOST, None)
            response = self.private[id][0]
            return Entry(id, route, DONE if response else PENDING, response)

    def unfinished(self) -> list[Unfinished]:
        """The requests that wait for their answers, the oldest first."""
        with self.mutex:
            rows = self.db.execute("SELECT id, route, request, tries FROM results WHERE request IS NOT NULL ORDER BY created").fetchall()
        return [Unfinished(id, route, json.loads(request), tries) for id, route, request, tries in rows]

    def begin(self, id: str) -> None:
        """Work on an unfinished request begins once more. A start of the process that never comes so far is no try of the request's."""
        with self.mutex:
            self.db.execute("UPDATE results SET tries = tries + 1 WHERE id = ?", (id,))

    def purge(self) -> int:
        """Forget answers that are older than ``keep_hours`` or beyond the newest ``MOST_KEPT``, fetched or not; returns how many."""
        oldest = time.time() - self.keep_seconds
        with self.mutex:
            gone = self.db.execute("DELETE FROM results WHERE request IS NULL AND coalesce(finished, created) < ?", (oldest,)).rowcount
            gone += self.db.execute("DELETE FROM results WHERE id IN (SELECT id FROM results WHERE finished IS NOT NULL "
                                    "ORDER BY finished DESC LIMIT -1 OFFSET ?)", (MOST_KEPT,)).rowcount
            for id in [i for i, (_, at) in self.private.items() if at < oldest]:
                del self.private[id]
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that what was deleted leaves the journal too
        return gone

    def close(self) -> None:
        with self.mutex:
            self.db.close()
            self.guard.close()
