"""Fitting the student's four forests with scikit-learn.

Each is a forest of regression trees on one-hot targets: the criterion then is Gini's, up to a factor, the output is the probability of
every class (also of those that the teacher never used), and a forest can also be fitted to probabilities.

After fitting, a forest is *settled*: thresholds become float32 (rounded down, so that no float32 input changes sides) and the values in
the leaves multiples of 1/4096. Sums over trees are then exact in float32 and in float64 alike, so JSON, ONNX and scikit-learn cannot
disagree by rounding, not even where two classes tie.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from scionwood.tasks.lumen.student.assemble import EARLIER, FORESTS, steps

GRID = 4096  # leaves hold multiples of 1/GRID; 2**12 steps and up to 2**11 trees stay within float32's 24 bits
MOST_TREES = 2048


def fit(rows: Sequence[tuple[Sequence[float], Sequence[str]]], trees: int = 200, leaf: int = 8, depth: int = 20,
        seed: int = 42) -> dict[str, Any]:
    """The four forests, fitted to ``rows`` of (features, tokens of the teacher) and settled.

    ``leaf`` is the least number of rows in a leaf, ``depth`` the greatest depth. A forest without any row answers with equal weights.
    """
    import numpy as np

    taught: dict[str, tuple[list, list]] = {name: ([], []) for name in FORESTS}
    for features, tokens in rows:
        for name, (before, answer) in steps(tokens).items():
            taught[name][0].append([*features, *before])
            taught[name][1].append(answer)
    width = len(rows[0][0])
    forests = {}
    for name, (x, y) in taught.items():
        classes = FORESTS[name]
        targets = np.eye(classes)[y] if y else np.full((1, classes), 1 / classes)
        forests[name] = fit_one(np.array(x or [[0.0] * (width + len(EARLIER[name]))], np.float32), targets, trees, leaf, depth, seed)
    return forests


def fit_one(x, targets, trees: int, leaf: int, depth: int, seed: int, leaves: int | None = None, bootstrap: bool = True):
    """One forest from inputs [n, features] to weights [n, classes], settled."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(trees, min_samples_leaf=leaf, max_depth=depth, max_features=0.5, max_leaf_nodes=leaves,
                                   bootstrap=bootstrap, random_state=seed)
    return settle(forest.fit(x, targets))


def settle(forest):
    """Round a fitted forest in place (see above) and return it."""
    import numpy as np

    if len(forest.estimators_) > MOST_TREES:
        raise ValueError(f"at most {MOST_TREES} trees: beyond, sums are no longer exact in float32")
    for tree in (e.tree_ for e in forest.estimators_):
        tree.value[:] = np.round(tree.value * GRID) / GRID
        near = tree.threshold.astype(np.float32)
        tree.threshold[:] = np.where(near > tree.threshold, np.nextafter(near, np.float32(-np.inf)), near)
    return forest


def scorer(forests: Mapping[str, Any]):
    """``Scores`` by scikit-learn's own predict, one row at a time."""
    import numpy as np

    return lambda name, x: forests[name].predict(np.array([x], np.float32))[0].tolist()
