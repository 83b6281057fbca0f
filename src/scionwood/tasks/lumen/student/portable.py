"""The student as plain JSON, and a reader of it that needs nothing but Python.

A tree is five lists with one entry per node: the feature that it asks (-1 in a leaf), its threshold, the nodes for "at most" and for
"more", and the weights in a leaf as {class: count of 1/grid}. All trees' weights are summed and divided by trees and grid.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping, Sequence

from scionwood import files
from scionwood.errors import UserError
from scionwood.tasks.lumen.student.assemble import EARLIER, FORESTS
from scionwood.tasks.lumen.student.features import NAMES, float32s
from scionwood.tasks.lumen.student.walking import nested, packed, unpacked, walk
from scionwood.tasks.lumen.vocabulary import PATTERNS, TOKENS

FORMAT = "scionwood lumen student 1"


def export(forests: Mapping[str, Any], path: Path) -> None:
    """Write fitted forests as JSON."""
    from scionwood.tasks.lumen.student.forests import GRID

    content = {"format": FORMAT, "features": list(NAMES), "tokens": list(TOKENS), "patterns": list(PATTERNS), "grid": GRID,
               "forests": {name: [_tree(e.tree_, GRID) for e in forest.estimators_] for name, forest in forests.items()}}
    files.write_text(path, json.dumps(content, separators=(",", ":")) + "\n")


def _tree(tree, grid: int) -> dict[str, list]:
    leaf = tree.children_left < 0
    counts = (tree.value[:, :, 0] * grid).round().astype(int)
    return {
        "feature": [-1 if end else int(f) for f, end in zip(tree.feature, leaf)],
        "threshold": [0 if end else float(t) for t, end in zip(tree.threshold, leaf)],
        "left": [max(0, int(n)) for n in tree.children_left],
        "right": [max(0, int(n)) for n in tree.children_right],
        "leaf": [{str(c): int(n) for c, n in enumerate(row) if n} if end else 0 for row, end in zip(counts, leaf)],
    }


class JsonStudent:
    """A student read from JSON. It is ``Scores``: call it with a forest's name and its input."""

    def __init__(self, path: Path):
        content = files.read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UserError(f"{path}: not a student of this version ('format' is not '{FORMAT}'); distil it again")
        try:
            if [content[k] for k in ("features", "tokens", "patterns")] != [list(NAMES), list(TOKENS), list(PATTERNS)]:
                raise ValueError("it was made for other features, tokens or patterns")
            self.grid = int(content["grid"])
            self.trees = {name: [_root(tree, classes, len(NAMES) + len(EARLIER[name])) for tree in content["forests"][name]]
                          for name, classes in FORESTS.items()}
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
            raise UserError(f"{path}: a broken student ({e}); distil it again") from None

    def __call__(self, name: str, x: Sequence[float]) -> list[float]:
        trees = self.trees[name]
        # two divisions as scikit-learn does them: the first is by a power of two and exact
        return [w / self.grid / len(trees) for w in unpacked(walk(trees, float32s(x)), FORESTS[name])]


def _root(tree: dict[str, list], classes: int, inputs: int) -> Any:
    """One tree, ready to walk."""
    leaves = []
    for leaf in tree["leaf"]:
        counts = {int(c): n for c, n in leaf.items()} if leaf else {}
        if any(not 0 <= c < classes or not isinstance(n, int) or not 0 <= n < 2**16 for c, n in counts.items()):
            raise ValueError("a leaf names a class or a weight that cannot be")
        leaves.append(packed([counts.get(c, 0) for c in range(classes)]))
    return nested(tree["feature"], tree["threshold"], tree["left"], tree["right"], leaves, inputs)[0]
