"""What is done to vectors and words on purpose: whose vector a case gets, in which order sentences stand, what a generic text says."""

from __future__ import annotations

import random
import re
from typing import Sequence

from scionwood.task import Case
from scionwood.tasks.nla.metrics import group_of

# Says nothing of any text in particular, in the words and at the length of a description.
GENERIC = ("A short piece of writing in an ordinary voice. The speaker tells of something that happened and how it looked from there. "
           "A few details are given in passing. It may well go on.")
SENTENCE = re.compile(r"(?<=[.!?])\s+")
PARAPHRASE = ("Say the following in other words. Keep every statement, add none, leave none out. Use other sentence structures and, where "
              "English has them, other words. Answer with the new text alone.\n\n{text}")


def strangers(cases: Sequence[Case], within: bool, seed: int = 0) -> list[int]:
    """For each case the place of another whose vector it is given: of its own category and language (``within``), or of any. Nobody keeps
    their own.

    Places are dealt out by shifting a shuffled order by one, so every vector is used once. A single case of its kind has nobody to
    change with: it takes the vector of the next case.
    """
    groups: dict[str, list[int]] = {}
    for i, c in enumerate(cases):
        groups.setdefault(group_of(c) if within else "", []).append(i)
    out = [0] * len(cases)
    for name, places in sorted(groups.items()):
        random.Random(f"{seed}/{name}").shuffle(places)
        for here, there in zip(places, [*places[1:], places[0]]):
            out[here] = there if there != here else (here + 1) % len(cases)
    return out


def sentences(text: str) -> list[str]:
    """The sentences of an English text, as far as full stops tell them."""
    return [s for s in SENTENCE.split(text.strip()) if s]


def shuffled_sentences(text: str, seed: str) -> str:
    """The same sentences in another order; a text of one sentence stays as it is."""
    parts = sentences(text)
    if len(parts) < 2:
        return text
    order = list(range(len(parts)))
    rng = random.Random(seed)
    while order == sorted(order):
        rng.shuffle(order)
    return " ".join(parts[i] for i in order)


def random_vectors(count: int, width: int, seed: int = 0):
    """Directions without any meaning: standard normal (count, width) float32."""
    import numpy as np

    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
