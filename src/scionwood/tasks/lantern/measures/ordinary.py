"""What ordinary prose of a given length has, from a table that make_ordinary.py computed from a corpus."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

from scionwood.files import read_json
from scionwood.tasks.lantern.measures.kinds import Measure, Ordinary

TABLE = Path(__file__).parent.parent / "data" / "ordinary.json"


@cache
def table() -> dict:
    """The table as it is stored: per language the source, the vocabulary and rows by length."""
    return read_json(TABLE)


def vocabulary_of(lang: str) -> int:
    """How many different words the reference corpus of a language has: the V of EAD where none is named."""
    return table()["languages"][lang]["vocabulary"]


def ordinary(kind: type[Measure], lang: str, words: int) -> Ordinary | None:
    """What ordinary prose of so many words has; None outside the table's lengths or for a measure that is not in it.

    Between two lengths of the table it is interpolated on ln(words). A measure that does not depend on length has, beyond the
    longest passages, what these have.
    """
    rows = [r for r in table()["languages"][lang]["rows"] if kind.NAME in r["measures"]]
    if not rows or words < rows[0]["words"] or (kind.LENGTH_BOUND and words > rows[-1]["words"]):
        return None
    words = min(words, rows[-1]["words"])
    above = next(i for i, r in enumerate(rows) if r["words"] >= words)
    below = above - (rows[above]["words"] > words)
    a, b = rows[below], rows[above]
    share = 0.0 if a is b else math.log(words / a["words"]) / math.log(b["words"] / a["words"])
    mean, low, high = (x + share * (y - x) for x, y in zip(*(r["measures"][kind.NAME] for r in (a, b))))
    return Ordinary(mean, low, high, words, table()["languages"][lang]["source"])
