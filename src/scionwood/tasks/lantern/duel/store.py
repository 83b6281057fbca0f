"""Ratings in SQLite: every choice is kept, the ones that were undone among them."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import NamedTuple

from scionwood.errors import UserError
from scionwood.tasks.lantern.duel.pairs import FIRST, SECOND, SKIP, TIE

BUSY_S = 5.0
TABLES = f"""
CREATE TABLE IF NOT EXISTS ratings (
    id INTEGER PRIMARY KEY, rater TEXT NOT NULL, pair TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('{FIRST}', '{SECOND}', '{TIE}', '{SKIP}')),
    first_left INTEGER NOT NULL, at REAL NOT NULL, seconds REAL, undone INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX IF NOT EXISTS one_each ON ratings (rater, pair) WHERE undone = 0;
"""
VERSION = 1


class Rating(NamedTuple):
    """What one rater said of one pair, in the order in which it was said. ``first_left``: how the sides lay."""

    rater: str
    pair: str
    choice: str
    first_left: bool


class Store:
    """One file of ratings, for any number of threads and, through write-ahead logging, of processes."""

    def __init__(self, path: Path):
        self.path, self.lock = Path(path), threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")  # a rating costs a person a minute: none is lost to a power cut
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise UserError(f"{self.path}: ratings of a newer version ({version}); update scionwood")
            self.db.executescript(TABLES)
            self.db.execute(f"PRAGMA user_version = {VERSION}")
        except (sqlite3.Error, OSError) as e:
            raise UserError(f"{self.path}: cannot be opened as ratings ({e}); move it away or mend it") from None

    def add(self, rating: Rating, seconds: float | None) -> bool:
        """Keep a rating; False where this rater has rated the pair already (a key pressed twice, a second window)."""
        with self.lock:
            try:
                self.db.execute(
                    "INSERT INTO ratings (rater, pair, choice, first_left, at, seconds) VALUES (?, ?, ?, ?, ?, ?)",
                    (rating.rater, rating.pair, rating.choice, int(rating.first_left), time.time(), seconds),
                )
            except sqlite3.IntegrityError:
                return False
            return True

    def undo(self, rater: str) -> str | None:
        """Take back the last rating of a rater; returns its pair, or None where there is none."""
        with self.lock:
            row = self.db.execute(
                "SELECT id, pair FROM ratings WHERE rater = ? AND undone = 0 ORDER BY id DESC LIMIT 1", (rater,)
            ).fetchone()
            if row is None:
                return None
            self.db.execute("UPDATE ratings SET undone = 1 WHERE id = ?", (row[0],))
            return row[1]

    def all(self) -> list[Rating]:
        """Every rating that stands, in the order of time."""
        with self.lock:
            rows = self.db.execute("SELECT rater, pair, choice, first_left FROM ratings WHERE undone = 0 ORDER BY id").fetchall()
        return [Rating(r, p, c, bool(left)) for r, p, c, left in rows]

    def of(self, rater: str) -> dict[str, str]:
        """Choice by pair of one rater."""
        return {r.pair: r.choice for r in self.all() if r.rater == rater}

    def close(self) -> None:
        """Close the file; what was written ahead goes into it."""
        with self.lock:
            self.db.close()


def read_ratings(path: Path) -> list[Rating]:
    """The ratings of a file that is only read; none where there is no file."""
    if not Path(path).is_file():
        return []
    store = Store(path)
    try:
        return store.all()
    finally:
        store.close()
