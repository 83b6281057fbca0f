"""From a matplotlib figure to an inline SVG that takes its colours from the page, light or dark, and never changes by a byte."""

from __future__ import annotations

import html
import io
import re
import warnings
from typing import Any, Callable

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by the colour-blind. In the SVG each becomes a CSS variable with itself as the fallback.
INK, MUTED, GRID, PAPER = "#24292f", "#656d76", "#d8dee4", "#fefefe"
COLOURS = {"adapter": "#0072b2", "base": "#d55e00", "rival": "#008f6b", "control": "#b5508c",
           "ceiling": "#7a6a00", "probe": "#7a5f9e"}
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {c: kind for kind, c in COLOURS.items()}
MARKERS = {"adapter": "o", "base": "s", "rival": "D", "control": "X", "ceiling": "^", "probe": "v"}
OTHER = "adapter"  # kinds of one's own (student, export) are drawn like the adapter: they are to be proved too

WIDTH = 7.6  # inches, at 72 SVG units each
ENLARGED = 1.4  # screen pixels per SVG unit at most

STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched, and set in the page's own font
    "svg.hashsalt": "scionwood",
    "text.parse_math": False,  # a label with two dollar signs is no formula
    "font.family": ["DejaVu Sans"],  # ships with matplotlib, so that every machine lays out alike
    "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": GRID, "axes.titlecolor": INK,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False, "grid.color": GRID, "grid.linewidth": .7,
    "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8.5, "axes.unicode_minus": True,
    "figure.constrained_layout.h_pad": .09,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
}


def colour(kind: str) -> str:
    """The colour of a kind of system."""
    return COLOURS.get(kind, COLOURS[OTHER])


def marker(kind: str) -> str:
    """The marker of a kind of system, so that colour is never needed to tell them apart."""
    return MARKERS.get(kind, MARKERS[OTHER])


def drawn(name: str, label: str, height: float, paint: Callable[..., Any], width: float = WIDTH, **subplots: Any) -> str:
    """Let ``paint`` draw on fresh axes and return the SVG. ``label`` is what a screen reader says instead."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's browser has its own fonts
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.subplots(**subplots))
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return inline(out.getvalue(), name, label)


def inline(svg: str, name: str, label: str) -> str:
    """The SVG element alone: named, with colours as variables, and ids that no other drawing on the page has."""
    svg = svg[svg.index("<svg"):].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.S)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", svg)
    for fixed, variable in VARIABLES.items():
        svg = svg.replace(fixed, f"var(--{variable}, {fixed})")
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    head = (f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(label)}" '
            f'style="max-width: {float(width) * ENLARGED:.0f}px" xmlns="http://www.w3.org/2000/svg" '
            'xmlns:xlink="http://www.w3.org/1999/xlink">')
    svg = re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip())
