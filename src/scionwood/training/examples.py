"""Training cases as node paths in one token tree, with their supervised positions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Sequence

import numpy as np

from scionwood.models import decoder
from scionwood.models.prompts import Renderer, check_length
from scionwood.models.trees import TokenTree, TreeRow, lay_out


@dataclass(frozen=True)
class Example:
    """One case ready to train on.

    ``path`` (n,) are the tree nodes of prompt and answer; ``at`` (k,) the places in the path whose next token is
    supervised, ``labels`` (k,) those tokens. The turn end is always among them. ``weight`` is the case's weight in the loss.
    """

    id: str
    path: np.ndarray
    at: np.ndarray
    labels: np.ndarray
    weight: float = 1.0


@dataclass
class Examples:
    """All training cases and the token tree that they share.

    ``vectors``: tree node -> vector (hidden,) that is read there in place of the token's embedding, used as it is: who adds it
    scales it. Different vectors stand at different nodes, though their token be the same: see ``add_with_vector``.
    """

    tree: TokenTree
    items: list[Example]
    vectors: dict[int, np.ndarray] | None = None


def build(renderer: Renderer, rows: Sequence[tuple[str, list[dict], str]], max_length: int, balance: float = 0.0) -> Examples:
    """Render ``(case id, messages, answer)`` rows. A case longer than ``max_length`` tokens is an error.

    With ``balance`` above 0, cases with a frequent answer weigh less than cases with a rare one (see ``answer_weights``).
    """
    tree, items = TokenTree(), []
    for (case_id, messages, answer), weight in zip(rows, answer_weights([answer for *_, answer in rows], balance)):
        r = renderer.render(messages, answer)
        check_length(case_id, r, max_length)
        items.append(supervised(tree, case_id, r.prompt, r.answer, weight))
    return Examples(tree, items)


def answer_weights(answers: Sequence[str], balance: float) -> list[float]:
    """A weight for each case, 1 on average: its answer's frequency to the power of ``-balance``.

    0 weighs all cases alike; 1 gives each answer the same weight in all, however often it occurs. Figures such as macro-F1
    count each label alike, and a loss that does not leaves the rare ones to chance.
    """
    counts = Counter(answers)
    raw = [counts[a] ** -balance for a in answers]
    return [w * len(raw) / sum(raw) for w in raw]


def supervised(tree: TokenTree, case_id: str, prompt: list[int], answer: list[int], weight: float = 1.0) -> Example:
    """Add a prompt and its answer to the tree; only the answer's tokens are supervised."""
    # the last answer token is only ever a label: it needs no node of its own
    path = tree.add(prompt + answer[:-1])
    start = len(prompt) - 1
    return Example(case_id, path, np.arange(start, start + len(answer)), np.array(answer, dtype=np.int64), weight)


def add_with_vector(tree: TokenTree, ids: Sequence[int], place: int, number: int) -> np.ndarray:
    """Add a sequence whose token at ``place`` stands for vector ``number``; return its path.

    Sequences with the same beginning and the same vector go on sharing nodes behind it; those with different vectors part
    there. The token stays what it is: only the node tells the vectors apart.
    """
    path = tree.add([*ids[:place], -number - 1, *ids[place + 1 :]])  # no token has a negative number
    tree.tokens[path[place]] = ids[place]
    return path


def row_vectors(examples: Examples, chosen: Sequence[int], row: TreeRow) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of a row of examples: ``(places (k,), values (k, hidden) float32)``, each place once."""
    found: dict[int, np.ndarray] = {}
    if examples.vectors:
        for i, places in zip(chosen, row.paths):
            for node, place in zip(examples.items[i].path.tolist(), places.tolist()):
                if node in examples.vectors:
                    found[place] = examples.vectors[node]
    values = [np.asarray(v, dtype=np.float32) for v in found.values()]
    return np.fromiter(found, np.int64, len(found)), np.stack(values) if values else np.empty((0, 0), np.float32)


def embed_row(model, examples: Examples, chosen: Sequence[int], row: TreeRow, ids):
    """What the first layer reads of a row of examples, (1, n, hidden) in float32: embeddings, and vectors in their places."""
    import torch

    hidden = decoder.embed(model, ids)
    places, values = row_vectors(examples, chosen, row)
    if not len(places):
        return hidden
    return hidden.index_copy(1, torch.from_numpy(places).to(hidden.device), torch.from_numpy(values)[None].to(hidden))


def shuffle(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch; the same for the same seed and epoch, so a resumed run goes on in it."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def micro_batches(examples: Examples, chosen: Sequence[int], limit: int) -> list[list[int]]:
    """Cut one step's examples into rows of at most ``limit`` distinct tokens; an example longer than that stands alone.

    Neighbours in the tree are put together (order by path), so that few prefixes are computed twice. The split does not
    change the gradient, since every row's loss is divided by the supervised tokens of the whole step.
    """
    order = sorted(chosen, key=lambda i: examples.items[i].path.tolist())
    out: list[list[int]] = []
    nodes: set[int] = set()
    for i in order:
        more = nodes.union(examples.items[i].path.tolist())
        if out and len(more) <= limit:
            out[-1].append(i)
            nodes = more
        else:
            out.append([i])
            nodes = set(examples.items[i].path.tolist())
    return out


def row_of(examples: Examples, chosen: Sequence[int], shared: bool = True):
    """Lay examples out as one row: ``(TreeRow, places (m,), labels (m,), weights (m,))``, one entry per supervised token.

    With ``shared`` false, every example gets nodes of its own: the plain packed batch, to compare with.
    """
    items = [examples.items[i] for i in chosen]
    if not shared:
        tree, moved = TokenTree(), []
        for n, e in enumerate(items):
            # a first token that no other example has keeps the copies apart; it is replaced below
            path = tree.add([-n - 1] + [examples.tree.tokens[j] for j in e.path[1:]])
            tree.tokens[path[0]] = examples.tree.tokens[e.path[0]]
            moved.append(path)
        row = lay_out(tree, moved)
    else:
        row = lay_out(examples.tree, [e.path for e in items])
    places = np.concatenate([p[e.at] for p, e in zip(row.paths, items)])
    weights = np.concatenate([np.full(len(e.labels), e.weight, dtype=np.float32) for e in items])
    return row, places, np.concatenate([e.labels for e in items]), weights
