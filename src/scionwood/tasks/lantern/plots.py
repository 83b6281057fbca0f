"""The drawings of a lantern report: diversity while it trained, and the loss; every other is that of the core."""

from __future__ import annotations

from typing import Any

from matplotlib.lines import Line2D

from scionwood.evidence.drawing import colour, drawn
from scionwood.evidence.format import number
from scionwood.evidence.plots import short, thinned
from scionwood.evidence.standing import Figures

Context = dict[str, Any]

PANELS = {"predictive_entropy": "predictive entropy, nats", "h50": "H50, nats", "repetition": "repetition"}
LOOKS = ("-", (0, (5, 2)), (0, (1, 1)), (0, (4, 1, 1, 1)))  # of the seeds of one system


def trainings(figures: Figures, context: Context) -> dict[str, tuple[str, Any, list[dict]]]:
    """(kind, line style, log) by the name of each training: "adapter-0" is a seed of the system "adapter"."""
    seen: dict[str, int] = {}
    out = {}
    for name, log in context["logs"].items():
        system = name.rpartition("-")[0]
        kind = figures["systems"].get(system, {}).get("kind", "adapter")
        out[name] = kind, LOOKS[seen.get(system, 0) % len(LOOKS)], log
        seen[system] = seen.get(system, 0) + 1
    return out


def legend_of(ax, lines: dict[str, tuple[str, Any, list[dict]]]) -> None:
    """The names of the trainings above the first panel."""
    handles = [Line2D([], [], color=colour(kind), linestyle=style, linewidth=1.6, label=short(name))
               for name, (kind, style, _) in lines.items()]
    ax.legend(handles=handles, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=.3, handlelength=2.8)


def diversity(figures: Figures, context: Context) -> str:
    """What each look at the model saw: predictive entropy, H50 and repetition over the steps, one line for each training."""
    lines = {n: (k, s, log) for n, (k, s, found) in trainings(figures, context).items()
             if (log := [row for row in found if "predictive_entropy" in row])}
    panels = [key for key in PANELS if any(row.get(key) is not None for _, _, log in lines.values() for row in log)]
    if not panels:
        return ""

    def paint(axes):
        for (ax,), key in zip(axes, panels):
            for kind, style, log in lines.values():
                points = [(row["step"], row[key]) for row in log if row.get(key) is not None]
                if points:
                    ax.plot(*zip(*points), color=colour(kind), linestyle=style, linewidth=1.5, marker="o", markersize=3.5)
                for row in log:
                    if row.get("stop") and row.get(key) is not None:
                        ax.plot(row["step"], row[key], "X", color=colour(kind), markersize=9)
            ax.set_ylabel(PANELS[key])
            ax.grid(axis="y")
            ax.spines["left"].set_visible(False)
        axes[-1][0].set_xlabel("optimiser step")
        legend_of(axes[0][0], lines)

    said = "; ".join(f"{name}: predictive entropy {number(log[0].get('predictive_entropy'))} at step {log[0]['step']}, "
                     f"{number(log[-1].get('predictive_entropy'))} at step {log[-1]['step']}" for name, (_, _, log) in lines.items())
    return drawn("diversity", f"Diversity over the steps. {said}", 1.75 * len(panels) + .5, paint, nrows=len(panels), ncols=1,
                 squeeze=False, sharex=True)


def curves(figures: Figures, context: Context) -> str:
    """Training loss over the steps of every training."""
    lines = {n: (k, s, log) for n, (k, s, found) in trainings(figures, context).items() if (log := [r for r in found if "loss" in r])}
    if not lines:
        return ""

    def paint(ax):
        for kind, style, log in lines.values():
            ax.plot(*zip(*thinned([(row["step"], row["loss"]) for row in log])), color=colour(kind), linestyle=style, linewidth=1.5)
        ax.set_ylabel("training loss")
        ax.set_xlabel("optimiser step")
        ax.set_ylim(bottom=0)
        ax.grid(axis="y")
        ax.spines["left"].set_visible(False)
        legend_of(ax, lines)

    said = "; ".join(f"{name} ends at {number(log[-1]['loss'])}" for name, (_, _, log) in lines.items())
    return drawn("curves", f"Training loss over the steps: {said}", 2.5, paint)
