"""Walking trees without NumPy: a node is a tuple, a leaf one wide Python integer that holds the weights of all classes.

Adding two such integers adds all classes at once. Each class has 32 bits, so 16-bit weights of 65,536 trees do not run over.
"""

from __future__ import annotations

import sys
from typing import Any, Sequence

LANE = 4  # bytes of a class


def packed(weights: Sequence[int]) -> int:
    """A row of weights (whole numbers, at least 0) as one integer."""
    return sum(w << 8 * LANE * c for c, w in enumerate(weights))


def unpacked(total: int, classes: int) -> list[int]:
    """The weights in an integer."""
    lanes = memoryview(total.to_bytes(LANE * classes, sys.byteorder)).cast("I").tolist()
    return lanes if sys.byteorder == "little" else lanes[::-1]


def nested(feature: Sequence[int], threshold: Sequence[float], left: Sequence[int], right: Sequence[int], leaf: Sequence[int],
           inputs: int) -> list[Any]:
    """Every node of one or more trees as (feature, threshold, node for at most, node for more), every leaf (feature -1) as its integer.

    Children must come after their parent. Raises ValueError where a node leads nowhere or asks for a feature that there is not.
    """
    size = len(feature)
    if not len(threshold) == len(left) == len(right) == len(leaf) == size > 0:
        raise ValueError("lists of a tree differ in length")
    nodes: list[Any] = [0] * size
    for i in reversed(range(size)):
        if feature[i] < 0:
            nodes[i] = leaf[i]
        elif feature[i] < inputs and i < left[i] < size and i < right[i] < size and threshold[i] == threshold[i]:
            nodes[i] = (feature[i], threshold[i], nodes[left[i]], nodes[right[i]])
        else:
            raise ValueError("a node leads nowhere")
    return nodes


def walk(trees: Sequence[Any], x: Sequence[float]) -> int:
    """The sum of the leaves that an input of float32 values comes to."""
    total = 0
    for node in trees:
        while node.__class__ is tuple:
            feature, threshold, left, right = node
            node = left if x[feature] <= threshold else right
        total += node
    return total
