"""The student as it ships: a small safetensors file of arrays, read and walked without NumPy.

A node is a feature (255 in a leaf), a float32 threshold and a number. Left children follow their parent at once, so only the right child
needs the number; in a leaf the number is a row of the leaf table. Weights in the table have 16 bits, and equal rows are stored once.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from pathlib import Path
from typing import Any, Mapping, Sequence

from scionwood import files
from scionwood.errors import UserError
from scionwood.tasks.lumen.student.assemble import EARLIER, FORESTS, Choose, Expression, decide
from scionwood.tasks.lumen.student.features import NAMES, WIDTH, features_of
from scionwood.tasks.lumen.student.walking import nested, packed, unpacked, walk
from scionwood.tasks.lumen.vocabulary import PATTERNS, TOKENS

FORMAT = "scionwood lumen compact student 1"
SHIPPED = Path(__file__).resolve().parent / "shipped.safetensors"
LEAF = 255  # in place of a feature
FULL = 65535  # stands for a weight of 1
MOST_TREES = 1000  # beyond, sums would run over
DTYPES = {"U8": "B", "U16": "H", "F32": "f", "U32": "I"}
PARTS = {"feature": "U8", "threshold": "F32", "number": "U32", "roots": "U32", "table": "U16"}


def export(forests: Mapping[str, Any], path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write fitted forests (few and small trees) in this form. ``about`` goes into the file's header."""
    import numpy as np

    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "features": json.dumps(NAMES), "tokens": json.dumps(TOKENS),
                                               "patterns": json.dumps(PATTERNS), **(about or {})}}
    blob = bytearray()
    names = {"U8": "u1", "U16": "<u2", "F32": "<f4", "U32": "<u4"}
    for name, forest in forests.items():
        for part, values in _flat(forest).items():
            data = np.asarray(values, names[PARTS[part]])
            header[f"{name}.{part}"] = {"dtype": PARTS[part], "shape": list(data.shape),
                                        "data_offsets": [len(blob), len(blob) + data.nbytes]}
            blob += data.tobytes()
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    files.write_bytes(path, struct.pack("<Q", len(head)) + head + bytes(blob))


def _flat(forest) -> dict[str, list]:
    """The arrays of one forest."""
    out: dict[str, list] = {part: [] for part in PARTS}
    rows: dict[tuple[int, ...], int] = {}
    if len(forest.estimators_) > MOST_TREES:
        raise ValueError(f"the compact form holds at most {MOST_TREES} trees")

    def add(tree, node: int) -> None:
        at = len(out["feature"])
        if tree.children_left[node] < 0:
            weights = tuple(round(float(v) * FULL) for v in tree.value[node, :, 0].clip(0, 1))
            row = rows.setdefault(weights, len(rows))
            out["feature"].append(LEAF), out["threshold"].append(0.0), out["number"].append(row)
            return
        out["feature"].append(int(tree.feature[node])), out["threshold"].append(float(tree.threshold[node])), out["number"].append(0)
        add(tree, tree.children_left[node])
        out["number"][at] = len(out["feature"])
        add(tree, tree.children_right[node])

    for estimator in forest.estimators_:
        out["roots"].append(len(out["feature"]))
        add(estimator.tree_, 0)
    out["table"] = [list(row) for row in rows]
    return out


def _trees(arrays: Mapping[str, array], classes: int, inputs: int) -> list[Any]:
    """The arrays of one forest as nodes to walk."""
    feature, threshold, number, roots, table = (arrays[part].tolist() for part in PARTS)
    if not 0 < len(roots) <= MOST_TREES or len(table) % classes:
        raise ValueError("arrays of a forest do not fit together")
    wide = [packed(table[i:i + classes]) for i in range(0, len(table), classes)]
    leaves = [wide[n] if f == LEAF else 0 for f, n in zip(feature, number)]
    nodes = nested([-1 if f == LEAF else f for f in feature], threshold, range(1, len(feature) + 1), number, leaves, inputs)
    return [nodes[r] for r in roots]


class CompactStudent:
    """A student read from its compact form. It is ``Scores``; weights are whole numbers."""

    def __init__(self, path: Path = SHIPPED):
        try:
            self.about, arrays = _read(Path(path))
            self.trees = {name: _trees({part: arrays[f"{name}.{part}"] for part in PARTS}, classes, WIDTH + len(EARLIER[name]))
                          for name, classes in FORESTS.items()}
        except FileNotFoundError:
            raise UserError(f"{path}: no such student; 'scion lumen distil' makes one") from None
        except (IndexError, KeyError, TypeError, ValueError, struct.error) as e:
            raise UserError(f"{path}: not a compact student, or a broken one ({e}); distil it again") from None

    def __call__(self, name: str, x: Sequence[float]) -> list[int]:
        return unpacked(walk(self.trees[name], x), FORESTS[name])

    def decide(self, numbers: Sequence[float], shape: str, choose: Choose) -> Expression:
        """One expression for the twelve numbers of a window and its shape."""
        return decide(self, features_of(numbers, shape), choose)


def _read(path: Path) -> tuple[dict[str, str], dict[str, array]]:
    """The metadata and the arrays of a safetensors file whose arrays have the types above."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    if length > len(data) - 8:
        raise ValueError("the header is longer than the file")
    header = json.loads(data[8:8 + length])
    about = header.pop("__metadata__")
    if about.get("format") != FORMAT:
        raise ValueError(f"'format' is not '{FORMAT}'")
    if [json.loads(about[k]) for k in ("features", "tokens", "patterns")] != [list(NAMES), list(TOKENS), list(PATTERNS)]:
        raise ValueError("it was made for other features, tokens or patterns")
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(data) - 8 - length:
            raise ValueError(f"'{name}' reaches beyond the file")
        values = array(DTYPES[entry["dtype"]])
        values.frombytes(data[8 + length + begin:8 + length + end])
        if sys.byteorder == "big":
            values.byteswap()
        arrays[name] = values
    return about, arrays
