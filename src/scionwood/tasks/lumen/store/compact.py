"""The compact recording: one xz file of CSV with a line of JSON on top, small enough to ship.

The first line is a JSON object: ``format``, ``version``, ``started`` (seconds since 1970), ``columns`` and ``reasons`` (why a column has
no value). Then follow the names of the columns, and a line for each reading: ``t`` in seconds since the start, every value rounded to
what its sensor can tell, nothing where there is none. Columns without any value are left out.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import math
from collections import Counter
from pathlib import Path
from typing import Iterable, Iterator

from scionwood.errors import UserError
from scionwood.files import write_bytes
from scionwood.tasks.lumen.sensing.readings import FIELDS, Reading, reading

FORMAT, VERSION = "lumen-recording", 1
ENDING = ".csv.xz"
DECIMALS = {"t": 2, "cpu_temp_c": 1, "ambient_temp_c": 2, "humidity_pct": 1, "pressure_hpa": 2, "light_lux": 1, "cpu_pct": 1,
            "memory_pct": 2, "disk_pct": 2, "context_switches_s": 0, "interrupts_s": 0, "disk_busy_ms_s": 1, "disk_bytes_s": 0,
            "net_bytes_s": 0}
PRESET = 6  # read back in 9 MB of memory; preset 9 takes 65 MB, which a small machine would miss
LONGEST_LINE = 1_000_000  # characters: what is longer is no recording


def write_compact(path: Path, readings: Iterable[Reading]) -> int:
    """Write a recording atomically; returns the number of readings. Raises UserError where there is none."""
    rows = list(readings)
    if not rows:
        raise UserError("nothing to write: the recording holds no reading")
    columns = [name for name in FIELDS if any(r[name] is not None for r in rows)]
    reasons = {name: Counter(r.reasons[name] for r in rows if r[name] is None).most_common(1)[0][0]
               for name in FIELDS if any(r[name] is None for r in rows)}
    out = io.StringIO(newline="")
    started = rows[0].t
    head = {"format": FORMAT, "version": VERSION, "started": round(started, 2), "columns": columns, "reasons": reasons}
    out.write(json.dumps(head) + "\n")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["t", *columns])
    for r in rows:
        table.writerow([_rounded("t", r.t - round(started, 2)), *(_rounded(name, r[name]) for name in columns)])
    write_bytes(path, lzma.compress(out.getvalue().encode(), preset=PRESET))
    return len(rows)


def read_compact(path: Path) -> Iterator[Reading]:
    """The readings of a compact recording. Raises UserError with file and line where it cannot be read."""
    number = 0
    try:
        with lzma.open(path, "rt", encoding="utf-8", newline="") as f:
            head = _head(path, f.readline(LONGEST_LINE))
            number, table = 2, csv.reader(f)
            if next(table, None) != ["t", *head["columns"]]:
                raise UserError(f"{path}:2: the names of the columns are not those of the first line")
            for number, row in enumerate(table, 3):
                if len(row) != 1 + len(head["columns"]):
                    raise ValueError(f"{len(row)} values, {1 + len(head['columns'])} are expected")
                t, *values = (_value(v) for v in row)
                if t is None:
                    raise ValueError("no time")
                yield reading(head["started"] + t, dict(zip(head["columns"], values)), head["reasons"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (lzma.LZMAError, EOFError, UnicodeDecodeError, csv.Error, ValueError) as e:
        raise UserError(f"{path}{f':{number}' if number else ''}: not a compact recording ({e})") from None


def _head(path: Path, line: str) -> dict:
    head = json.loads(line)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ValueError("the first line does not say so")
    if head.get("version") != VERSION:
        raise UserError(f"{path}: format {head.get('version')}, this scionwood reads {VERSION}; update scionwood")
    columns, reasons = head.get("columns"), head.get("reasons")
    if not isinstance(columns, list) or not set(map(str, columns)) <= set(FIELDS) or not isinstance(reasons, dict):
        raise ValueError("unknown columns")
    _finite(head["started"] if isinstance(head.get("started"), (int, float)) else math.nan)
    return head


def _rounded(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.{DECIMALS[name]}f}"


def _value(text: str) -> float | None:
    return None if text == "" else _finite(float(text))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value
