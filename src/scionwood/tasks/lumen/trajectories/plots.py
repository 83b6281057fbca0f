"""Drawings of windows and recordings with their shapes, in the style of the report."""

from __future__ import annotations

from typing import Any, Sequence

from scionwood.evidence.drawing import COLOURS, INK, MUTED, drawn
from scionwood.tasks.lumen.shapes import DIMENSIONS, SHAPES, UNCLASSIFIED, Point
from scionwood.tasks.lumen.trajectories import published, robust
from scionwood.tasks.lumen.trajectories.windows import even, merged

NAMES = {"E": "energy", "I": "integrity", "S": "entropy", "V": "void"}
LINES = {d: (colour, style) for d, colour, style in zip(DIMENSIONS, COLOURS.values(), ("-", "--", "-.", ":"))}
CALM, MOVING = ("settled_presence", "convergence"), 0.08
BANDS = {**dict.fromkeys(SHAPES, COLOURS["base"]), **dict.fromkeys(CALM, COLOURS["adapter"]), UNCLASSIFIED: MUTED}


def window_drawing(points: Sequence[Point], name: str = "window") -> str:
    """One window as inline SVG: the states as they came, the smoothed curves on the grid, and what both classifiers say of it."""
    verdict, published_shape = robust.judge(points), published.classify(points)
    title = f"{words(verdict.shape)}: {verdict.why}"

    def paint(axes: Any) -> None:
        start = min(p.t for p in points)
        clean = merged(points)
        for d, (colour, style) in LINES.items():
            axes.plot([p.t - start for p in points], [getattr(p, d) for p in points], "o", color=colour, markersize=2.5, alpha=.45)
            if len(clean) > 1:
                grid = even(clean, robust.GRID)
                curve = robust.smoothed([getattr(p, d) for p in grid])
                axes.plot([p.t - start for p in grid], curve, style, color=colour, linewidth=1.6)
        _label_ends(axes, points, start)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel(f"seconds; the published rules say {words(published_shape)}")
        axes.grid(axis="y")

    return drawn(name, f"A window of E, I, S and V. {title}.", 2.6, paint)


def recording_drawing(points: Sequence[Point], shapes: Sequence[tuple[float, float, str]], name: str = "recording") -> str:
    """A whole recording as inline SVG: one strip per dimension, and below them the shape of each stretch (from, to, shape)."""
    start = points[0].t
    found = [s for s in (*SHAPES, UNCLASSIFIED) if any(shape == s for _, _, shape in shapes)]
    scale, unit = (3600.0, "hours") if points[-1].t - start > 2 * 3600 else (60.0, "minutes")

    def paint(axes: Any) -> None:
        for strip, (d, (colour, _)) in zip(axes, LINES.items()):
            strip.plot([(p.t - start) / scale for p in points], [getattr(p, d) for p in points], color=colour, linewidth=.7)
            strip.set_ylabel(f"{d}\n{NAMES[d]}", rotation=0, ha="right", va="center", color=INK)
            strip.grid(axis="y")
            strip.margins(x=0)
        bands = axes[-1]
        for row, shape in enumerate(found):
            stretches = [((a - start) / scale, (b - a) / scale) for a, b, s in shapes if s == shape]
            bands.broken_barh(stretches, (row - .4, .8), color=BANDS[shape], linewidth=0)
        bands.set_yticks(range(len(found)), [words(s) for s in found])
        bands.set_ylim(len(found) - .4, -.6)
        bands.set_xlim(0, (points[-1].t - start) / scale or 1)
        bands.set_xlabel(unit)

    height = 4.2 + .2 * len(found)
    ratios = [1, 1, 1, 1, max(.3, .25 * len(found))]
    return drawn(name, f"E, I, S and V of {len(points)} states over time, with the shape of each window.", height, paint,
                 nrows=5, sharex=True, gridspec_kw={"height_ratios": ratios})


def words(shape: str) -> str:
    """A shape's name as words."""
    return shape.replace("_", " ")


def _label_ends(axes: Any, points: Sequence[Point], start: float) -> None:
    """Name the curves at their right end, apart from each other, in place of a legend."""
    last = max(points, key=lambda p: p.t)
    low, high = axes.get_ylim()
    apart, below = (high - low) * MOVING, -float("inf")
    for d in sorted(DIMENSIONS, key=lambda d: getattr(last, d)):
        y = below = max(getattr(last, d), below + apart)
        axes.annotate(f"{d} {NAMES[d]}", (last.t - start, y), xytext=(6, 0), textcoords="offset points", va="center",
                      color=LINES[d][0], annotation_clip=False)
