"""The drawings of the report. Each function takes figures and context and returns inline SVG, or "" with nothing to draw."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from scionwood.evidence.drawing import COLOURS, INK, MUTED, PAPER, colour, drawn, marker
from scionwood.evidence.figures import FAILED
from scionwood.evidence.format import milliseconds, number
from scionwood.evidence.intervals import CONFIDENCE
from scionwood.evidence.standing import Figures, headline, higher, ranked, seed_of, slices_of, subject

Context = dict[str, Any]

ROW = .27  # inches per system or slice
POINTS = 150  # of a loss curve: more cannot be told apart at this width
CELL = .36  # inches per label of a confusion map
LONGEST = 26  # characters of a label
LOWEST_MS = 1e-4  # latencies are kept to this; a logarithmic scale has no zero


def short(text: str) -> str:
    """A label cut to what fits."""
    return text if len(text) <= LONGEST else text[:LONGEST - 1] + "…"


def runs(figures: Figures, names: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(label, kind, run) of every run of these systems."""
    for name in names:
        for run in figures["systems"][name]["runs"]:
            seed = seed_of(run)
            yield f"{short(name)}, {seed}" if seed else short(name), figures["systems"][name]["kind"], run


def legend(ax, kinds: Sequence[str], **where) -> None:
    """A legend of kinds of systems, each once."""
    handles = [Line2D([], [], color=colour(k), marker=marker(k), linestyle="none", markersize=6, label=k)
               for k in dict.fromkeys(kinds)]
    ax.legend(handles=handles, ncols=len(handles), handletextpad=.2, columnspacing=1.4, **where)


def dot(ax, x: float, y: float, kind: str, size: float) -> None:
    """A marker with a rim of paper, so that it stands out from its own line."""
    ax.plot(x, y, marker(kind), color=colour(kind), markersize=size, markeredgecolor=PAPER, markeredgewidth=.8)


def line(ax, low: float, high: float, y: float, kind: str, width: float) -> None:
    """From the low to the high end of an interval."""
    ax.plot([low, high], [y, y], color=colour(kind), linewidth=width, solid_capstyle="round")


def rows_axis(ax, labels: Sequence[str]) -> None:
    """One row per label, the first at the top."""
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - .4, -.6)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")


# -- systems --------------------------------------------------------------------------------------------------------------


def systems(figures: Figures, context: Context) -> str:
    """The primary metric of every run with its interval, best at the top."""
    metric = figures["primary"]
    shown, mine = list(runs(figures, ranked(figures))), figures["systems"][subject(figures)]["runs"]
    if not shown:
        return ""

    def paint(ax):
        for y, (_, kind, run) in enumerate(shown):
            f = run["figures"][metric]
            strong = any(run is r for r in mine)
            if f["low"] is not None:
                line(ax, f["low"], f["high"], y, kind, 2.4 if strong else 1.4)
            dot(ax, f["value"], y, kind, 8 if strong else 6.5)
            edge = f["value"] if f["high"] is None else f["high"]
            ax.annotate(number(f["value"]), (edge, y), (7, 0), textcoords="offset points", va="center", fontsize=8.5,
                        fontweight="bold" if strong else "normal")
        rows_axis(ax, [label for label, _, _ in shown])
        for tick, (_, _, run) in zip(ax.get_yticklabels(), shown):
            if any(run is r for r in mine):
                tick.set_fontweight("bold")
        ax.margins(x=.09)
        values = [v for _, _, run in shown for v in run["figures"][metric].values() if isinstance(v, float)]
        if min(values) >= 0:
            ax.set_xlim(left=0)  # a bar of length matters less here than an honest distance from nothing
        ax.set_xlabel(f"{metric}{'' if higher(figures, metric) else ' (lower is better)'}")
        legend(ax, [kind for _, kind, _ in shown], loc="lower left", bbox_to_anchor=(0, 1))

    said = "; ".join(f"{label} {number(run['figures'][metric]['value'])}" for label, _, run in shown)
    return drawn("systems", f"{metric} of every run, best first: {said}", 1.0 + ROW * len(shown), paint)


