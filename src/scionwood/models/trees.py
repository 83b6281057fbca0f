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
class Group:
    """Sequences of a row that share a stem. ``stem`` (p,) are the places of the shared nodes in the row, ``own`` (b, l) those of
    each sequence's further nodes, padded by the last one; ``lengths`` (b,) how many of them are real."""

    stem: np.ndarray
    own: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class TreeRow:
    """One row of a batch: the union of the nodes of some sequences.

    ``nodes`` (n,) are the tree's node numbers, ``tokens`` and ``positions`` (n,) their ids and depths, ``paths`` gives for each
    sequence the places of its tokens in the row, ``groups`` say who attends to whom.
    """

    nodes: np.ndarray
    tokens: np.ndarray
    positions: np.ndarray
    paths: list[np.ndarray]
    groups: list[Group]


def lay_out(tree: TokenTree, paths: Iterable[np.ndarray]) -> TreeRow:
    """Lay the given sequences (as node paths) out as one row; shared nodes appear once."""
    paths = list(paths)
    nodes = np.unique(np.concatenate(paths))
    local = [np.searchsorted(nodes, p) for p in paths]
    return TreeRow(
        nodes=nodes,
        tokens=np.fromiter((tree.tokens[i] for i in nodes), np.int64, len(nodes)),
        positions=np.fromiter((tree.depths[i] for i in nodes), np.int64, len(nodes)),
        paths=local,
        groups=[as_group([local[i] for i in chosen]) for chosen in group_paths(local)],
    )


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """How many leading nodes two paths share."""
    n = min(len(a), len(b))
    differs = np.flatnonzero(a[:n] != b[:n])
    return int(differs[0]) if len(differs) else n


def group_paths(paths: list[np.ndarray]) -> list[list[int]]:
    """Put neighbouring paths together while they keep most of the stem: half of a single path's, four fifths of a group's.

    Any grouping gives the same result; this one keeps stems long and the padding small. The stricter rule for groups keeps
    the many answers of one prompt apart from those of the next: else each would carry its prompt's tokens along.
    """
    order = sorted(range(len(paths)), key=lambda i: paths[i].tolist())
    groups: list[list[int]] = []
    stem = 0
    for i in order:
        if groups:
            shared = min(stem, common_prefix(paths[groups[-1][0]], paths[i]))
            if shared and shared >= stem * (0.5 if len(groups[-1]) == 1 else 0.8):
                groups[-1].append(i)
                stem = shared
                continue
        groups.append([i])
        stem = len(paths[i])
    return groups


def as_group(paths: list[np.ndarray]) -> Group:
    """The shared beginning of some paths, and what each has of its own."""
    first = paths[0]
    if len(paths) == 1:
        return Group(first, np.empty((0, 0), np.int64), np.empty(0, np.int64))
    p = min(common_prefix(first, other) for other in paths[1:])
    rests = [path[p:] for path in paths if len(path) > p]  # a path that ends within the stem has nothing of its own
    width = max((len(r) for r in rests), default=0)
    own = np.array([np.concatenate([r, np.full(width - len(r), r[-1])]) for r in rests], dtype=np.int64).reshape(len(rests), width)
    return Group(first[:p], own, np.array([len(r) for r in rests], dtype=np.int64))


def to_tensors(row: TreeRow, device):
    """Return ``(ids (1, n), positions (1, n), TreeLayout)`` on a device."""
    import torch

    from scionwood.models.attention import TreeLayout

    return torch.from_numpy(row.tokens)[None].to(device), torch.from_numpy(row.positions)[None].to(device), TreeLayout(row, device)
