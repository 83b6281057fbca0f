"""Rows in the published format, read back: ``text``, ``shape``, ``pattern`` and ``messages``."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any, Iterator

from scionwood.errors import UserError
from scionwood.files import read_json, read_jsonl
from scionwood.tasks.lumen.rows import Numbers, Row
from scionwood.tasks.lumen.shapes import DIMENSIONS, SHAPES
from scionwood.tasks.lumen.store.schema import connect

NUMBER = r"(-?\d+(?:\.\d+)?)"


def _line(title: str, prefix: str) -> str:
    return title + ": " + " ".join(f"{prefix}{d}={NUMBER}" for d in DIMENSIONS)


USER = re.compile("\n".join([
    r"SHAPE: (\w+)", rf"WINDOW: n_states=(\d+) duration={NUMBER}", _line("MEAN_EISV", ""), _line("DERIVATIVES", "d"),
    _line("SECOND_DERIVATIVES", "d2")]))


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSON list or of JSON lines. Raises UserError naming file and row where one is not in the published format."""
    values = read_jsonl(path) if Path(path).suffix == ".jsonl" else read_json(path)
    if not isinstance(values, list):
        raise UserError(f"{path}: a list of rows is expected")
    return [_row(value, f"{path}: row {number}") for number, value in enumerate(values, 1)]


def is_rows(path: Path) -> bool:
    """Whether a file looks like rows in the published format."""
    with open(path, encoding="utf-8", errors="replace") as f:
        start = f.read(4096)
    return '"text"' in start and "<|system|>" in start


def import_rows(path: Path, store: Path) -> int:
    """Bring the rows of a file into a store, as one session; returns how many. All of them or none."""
    rows = read_rows(path)
    db = connect(store)
    try:
        db.execute("BEGIN IMMEDIATE")
        session = db.execute("INSERT INTO sessions (started, source, state) VALUES (0, ?, '{}')", (f"rows of {path.name}",)).lastrowid
        for row in rows:
            n, value = row.numbers, row.value()
            values = (session, value["text"], row.shape, value["pattern"], row.answer, n.states, n.seconds, *n.means, *n.first, *n.second)
            db.execute(f"INSERT INTO published VALUES (NULL, {', '.join('?' * len(values))})", values)
        db.execute("COMMIT")
    except sqlite3.Error as e:
        raise UserError(f"{store}: cannot be written ({e})") from None
    finally:
        db.close()
    return len(rows)


def stored_rows(store: Path) -> Iterator[dict[str, Any]]:
    """The rows of a store, as they were in the file that they came from."""
    db = connect(store, new=False)
    try:
        for (text,) in db.execute("SELECT text FROM published ORDER BY id"):
            yield _parsed(text).value()
    finally:
        db.close()


def _row(value: Any, where: str) -> Row:
    """One row, checked against itself: text and messages must say the same."""
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise UserError(f"{where}: key 'text' is missing")
    try:
        row = _parsed(value["text"])
    except ValueError as e:
        raise UserError(f"{where}: {e}") from None
    said = row.value()
    for key in ("shape", "pattern", "messages", "text"):
        if value.get(key, said[key]) != said[key]:
            raise UserError(f"{where}: '{key}' does not agree with 'text'")
    return row


def _parsed(text: str) -> Row:
    """A row from its text. Raises ValueError."""
    parts = re.fullmatch(r"<\|system\|>\n(.*?)\n<\|user\|>\n(.*?)\n<\|assistant\|>\n(.*)", text, re.S)
    if parts is None:
        raise ValueError("the text is not system, user and assistant")
    user = USER.fullmatch(parts[2])
    if user is None:
        raise ValueError("the user's lines are not SHAPE, WINDOW, MEAN_EISV, DERIVATIVES, SECOND_DERIVATIVES")
    shape, states, seconds, *numbers = user.groups()
    if shape not in SHAPES:
        raise ValueError(f"unknown shape '{shape}'")
    values = tuple(float(x) for x in numbers)
    return Row(shape, Numbers(int(states), float(seconds), values[:4], values[4:8], values[8:]), parts[3])
