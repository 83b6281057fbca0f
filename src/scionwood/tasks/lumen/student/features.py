"""What the student looks at: twelve numbers of a window, and its shape.

The twelve numbers are those that the published rows print: the means of E, I, S and V, of their rates, and of their second differences.
Every forest sees them rounded to float32, as scikit-learn and ONNX do; all readers must agree on that to give equal answers.
"""

from __future__ import annotations

from array import array
from typing import Sequence

from scionwood.tasks.lumen.rows import Numbers, numbers_of
from scionwood.tasks.lumen.shapes import DIMENSIONS, SHAPES, Point

NUMBERS = tuple(f"{kind}{d}" for kind in ("mean_", "d", "d2") for d in DIMENSIONS)
NAMES = (*NUMBERS, *(f"is_{shape}" for shape in SHAPES))
WIDTH = len(NAMES)
_ONE_HOT = {shape: [float(shape == other) for other in SHAPES] for shape in SHAPES}


def twelve(n: Numbers) -> list[float]:
    """The twelve numbers out of all that a published prompt tells of a window."""
    return [*n.means, *n.first, *n.second]


def numbers_of_points(points: Sequence[Point]) -> list[float]:
    """The twelve numbers of a window of states, rates per second."""
    return twelve(numbers_of(points))


def features_of(numbers: Sequence[float], shape: str) -> list[float]:
    """The forests' input: numbers and shape as ``WIDTH`` values that float32 holds exactly.

    Raises ValueError where a number is not finite (in float32), or where the shape is none of the nine.
    """
    if len(numbers) != len(NUMBERS) or shape not in _ONE_HOT:
        raise ValueError(f"the student needs {len(NUMBERS)} numbers and one of the nine shapes, not {len(numbers)} and '{shape}'")
    return float32s(numbers) + _ONE_HOT[shape]


def float32s(values: Sequence[float]) -> list[float]:
    """The nearest float32 of each value. Raises ValueError where one is not finite."""
    try:
        rounded = array("f", values).tolist()
    except OverflowError:  # some platforms raise instead of giving infinity
        rounded = [float("inf")]
    if not abs(sum(v * 0.0 for v in rounded)) == 0.0:  # 0 * inf and nan are nan
        raise ValueError("a number of the window is not finite")
    return rounded
