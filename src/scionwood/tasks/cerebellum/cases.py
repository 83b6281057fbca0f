"""The hand-written cases: files to records, records to the cases that a model decides."""

from __future__ import annotations

import datetime
from pathlib import Path

from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.task import Case
from scionwood.tasks.cerebellum.labels import INTENTS, KINDS, RELATIONS

DATA = Path(__file__).parent / "data"
MAX_CANDIDATES = 5


def split_files(folder: Path, split: str) -> list[Path]:
    """The files of a split, in a fixed order."""
    found = sorted((folder / split).glob("*.jsonl"))
    if not found:
        raise UserError(f"{folder / split}: no *.jsonl file with {split} cases")
    return found


def read_records(path: Path) -> list[dict]:
    """Read and check one file of records in the format of GUIDE.md; a bad line is an error naming it."""
    rows = read_jsonl(path)
    for n, row in enumerate(rows, 1):
        problem = check_record(row)
        if problem:
            raise UserError(f"{path}, record {n} ({row.get('id', 'without id')}): {problem}")
    return rows


def check_record(row: dict) -> str | None:
    """What is wrong with a record, or None."""
    for key in ("id", "job", "source", "lang", "gold"):
        if key not in row:
            return f"key '{key}' is missing"
    job, gold = row["job"], row["gold"]
    if job == "classify":
        return None if gold in INTENTS and isinstance(row.get("text"), str) else f"classify needs a text and one of {', '.join(INTENTS)}"
    if job == "memorize":
        ok = isinstance(gold, dict) and gold.get("kind") in KINDS and isinstance(gold.get("mixed"), bool)
        return None if ok and isinstance(row.get("text"), str) else "memorize needs a text and gold {kind, mixed}"
    if job == "arbitrate":
        return check_arbitrate(row, gold)
    return f"unknown job '{job}'"


def check_arbitrate(row: dict, gold) -> str | None:
    """What is wrong with the texts, dates and relations of an arbitrate record, or None."""
    new, stored = row.get("new"), row.get("candidates")
    if not isinstance(new, dict) or not isinstance(stored, list) or not 1 <= len(stored) <= MAX_CANDIDATES:
        return f"arbitrate needs 'new' and 1 to {MAX_CANDIDATES} candidates"
    if gold is not None and (len(gold) != len(stored) or any(g not in RELATIONS for g in gold)):
        return f"gold needs one of {', '.join(RELATIONS)} for each candidate"
    for part in (new, *stored):
        if not isinstance(part.get("text"), str):
            return "'new' and every candidate need a text"
        for key in ("observed_at", "event_time", "valid_from"):
            if part.get(key):
                try:
                    datetime.date.fromisoformat(part[key][:10])
                except ValueError:
                    return f"{key} = {part[key]!r} is not an ISO date"
    return None


def cases_of(row: dict) -> list[Case]:
    """A record as cases: one for classify and memorize, one per candidate for arbitrate.

    Each candidate is decided on its own. So the order of the candidates cannot matter, and a candidate cannot be confused
    with its neighbour; the new text comes first in the prompt and is computed once for all of them.
    """
    common = {"source": row["source"], "job": row["job"], "lang": row["lang"], "slices": tuple(row.get("slices", ())), "parent": row["id"]}
    if row["job"] == "classify":
        return [Case(id=row["id"], input={"text": row["text"]}, reference=row["gold"], **common)]
    if row["job"] == "memorize":
        given = {"text": row["text"], "previous": list(row.get("previous", []))}
        return [Case(id=row["id"], input=given, reference={"kind": row["gold"]["kind"], "mixed": row["gold"]["mixed"]}, **common)]
    return [
        Case(id=f"{row['id']}#m{i}", input={"new": row["new"], "stored": c}, reference=g, **common)
        for i, (c, g) in enumerate(zip(row["candidates"], row["gold"]))
    ]


def time_order(new: dict, stored: dict) -> str:
    """How the time that the new text speaks of lies to that of the stored one. Dates are compared by code, not by a model."""
    a = (new.get("event_time") or new.get("observed_at") or "")[:10]
    b = (stored.get("valid_from") or stored.get("observed_at") or "")[:10]
    if not a or not b:
        return "unknown"
    return "earlier" if a < b else "later" if a > b else "same day"
