"""The plot along a text: word entropy of its windows beside ordinary prose and, with a model, its predictive entropy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scionwood import files
from scionwood.errors import UserError
from scionwood.tasks.lantern.measures.kinds import H50
from scionwood.tasks.lantern.measures.ordinary import ordinary
from scionwood.tasks.lantern.measures.windows import STEP

MOST = 8  # texts in one plot: Okabe and Ito's colours
COLOURS = ("#0072b2", "#d55e00", "#008f6b", "#b5508c", "#e69f00", "#56b4e9", "#24292f", "#999999")
SMOOTH = 120  # points of a curve of tokens
FORMATS = (".svg", ".png", ".pdf")


@dataclass(frozen=True)
class Line:
    """One text: ``words`` (points,) word entropies of ``span`` windows each; ``tokens`` (n,) predictive entropies, or none, and
    ``prose``, the mean that ordinary prose has under the same model."""

    name: str
    lang: str
    words: np.ndarray
    span: int
    tokens: np.ndarray | None = None
    prose: float | None = None


def check_path(path: Path) -> None:
    """Raise UserError where a plot cannot be written under this name."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--plot {path}: the name must end in {', '.join(FORMATS)}")


def draw(lines: list[Line], path: Path) -> None:
    """Write the plot of up to ``MOST`` texts atomically as SVG, PNG or PDF."""
    import io

    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from scionwood.evidence.drawing import STYLE

    check_path(path)
    panels = 1 + any(line.tokens is not None for line in lines)
    with matplotlib.rc_context(STYLE | {"figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(9, 3.2 * panels), layout="constrained", dpi=150)
        FigureCanvasAgg(figure)
        axes = figure.subplots(panels, squeeze=False)[:, 0]
        words_panel(axes[0], lines)
        if panels == 2:
            tokens_panel(axes[1], lines)
        out = io.BytesIO()
        # no date in the file: the same figures give the same bytes
        figure.savefig(out, format=path.suffix[1:].lower(), metadata={".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower()))
    files.write_bytes(path, out.getvalue())


def words_panel(ax, lines: list[Line]) -> None:
    """Window entropies along the words, over the band in which single windows of ordinary prose lie."""
    for lang in dict.fromkeys(line.lang for line in lines):
        if o := ordinary(H50, lang, H50.WINDOW):
            ax.axhspan(o.low, o.high, color="#d8dee4", alpha=.55, lw=0, label=f"ordinary prose ({lang}): nine of ten windows")
            ax.axhline(o.mean, color="#656d76", lw=.8, ls=(0, (4, 3)), label="their mean")
    for line, colour in zip(lines, COLOURS):
        name = Path(line.name).name  # the folders before it would not fit
        step = STEP * line.span
        x = H50.WINDOW / 2 + (line.span - 1) * STEP / 2 + step * np.arange(len(line.words))
        ax.plot(x, line.words, color=colour, lw=1.4, marker="o" if len(line.words) < 30 else None, markersize=3, label=name)
    ax.set_xlabel("words from the beginning (middle of the window)")
    ax.set_ylabel(f"entropy of {H50.WINDOW} words, nats")
    ax.grid(axis="y")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def tokens_panel(ax, lines: list[Line]) -> None:
    """Predictive entropy along the tokens, in means over equal stretches."""
    for line, colour in zip(lines, COLOURS):
        if line.tokens is not None and len(line.tokens):
            parts = np.array_split(line.tokens, min(SMOOTH, len(line.tokens)))
            ends = np.cumsum([len(p) for p in parts])
            ax.plot(ends - np.array([len(p) for p in parts]) / 2, [p.mean() for p in parts], color=colour, lw=1.2)
            if line.prose is not None:
                ax.axhline(line.prose, color=colour, lw=.8, ls=(0, (4, 3)), label="ordinary prose, same model, same number of tokens" if line is lines[0] else None)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
    ax.set_xlabel("tokens from the beginning")
    ax.set_ylabel("predictive entropy, nats")
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
