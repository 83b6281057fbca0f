"""The tables of a store, as migrations: each brings a store of the version before to its own, in one transaction."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from scionwood.errors import UserError

# Never change a migration that was released: add one. Column names are the fields of a reading and of a state.
MIGRATIONS = (
    """
    CREATE TABLE sessions (id INTEGER PRIMARY KEY, started REAL NOT NULL, source TEXT NOT NULL, state TEXT NOT NULL);
    CREATE TABLE reasons (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
    CREATE TABLE readings (
        id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions, t REAL NOT NULL,
        cpu_temp_c REAL, ambient_temp_c REAL, humidity_pct REAL, pressure_hpa REAL, light_lux REAL,
        cpu_pct REAL, memory_pct REAL, disk_pct REAL, context_switches_s REAL, interrupts_s REAL,
        disk_busy_ms_s REAL, disk_bytes_s REAL, net_bytes_s REAL, reasons INTEGER REFERENCES reasons);
    CREATE INDEX readings_by_time ON readings (t);
    CREATE TABLE states (
        id INTEGER PRIMARY KEY REFERENCES readings ON DELETE CASCADE,
        E REAL NOT NULL, I REAL NOT NULL, S REAL NOT NULL, V REAL NOT NULL,
        warmth REAL NOT NULL, clarity REAL NOT NULL, stability REAL NOT NULL, presence REAL NOT NULL,
        alpha REAL NOT NULL, beta REAL NOT NULL, gamma REAL NOT NULL, theta REAL NOT NULL, delta REAL NOT NULL);
    """,
    """
    CREATE TABLE published (
        id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE, text TEXT NOT NULL, shape TEXT NOT NULL,
        pattern TEXT NOT NULL, answer TEXT NOT NULL, states INTEGER NOT NULL, seconds REAL NOT NULL,
        E REAL NOT NULL, I REAL NOT NULL, S REAL NOT NULL, V REAL NOT NULL,
        dE REAL NOT NULL, dI REAL NOT NULL, dS REAL NOT NULL, dV REAL NOT NULL,
        d2E REAL NOT NULL, d2I REAL NOT NULL, d2S REAL NOT NULL, d2V REAL NOT NULL);
    """,
)
BUSY_S = 5.0  # how long one process waits for another that writes


def connect(path: Path, new: bool = True) -> sqlite3.Connection:
    """Open a store, made or brought up to date where needed. Raises UserError where it is no store, or a newer program's.

    Write-ahead logging: a process that is killed loses at most what it had not committed, and readers never wait for the writer.
    """
    if not new and not Path(path).is_file():
        raise UserError(f"{path}: no such store; 'scion lumen record' or 'scion lumen import' make one")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    except (sqlite3.OperationalError, OSError) as e:
        raise UserError(f"{path}: cannot be opened ({e})") from None
    try:
        return _ready(db, path)
    except sqlite3.DatabaseError as e:
        db.close()
        raise UserError(f"{path}: not a store of scion lumen ({e})") from None
    except BaseException:
        db.close()
        raise


def _ready(db: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise UserError(f"{path}: written by a newer scionwood (format {version}, this one knows {len(MIGRATIONS)}); update scionwood")
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise UserError(f"{path}: an SQLite file, but not a store of scion lumen; name another file")
    if version == 0:  # both are kept in the file, and setting them anew would need the writer's lock
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect only before the first table
        db.execute("PRAGMA journal_mode = WAL")
    for number in range(version, len(MIGRATIONS)):
        _migrate(db, number)
    return db


def _migrate(db: sqlite3.Connection, number: int) -> None:
    """One migration, whole or not at all. Where another process was quicker, nothing is left to do."""
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] == number:
            for statement in filter(str.strip, MIGRATIONS[number].split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number + 1}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
