"""From the forests' scores to an expression, so that the tokens never contradict the pattern.

The pattern is decided first, then token after token among those that the pattern still allows. Each forest sees what was decided before
it: the pattern by its place in ``PATTERNS``, tokens by their place in ``TOKENS``.
"""

from __future__ import annotations

import random
from typing import Callable, NamedTuple, Protocol, Sequence

from scionwood.tasks.lumen.vocabulary import INQUIRY, PAIR, PATTERNS, QUESTION, REPETITION, SINGLE, TOKENS, pattern_of

NONE = len(TOKENS)  # the class that says: no further token
FORESTS = {"pattern": len(PATTERNS), "token1": len(TOKENS), "token2": len(TOKENS) + 1, "token3": len(TOKENS) + 1}  # and their classes
EARLIER = {"pattern": (), "token1": ("pattern",), "token2": ("pattern", "token1"), "token3": ("pattern", "token1", "token2")}
_ASKING = frozenset(TOKENS.index(t) for t in INQUIRY)


class Expression(NamedTuple):
    """One to three tokens and the pattern that they stand for."""

    pattern: str
    tokens: tuple[str, ...]


class Scores(Protocol):
    """Anything that weighs the classes of one forest: at least 0 each, on any scale. ``x`` holds the features, then what was decided."""

    def __call__(self, forest: str, x: Sequence[float]) -> Sequence[float]: ...


Choose = Callable[[Sequence[float], Sequence[int]], int]


def decide(scores: Scores, features: Sequence[float], choose: Choose) -> Expression:
    """One expression. ``choose`` picks a class out of those that are allowed: ``likeliest``, or what ``drawing`` makes."""
    x = list(features)
    pattern = choose(scores("pattern", x), range(len(PATTERNS)))
    x.append(float(pattern))
    first = choose(scores("token1", x), range(len(TOKENS)))
    tokens = [first]
    name = PATTERNS[pattern]
    if name == REPETITION:
        tokens.append(first)
    elif name != SINGLE:
        x.append(float(first))
        tokens.append(choose(scores("token2", x), allowed(name, tokens)))
        if name != PAIR:
            x.append(float(tokens[1]))
            third = choose(scores("token3", x), allowed(name, tokens))
            tokens += [third] if third != NONE else []
    return Expression(name, tuple(TOKENS[t] for t in tokens))


def allowed(pattern: str, tokens: Sequence[int]) -> list[int]:
    """The classes that may follow one token (of a pair, triple or question) or two (of a triple or question); never empty."""
    fresh = [t for t in range(len(TOKENS)) if t not in tokens]
    asking = [t for t in fresh if t in _ASKING]
    if pattern == QUESTION and len(tokens) == 2:
        return [*asking, NONE] if tokens[1] in _ASKING else asking
    if len(tokens) == 1 and pattern != PAIR:
        return fresh
    return [t for t in fresh if t not in _ASKING]


def likeliest(weights: Sequence[float], classes: Sequence[int]) -> int:
    """The allowed class of the greatest weight, the first of equals."""
    return max(classes, key=weights.__getitem__)


def drawing(rng: random.Random, temperature: float = 1.0) -> Choose:
    """Draws among the allowed classes in proportion to their weights (to the power 1/temperature); evenly where all weigh nothing."""

    def draw(weights: Sequence[float], classes: Sequence[int]) -> int:
        part = [max(weights[c], 0.0) for c in classes]
        top = max(part)
        if top <= 0:
            return classes[int(rng.random() * len(classes))]
        powered = part if temperature == 1.0 else [(w / top) ** (1 / temperature) for w in part]
        return rng.choices(classes, powered)[0]

    return draw


def drawn(pattern: str, tokens: Sequence[str]) -> tuple[str, ...] | None:
    """A teacher's expression as tokens that the assembly can write, or None where it cannot.

    A repetition is said twice here, however often it was said. A question in the card's notation, one token and ``?``, gets an inquiry
    as its last token.
    """
    tokens = tuple(tokens)
    if pattern == REPETITION and len(set(tokens)) == 1:
        return tokens[:1] * 2
    if pattern == QUESTION and len(tokens) == 1:
        tokens += tuple(t for t in INQUIRY if t not in tokens)[:1]
    fine = 0 < len(tokens) <= 3 and len(set(tokens)) == len(tokens) and set(tokens) <= set(TOKENS) and pattern_of(tokens) == pattern
    return tokens if fine else None


def steps(tokens: Sequence[str]) -> dict[str, tuple[list[float], int]]:
    """What each forest should learn from drawn tokens: its inputs beside the features, and its class. Forests that are not asked for
    this pattern are left out."""
    pattern = pattern_of(tokens)
    ids = [TOKENS.index(t) for t in tokens]
    before = [float(PATTERNS.index(pattern))]
    taught = {"pattern": ([], PATTERNS.index(pattern)), "token1": (before, ids[0])}
    if pattern in (SINGLE, REPETITION):
        return taught
    taught["token2"] = ([*before, float(ids[0])], ids[1])
    if pattern != PAIR:
        taught["token3"] = ([*before, float(ids[0]), float(ids[1])], ids[2] if len(ids) > 2 else NONE)
    return taught