# -- slices ---------------------------------------------------------------------------------------------------------------


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's interval at a share that may be a mean over seeds, so that share * n need not be whole."""
    from scipy.stats import norm

    z = norm.ppf((1 + CONFIDENCE) / 2)
    middle, spread = share + z * z / (2 * n), z * (share * (1 - share) / n + z * z / (4 * n * n)) ** .5
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def slices(figures: Figures, context: Context) -> str:
    """Both shares of correct answers per slice."""
    found = slices_of(figures)
    if not found:
        return ""
    sides = [("correct", figures["systems"][found["system"]]["kind"], -.15),
             ("against_correct", figures["systems"][found["against"]]["kind"], .15)]

    def paint(ax):
        for y, s in enumerate(found["slices"].values()):
            for key, kind, shift in sides:
                low, high = wilson(s[key], s["n"])
                line(ax, low, high, y + shift, kind, 1.3)
                ax.plot(s[key], y + shift, marker(kind), color=colour(kind), markersize=5.5, clip_on=False,
                        markerfacecolor=colour(kind) if key == "correct" else PAPER)
        rows_axis(ax, [f"{short(name)} ({s['n']})" for name, s in found["slices"].items()])
        ax.set_xlim(0, 1)
        ax.set_xlabel("share of correct answers")
        handles = [Line2D([], [], color=colour(kind), marker=marker(kind), markersize=5.5, linewidth=1.3,
                          markerfacecolor=colour(kind) if key == "correct" else PAPER, label=short(found[who]))
                   for (key, kind, _), who in zip(sides, ("system", "against"))]
        ax.legend(handles=handles, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=.3)

    said = "; ".join(f"{name}: {number(s['correct'])} and {number(s['against_correct'])}" for name, s in found["slices"].items())
    return drawn("slices", f"Share of correct answers per slice, {found['system']} and {found['against']}: {said}",
                 1.0 + ROW * 1.1 * len(found["slices"]), paint)


# -- confusion ------------------------------------------------------------------------------------------------------------


def confusion(figures: Figures, context: Context) -> str:
    """One map per job of the subject's first run."""
    tables = figures["systems"][subject(figures)]["runs"][0]["confusion"]
    return "\n".join(one_confusion(i, job, table) for i, (job, table) in enumerate(tables.items()) if table)


def one_confusion(index: int, job: str, table: dict[str, dict[str, int]]) -> str:
    """The map of one job: rows are the references, columns the answers, each row shaded by its shares."""
    gold = list(table)
    said = sorted({label for row in table.values() for label in row} - {*gold, FAILED})
    columns = gold + said + ([FAILED] if any(FAILED in row for row in table.values()) else [])

    def paint(ax):
        for y, (label, row) in enumerate(table.items()):
            total = sum(row.values())
            for x, column in enumerate(columns):
                n = row.get(column, 0)
                right = label == column
                ax.add_patch(Rectangle((x - .47, y - .46), .94, .92, linewidth=1.2 if right else 0, edgecolor=MUTED, fill=False))
                if n:
                    # never so dark that ink could not be read on it
                    ax.add_patch(Rectangle((x - .47, y - .46), .94, .92, linewidth=0, alpha=.10 + .50 * n / total,
                                           facecolor=COLOURS["adapter"] if right else COLOURS["base"]))
                ax.text(x, y, str(n) if n else "·", ha="center", va="center", fontsize=8.5, color=INK if n else MUTED)
        ax.set_xlim(-.6, len(columns) - .4)
        ax.set_ylim(len(gold) - .4, -.6)
        ax.set_aspect("equal")
        ax.set_xticks(range(len(columns)), [short(c) for c in columns], rotation=40, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(gold)), [short(g) for g in gold])
        ax.spines[:].set_visible(False)
        ax.set_title(short(job), loc="left", fontweight="bold")
        ax.set_ylabel("reference")
        ax.set_xlabel("answer")

    letters = max(len(short(c)) for c in columns)
    correct = sum(row.get(label, 0) for label, row in table.items())
    label = f"Confusion map of {job}: {correct} of {sum(sum(r.values()) for r in table.values())} on the diagonal"
    margin = .6 + .075 * letters
    return drawn(f"confusion{index}", label, CELL * len(gold) + margin + .3, paint, CELL * len(columns) + margin + .35)


