"""The drawing of a duel's report: every measure on an axis of its own, contestant by contestant, beside ordinary prose."""

from __future__ import annotations

from typing import Any

from scionwood.evidence.drawing import COLOURS, MARKERS, MUTED, PAPER, drawn
from scionwood.tasks.lantern.duel.scoring import METRICS

KINDS = list(COLOURS)
COLUMNS = 4
LONGEST = 20  # characters of a name


def measures(duel: dict[str, Any]) -> str:
    """Small panels, one for each measure that any contestant has."""
    names = [c["name"] for c in duel["contestants"]]
    shown = [m for m in METRICS if any(duel["figures"][n][m.name]["value"] is not None for n in names)]
    if not shown:
        return ""
    columns = min(COLUMNS, len(shown))
    lines = -(-len(shown) // columns)

    def paint(axes) -> None:
        for i, ax in enumerate(axes.flat):
            if i >= len(shown):
                ax.set_axis_off()
                continue
            m, ordinary = shown[i], duel["prose"].get(shown[i].name)
            for y, n in enumerate(names):
                f, kind = duel["figures"][n][m.name], KINDS[y % len(KINDS)]
                if f["value"] is None:
                    continue
                if f["low"] is not None:
                    ax.plot([f["low"], f["high"]], [y, y], color=COLOURS[kind], linewidth=2.2, solid_capstyle="round")
                ax.plot(f["value"], y, MARKERS[kind], color=COLOURS[kind], markersize=7, markeredgecolor=PAPER, markeredgewidth=0.8)
            if ordinary is not None:
                ax.axvline(ordinary, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
            ax.set_title(f"{m.name} ({'more' if m.better == 'higher' else 'less'} is better)", loc="left", fontsize=8.5)
            ax.set_yticks(
                range(len(names)),
                [n if len(n) <= LONGEST else n[: LONGEST - 1] + "…" for n in names] if i % columns == 0 else [""] * len(names),
            )
            ax.set_ylim(len(names) - 0.4, -0.6)
            ax.margins(x=0.12)
            ax.locator_params(axis="x", nbins=3)
            ax.spines["left"].set_visible(False)
            ax.grid(axis="x")

    label = f"measures of {', '.join(names)}: " + ", ".join(m.name for m in shown)
    return drawn("measures", label, lines * (0.75 + 0.27 * len(names)), paint, nrows=lines, ncols=columns, squeeze=False)
