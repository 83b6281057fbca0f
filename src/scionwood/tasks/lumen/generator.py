"""The rule-based generator of expressions: a pattern by the shape's odds, tokens by their fit, weights moved by feedback.

With a fresh seed per row it draws exactly the published labels: ``random.Random(seed)``, one ``choices`` for the pattern, one for each
token in the order of TOKENS, and for a question one plain ``choice`` of an inquiry. The exact odds of every expression are known, too
(``odds``), so a system's distribution can be compared with the rules themselves instead of a sample of them.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Iterator, Sequence

from scionwood.tasks.lumen.vocabulary import (AFFINE_WEIGHT, AFFINITY, INQUIRY, OTHER_WEIGHT, PAIR, PATTERN_WEIGHTS, PATTERNS, QUESTION,
                                              REPETITION, SINGLE, TOKENS)

STEP = 0.08  # how far one feedback moves a weight at most
LOWEST, HIGHEST = 0.1, 10.0

Tokens = tuple[str, ...]


def first_weights(shape: str) -> list[float]:
    """The weights of all tokens before any feedback, in the order of TOKENS."""
    return [AFFINE_WEIGHT if t in AFFINITY[shape] else OTHER_WEIGHT for t in TOKENS]


class Generator:
    """Draws expressions. One generator keeps its random stream and its weights from call to call."""

    def __init__(self, seed: int | str | None = None):
        self.random = random.Random(seed)
        self.weights = {shape: first_weights(shape) for shape in AFFINITY}

    def generate(self, shape: str) -> list[str]:
        """The tokens of one expression for a shape."""
        return draw(self.random, PATTERN_WEIGHTS[shape], self.weights[shape])

    def feedback(self, shape: str, tokens: Sequence[str], score: float) -> None:
        """Move the weights of an expression's tokens towards a score from 0 (bad) to 1 (good): w + 0.08 (2 score - 1), kept in 0.1 to 10.

        Raises ValueError for a score outside 0..1.
        """
        if not 0 <= score <= 1:
            raise ValueError(f"score {score}: expected 0 to 1")
        mine = self.weights[shape]
        for token in tokens:
            k = TOKENS.index(token)
            mine[k] = min(HIGHEST, max(LOWEST, mine[k] + STEP * (2 * score - 1)))


def draw(rng: random.Random, patterns: Sequence[float], weights: Sequence[float]) -> list[str]:
    """One expression by pattern weights (order of PATTERNS) and token weights (order of TOKENS)."""
    pattern = rng.choices(PATTERNS, weights=patterns)[0]
    if pattern == SINGLE:
        return _distinct(rng, weights, 1)
    if pattern == REPETITION:
        return _distinct(rng, weights, 1) * 2
    if pattern == QUESTION:
        return [*_distinct(rng, weights, 1), rng.choice(INQUIRY)]
    return _distinct(rng, weights, 2 if pattern == PAIR else 3)


def _distinct(rng: random.Random, weights: Sequence[float], n: int) -> list[str]:
    """``n`` different tokens, each drawn by weight from those that are left."""
    left, odds, out = list(TOKENS), list(weights), []
    for _ in range(n):
        k = rng.choices(range(len(left)), weights=odds)[0]
        out.append(left.pop(k))
        odds.pop(k)
    return out


def sharpened(values: Sequence[float], temperature: float) -> list[float]:
    """Weights raised to 1 / temperature and scaled to sum 1: what sampling at that temperature makes of a distribution."""
    top = max(values)
    powers = [(v / top) ** (1 / temperature) for v in values]
    return [p / sum(powers) for p in powers]


def sequences(patterns: Sequence[float], weights: Sequence[float]) -> Iterator[tuple[Tokens, float]]:
    """Every way that ``draw`` can go, as (tokens, probability). The same tokens may come up by two patterns."""
    single, pair, triple, repetition, question = (p / sum(patterns) for p in patterns)
    total = sum(weights)
    for a, wa in zip(TOKENS, weights):
        pa = wa / total
        yield (a,), single * pa
        yield (a, a), repetition * pa
        for asked in INQUIRY:
            yield (a, asked), question * pa / len(INQUIRY)
        for b, wb in zip(TOKENS, weights):
            if b == a:
                continue
            pb = pa * wb / (total - wa)
            yield (a, b), pair * pb
            for c, wc in zip(TOKENS, weights):
                if c != a and c != b:
                    yield (a, b, c), triple * pb * wc / (total - wa - wb)


@cache
def odds(shape: str) -> dict[Tokens, float]:
    """The exact probability of every expression under the rules for a shape, without feedback."""
    out: dict[Tokens, float] = {}
    for tokens, p in sequences(PATTERN_WEIGHTS[shape], first_weights(shape)):
        out[tokens] = out.get(tokens, 0.0) + p
    return out
