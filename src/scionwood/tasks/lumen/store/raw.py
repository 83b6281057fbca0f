"""Raw telemetry: JSON lines of what psutil says, counters and all, to readings.

A line holds ``t`` (seconds since 1970), ``mono`` (a clock that never goes back), ``cpu`` (percent of each core since the line before),
``mem_total`` and ``mem_avail`` (bytes), ``disk_pct``, the counters ``ctx`` and ``irq``, ``disk`` (``rb`` and ``wb`` in bytes, ``busy`` in
milliseconds), ``net`` (bytes received and sent of each interface), and ``temps`` (degrees by sensor). What is not there is not known.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Iterator

from scionwood.errors import UserError
from scionwood.tasks.lumen.sensing.host import CPU_SENSORS, Rates
from scionwood.tasks.lumen.sensing.readings import Reading, reading


def is_raw(first_line: str) -> bool:
    """Whether a file that begins with this line is raw telemetry."""
    try:
        row = json.loads(first_line)
    except ValueError:
        return False
    return isinstance(row, dict) and {"t", "cpu", "ctx"} <= set(row)


def read_raw(path: Path) -> Iterator[Reading]:
    """The readings of a file of raw telemetry. A last line that was cut off in the middle of writing is passed over.

    Raises UserError with file and line number for any other line that cannot be read.
    """
    rates, first = Rates(), True
    try:
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                if not line.strip():
                    continue
                if not line.endswith("\n") and not _whole(line):
                    return
                try:
                    yield _reading(json.loads(line), rates, first)
                except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as e:
                    what = f"key {e} is missing" if isinstance(e, KeyError) else str(e)
                    raise UserError(f"{path}:{number}: not a line of raw telemetry ({what}); mend or remove it") from None
                first = False
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 text ({e})") from None


def cores(path: Path) -> int:
    """How many processor cores the first line tells of."""
    with open(path, encoding="utf-8") as f:
        return len(json.loads(f.readline())["cpu"])


def _whole(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _reading(row: dict[str, Any], rates: Rates, first: bool) -> Reading:
    t, cpu = _number(row["t"]), [_number(v) for v in row["cpu"]]
    counters = {"context_switches_s": row.get("ctx"), "interrupts_s": row.get("irq")}
    if disk := row.get("disk"):
        counters |= {"disk_busy_ms_s": disk.get("busy"), "disk_bytes_s": _number(disk["rb"]) + _number(disk["wb"])}
    if net := row.get("net"):
        counters["net_bytes_s"] = sum(_number(v) for name, both in net.items() if name != "lo" for v in both)
    known = {name: _number(v) for name, v in counters.items() if v is not None}
    values: dict[str, float | None] = dict(rates.next(_number(row.get("mono", t)), known))
    if cpu and not first:  # psutil's first answer means nothing
        values["cpu_pct"] = sum(cpu) / len(cpu)
    if row.get("mem_total"):
        values["memory_pct"] = round(100 * (1 - _number(row["mem_avail"]) / _number(row["mem_total"])), 2)
    if row.get("disk_pct") is not None:
        values["disk_pct"] = _number(row["disk_pct"])
    temperatures = row.get("temps") or {}
    for name in CPU_SENSORS:
        if name in temperatures:
            found = temperatures[name]
            values["cpu_temp_c"] = _number(found[0] if isinstance(found, list) else found)
            break
    why = dict.fromkeys(("cpu_pct", *known), "the first line has no line before it") if first else {}
    return reading(t, values, why)


def _number(value: Any) -> float:
    """A finite number, or a ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return value
