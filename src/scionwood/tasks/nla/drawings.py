"""The drawings that only this task has: FVE over data size, and the losses of both trainings."""

from __future__ import annotations

from typing import Any

from scionwood.evidence.drawing import COLOURS, drawn
from scionwood.evidence.format import number
from scionwood.evidence.plots import short, thinned
from scionwood.evidence.standing import Figures

Context = dict[str, Any]
READERS = {"ar": ("reconstructor", COLOURS["adapter"], "o"), "ridge": ("ridge", COLOURS["rival"], "D")}


def data_size(figures: Figures, context: Context) -> str:
    """FVE on the author's descriptions over the number of training texts, with intervals."""
    points = figures["nla"]["curve"]
    if not points:
        return ""

    def paint(ax):
        for reader, (label, colour, marker) in READERS.items():
            mine = [p for p in points if p["reader"] == reader]
            x, y = [p["texts"] for p in mine], [p["fve"]["value"] for p in mine]
            ax.plot(x, y, color=colour, marker=marker, linewidth=1.6, markersize=6, label=label)
            for p in mine:
                if p["fve"]["low"] is not None:
                    ax.plot([p["texts"]] * 2, [p["fve"]["low"], p["fve"]["high"]], color=colour, linewidth=1.1)
            ax.annotate(number(y[-1]), (x[-1], y[-1]), (8, 0), textcoords="offset points", va="center", fontsize=8.5, color=colour)
        ax.set_xscale("log")
        ticks = sorted({p["texts"] for p in points})
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.set_xticks([], minor=True)
        ax.axhline(0, color=COLOURS["base"], linewidth=.8, linestyle=(0, (4, 3)))
        ax.grid(axis="y")
        ax.margins(x=.12)
        ax.set_xlabel("training texts")
        ax.set_ylabel("FVE of held-out vectors")
        ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=.3)

    said = "; ".join(f"{READERS[p['reader']][0]} with {p['texts']} texts {number(p['fve']['value'])}" for p in points)
    return drawn("datasize", f"FVE of held-out vectors by the number of training texts: {said}", 3.0, paint)


def losses(figures: Figures, context: Context) -> str:
    """Training loss over the steps: reconstructors above, verbalizers below."""
    panels = {"ar": "reconstructor: loss", "av": "verbalizer: loss"}
    logs = {name: [(row["step"], row["loss"]) for row in log if "loss" in row] for name, log in context["logs"].items()}
    if not any(logs.values()):
        return ""

    def paint(axes):
        for ax, (role, label) in zip([row[0] for row in axes], panels.items()):
            for name, log in logs.items():
                if name.startswith(f"{role}-") and log:
                    ax.plot(*zip(*thinned(log)), color=COLOURS["adapter"], linewidth=1.5, label=short(name),
                            linestyle=["-", (0, (1, 1)), (0, (4, 1, 1, 1))][list(logs).index(name) // 2 % 3])
            ax.set_ylabel(label)
            ax.set_ylim(bottom=0)
            ax.grid(axis="y")
            ax.spines["left"].set_visible(False)
            if ax.get_legend_handles_labels()[1]:
                ax.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=.3, handlelength=2.6)
        axes[-1][0].set_xlabel("optimiser step")

    return drawn("losses", f"Training loss over the steps of {', '.join(logs)}", 4.4, paint, nrows=2, ncols=1, squeeze=False)
