"""Token sequences that share prefixes, as one tree: every shared token is computed once.

A token's activation depends on the tokens before it alone. So sequences with a common beginning are laid out as a tree:
each node is one token in its context, a row of a batch is the set of nodes of its cases, and a node attends to itself and
its ancestors. The result equals the plain batch in values and in gradients; a test holds this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Sequence

import numpy as np


class TokenTree:
    """All sequences of a data set as one tree. Prefixes are found, not declared."""

    def __init__(self):
        self.children: dict[tuple[int, int], int] = {}
        self.tokens: list[int] = []
        self.depths: list[int] = []

    def add(self, ids: Sequence[int]) -> np.ndarray:
        """Insert a sequence; return the node of each of its tokens, root first."""
        path = np.empty(len(ids), dtype=np.int64)
        parent = -1
        for depth, token in enumerate(ids):
            node = self.children.get((parent, token))
            if node is None:
                node = len(self.tokens)
                self.children[parent, token] = node
                self.tokens.append(token)
                self.depths.append(depth)
            path[depth] = parent = node
        return path

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class TreeRow:
    """One row of a batch: the union of the nodes of some sequences.

    ``nodes`` (n,) are the tree's node numbers, ``tokens`` and ``positions`` (n,) their ids and depths, ``mask`` (n, n) is
    true where a node may look, ``paths`` gives for each sequence the places of its tokens in the row.
    """

    nodes: np.ndarray
    tokens: np.ndarray
    positions: np.ndarray
    mask: np.ndarray
    paths: list[np.ndarray]


def lay_out(tree: TokenTree, paths: Iterable[np.ndarray]) -> TreeRow:
    """Lay the given sequences (as node paths) out as one row; shared nodes appear once."""
    paths = list(paths)
    # a node's number is higher than its parent's, so sorted order is a valid order of computation
    nodes = np.unique(np.concatenate(paths))
    local = [np.searchsorted(nodes, p) for p in paths]
    mask = np.zeros((len(nodes), len(nodes)), dtype=bool)
    for p in local:
        mask[np.ix_(p, p)] |= np.tri(len(p), dtype=bool)
    return TreeRow(
        nodes=nodes,
        tokens=np.fromiter((tree.tokens[i] for i in nodes), np.int64, len(nodes)),
        positions=np.fromiter((tree.depths[i] for i in nodes), np.int64, len(nodes)),
        mask=mask,
        paths=local,
    )


def to_tensors(row: TreeRow, device):
    """Return ``(ids (1, n), positions (1, n), mask (1, 1, n, n))`` on a device."""
    import torch

    return (
        torch.from_numpy(row.tokens)[None].to(device),
        torch.from_numpy(row.positions)[None].to(device),
        torch.from_numpy(row.mask)[None, None].to(device),
    )
