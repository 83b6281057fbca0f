"""An axis as a table and as a small plot: AUC and d' of every layer on texts that were held out."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from scionwood.tasks.nla import axis_said
from scionwood.tasks.nla.axis import Axis
from scionwood.tasks.nla.axis_made import Made


def table(axis: Axis) -> str:
    """The figures of every layer as aligned text, and below them what the whole procedure is worth."""
    rows = [("layer", "dev AUC", "dev d'", "test AUC", "test d'", "")]
    for i, layer in enumerate(axis.layers):
        times = axis.chosen.count(layer)
        mark = " ".join(filter(None, ("<- chosen" if layer == axis.layer else "", f"({times} of {axis.folds} folds)" if times else "")))
        figures = (f"{axis.dev_auc[i]:.3f}", f"{axis.dev_dprime[i]:.2f}", f"{axis.test_auc[i]:.3f}", f"{axis.test_dprime[i]:.2f}")
        rows.append((str(layer), *figures, mark))
    widths = [max(len(r[c]) for r in rows) for c in range(5)]
    lines = ["  ".join([*(cell.rjust(w) for cell, w in zip(r, widths)), r[5]]).rstrip() for r in rows]
    between = f" ({axis.nested_low:.3f} to {axis.nested_high:.3f})" if axis.nested_low is not None else ""
    return "\n".join([
        f"{axis.names[0]} ({axis.texts[0]} texts) against {axis.names[1]} ({axis.texts[1]} texts), {axis.groups} groups, "
        f"{axis.folds} folds",
        *lines,
        f"choosing on dev, measured on test: AUC {axis.nested_auc:.3f}{between}, d' {axis.nested_dprime:.2f}",
        f"the same with shuffled labels: AUC {axis.shuffled_auc:.3f}, 95 % of them below {axis.shuffled_high:.3f}",
    ])


def drawing(axis: Axis) -> str:
    """The plot as one SVG element: test AUC of each layer, the chosen one marked, chance and shuffled labels beside it."""
    from scionwood.evidence.drawing import COLOURS, GRID, INK, MUTED, drawn

    def paint(ax) -> None:
        ax.axhspan(0.5, max(0.5, axis.shuffled_high), color=GRID, alpha=0.6, lw=0)
        ax.axhline(0.5, color=MUTED, lw=0.8, ls=(0, (3, 3)))
        ax.plot(axis.layers, axis.dev_auc, color=COLOURS["rival"], lw=1, ls=(0, (2, 2)), marker="D", ms=3, label="dev")
        ax.plot(axis.layers, axis.test_auc, color=COLOURS["adapter"], lw=1.6, marker="o", ms=4, label="test")
        at = axis.layers.index(axis.layer)
        ax.plot([axis.layer], [axis.test_auc[at]], "o", ms=10, mfc="none", mec=COLOURS["base"], mew=1.6, label=f"chosen: {axis.layer}")
        ax.set_xlabel("layer (output of block, from 0)")
        ax.set_ylabel("AUC on texts held out")
        ax.set_ylim(min(0.35, *axis.test_auc, *axis.dev_auc) - 0.02, 1.03)
        ax.set_xlim(axis.layers[0] - 0.5, axis.layers[-1] + 0.5)
        ax.set_xticks(_ticks(axis.layers))
        ax.text(axis.layers[0] - 0.45, max(0.5, axis.shuffled_high) - 0.01, " 95 % of shuffled labels", va="top", fontsize=7.5, color=MUTED)
        ax.set_title(f"{axis.names[0]} against {axis.names[1]}", loc="left", color=INK)
        ax.legend(loc="lower right", ncols=3)

    label = f"AUC per layer of {axis.names[0]} against {axis.names[1]}; layer {axis.layer} was chosen, test AUC {axis.nested_auc:.3f}"
    return drawn("axis", label, 2.9, paint)


def _ticks(layers: Sequence[int]) -> list[int]:
    """At most about a dozen of the layers, evenly."""
    step = max(1, len(layers) // 12)
    return list(layers[::step])


def whole(made: Made) -> str:
    """All that is known of an axis, for the terminal."""
    parts = []
    if made.axis:
        parts.append(table(made.axis))
    if made.measured:
        parts.append(f"{made.direction.name} at layer {made.direction.layer} on {made.names[0]} against {made.names[1]}: "
                     f"AUC {made.measured['auc']:.3f}, d' {made.measured['dprime']:.2f}")
    if made.spoken:
        layer = "?" if made.direction.layer is None else made.direction.layer
        parts.append(f"in words, layer {layer} (in brackets: whether the words point the same way, by the reconstructor):\n"
                     f"{axis_said.told(made.spoken, made.names)}")
    if made.native:
        parts.append(f"the same axis at the verbalizer's own layer {made.native.layer}:\n{axis_said.told(made.native_spoken, made.names)}")
    return "\n\n".join([*parts, *(f"note: {n}" for n in made.notes)])


def write(made: Made, folder: Path) -> list[Path]:
    """Write axis.json, axis.svg where the axis was made here, and the direction; return what was written."""
    from scionwood.files import write_json, write_text
    from scionwood.tasks.nla.directions import write_direction

    folder = Path(folder)
    written = [folder / "axis.json", folder / "direction.safetensors"]
    write_json(written[0], made.row())
    write_direction(written[1], made.direction)
    if made.native:
        written.append(folder / f"direction-layer-{made.native.layer}.safetensors")
        write_direction(written[-1], made.native)
    if made.axis:
        written.append(folder / "axis.svg")
        write_text(written[-1], drawing(made.axis) + "\n")
    return written