# -- latency --------------------------------------------------------------------------------------------------------------


def latency(figures: Figures, context: Context) -> str:
    """Median, 95th and 99th percentile of every run, slowest at the bottom."""
    timed = [r for r in runs(figures, list(figures["systems"])) if r[2]["latency_ms"]]
    shown = sorted(timed, key=lambda r: r[2]["latency_ms"]["p50"])
    if not shown:
        return ""

    def paint(ax):
        for y, (_, kind, run) in enumerate(shown):
            p50, p95, p99 = (max(LOWEST_MS, run["latency_ms"][p]) for p in ("p50", "p95", "p99"))
            line(ax, p50, p99, y, kind, 1)
            line(ax, p50, p95, y, kind, 3)
            dot(ax, p50, y, kind, 6.5)
            said = milliseconds(run["latency_ms"]["p50"])
            ax.annotate(said, (p99, y), (6, 0), textcoords="offset points", va="center", fontsize=8)
        rows_axis(ax, [label for label, _, _ in shown])
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda x, _: milliseconds(x))
        ax.margins(x=.09)
        ax.set_xlabel("milliseconds per case (the number is the median)")
        legend(ax, [kind for _, kind, _ in shown], loc="lower left", bbox_to_anchor=(0, 1))

    said = "; ".join(f"{label} {milliseconds(run['latency_ms']['p50'])}" for label, _, run in shown)
    return drawn("latency", f"Median milliseconds per case, fastest first: {said}", 1.0 + ROW * len(shown), paint)


# -- curves ---------------------------------------------------------------------------------------------------------------


def thinned(points: Sequence[tuple[float, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """At most so many points: neighbours are averaged."""
    size = -(-len(points) // most) or 1
    groups = [points[i:i + size] for i in range(0, len(points), size)]
    return [tuple(sum(column) / len(group) for column in zip(*group)) for group in groups]


def curves(figures: Figures, context: Context) -> str:
    """Loss over steps, and the dev metric below where it was looked at."""
    logs = {name: log for name, log in context["logs"].items() if any("loss" in row for row in log)}
    if not logs:
        return ""
    sign = 1 if higher(figures, figures["primary"]) else -1  # training keeps it signed so that higher is better
    dev = {name: [(row["step"], sign * row["dev"]) for row in log if "dev" in row] for name, log in logs.items()}
    panels = 2 if any(dev.values()) else 1
    # The core's name for the control; every other training is a seed of the adapter.
    controls = [name for name, s in figures["systems"].items() if s["kind"] == "control"]
    looks = dict(zip([n for n in logs if n not in controls], ["-", (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (6, 1))] * len(logs)))

    def paint(axes):
        top, bottom = axes[0][0], axes[-1][0]
        for name, log in logs.items():
            kind = "control" if name in controls else "adapter"
            look = (0, (5, 3)) if kind == "control" else looks[name]
            style = {"color": colour(kind), "linestyle": look, "linewidth": 1.5, "label": short(name)}
            top.plot(*zip(*thinned([(row["step"], row["loss"]) for row in log if "loss" in row])), **style)
            if dev[name]:
                bottom.plot(*zip(*dev[name]), **style, marker="o", markersize=3)
                kept = context["training"].get(name, {}).get("best_step")
                for point in (p for p in dev[name] if p[0] == kept):
                    bottom.plot(*point, "o", color=colour(kind), markersize=9, markerfacecolor="none", markeredgewidth=1.4)
        top.set_ylabel("training loss")
        top.set_ylim(bottom=0)
        if panels == 2:
            bottom.set_ylabel("dev: " + short(figures["primary"]))
        for ax in (top, bottom):
            ax.grid(axis="y")
            ax.spines["left"].set_visible(False)
        bottom.set_xlabel("optimiser step")
        top.legend(ncols=min(4, len(logs)), loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=.3, handlelength=2.6)

    mine = headline(figures, subject(figures), figures["primary"])
    what = "Training loss and dev metric" if panels == 2 else "Training loss"
    label = f"{what} over the steps of {', '.join(logs)}; the value on the test cases is {number(mine.value)}"
    return drawn("curves", label, 2.1 * panels + .6, paint, nrows=panels, ncols=1, squeeze=False, sharex=True)
