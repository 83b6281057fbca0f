"""Figures as text for the terminal: aligned tables, a curve in block characters."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from scionwood.tasks.lantern.measures.kinds import COUNT, SHARE, Measure
from scionwood.tasks.lantern.measures.summary import Over

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 60


def number(x: float | None, unit: str = "") -> str:
    """A figure with as many digits as carry meaning."""
    if x is None:
        return "-"
    return f"{x:.1f}" if abs(x) >= 20 or unit == COUNT else f"{x:.3f}"


def interval(low: float | None, high: float | None, unit: str = "") -> str:
    """Two ends with two dots between them."""
    return "-" if low is None else f"{number(low, unit)} .. {number(high, unit)}"


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Aligned columns; the columns numbered in ``right`` are set to the right."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(r, widths))).rstrip() for r in rows)


def prose(m: Measure) -> str:
    """What ordinary prose has, as "mean (5 % .. 95 %)"."""
    o = m.ordinary
    return "-" if o is None else f"{number(o.mean, m.UNIT)} ({interval(o.low, o.high, m.UNIT)})"


def measures(of: dict[str, Measure]) -> str:
    """One row per measure: value, unit, interval, n, what ordinary prose of that length has, source."""
    rows = [["measure", "value", "unit", "95 % interval", "n", "ordinary prose (5 .. 95 %)", "source"]]
    for m in of.values():
        unit = "" if m.UNIT == SHARE else m.UNIT
        rows.append([m.NAME, number(m.value, m.UNIT), unit, interval(m.low, m.high, m.UNIT), f"{m.n:,} {m.OVER}",
                     prose(m), m.SOURCE])
    without = [f"{m.NAME}: {m.why}" for m in of.values() if m.value is None]
    return "\n".join([table(rows, right=(1,)), *(["", *without] if without else [])])


def summary(of: dict[str, Over]) -> str:
    """One row per measure over many documents: mean, interval, SD, range, documents, what ordinary prose has."""
    rows = [["measure", "mean", "95 % interval", "SD", "lowest .. highest", "documents", "ordinary prose (5 .. 95 %)"]]
    for o in of.values():
        m, unit = o.figure(), o.kind.UNIT
        missing = f" ({o.missing} without)" if o.missing else ""
        rows.append([m.NAME, number(m.value, unit), interval(m.low, m.high, unit), number(o.sd, unit),
                     interval(o.least, o.most, unit) if o.documents else "-", f"{o.documents:,}{missing}", prose(m)])
    return table(rows, right=(1, 3))


def curve(points: np.ndarray, width: int = WIDTH) -> str:
    """A curve in one line, from its lowest to its highest value; empty below two points."""
    if len(points) < 2:
        return ""
    means = np.array([part.mean() for part in np.array_split(points, min(width, len(points)))])
    low, high = means.min(), means.max()
    levels = np.zeros(len(means), dtype=int) if high == low else ((means - low) / (high - low) * (len(BLOCKS) - 1)).round().astype(int)
    return f"{low:.2f} {''.join(BLOCKS[i] for i in levels)} {high:.2f}"
