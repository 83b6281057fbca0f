"""Which shape an expression implies: the shape under which the rules would draw it most often.

Labels drawn by the rules tell little of their shape: ``~stillness~`` is as likely under convergence as under settled_presence. Guessing
the shape from such labels finds one in four (``recall_of_rules``), however well a system feels. So where a system has to tell what it
feels, it learns from *telling* expressions: draws of the same rules, but only those that imply the shape they were drawn for. The
telling expressions of two shapes never coincide, so the probability of one is the probability of its shape times a known share.
"""

from __future__ import annotations

import random
from functools import cache
from itertools import product

from scionwood.tasks.lumen.generator import draw, first_weights, odds
from scionwood.tasks.lumen.grammar import Expression, Notation, in_notation
from scionwood.tasks.lumen.shapes import SHAPES
from scionwood.tasks.lumen.vocabulary import PATTERN_WEIGHTS

CLEARLY = 1 + 1e-9  # two shapes whose odds differ by rounding alone are tied


@cache
def rule_odds(shape: str, notation: Notation) -> dict[Expression, float]:
    """The exact probability of every expression of a notation under the rules for a shape."""
    out: dict[Expression, float] = {}
    for tokens, p in odds(shape).items():
        expression = in_notation(tokens, notation)
        out[expression] = out.get(expression, 0.0) + p
    return out


@cache
def _table(notation: Notation) -> dict[Expression, str]:
    """Every expression that implies a shape, with that shape (all shapes alike beforehand)."""
    everything = set().union(*(rule_odds(s, notation) for s in SHAPES))
    table = {}
    for expression in everything:
        second, best = sorted((rule_odds(s, notation).get(expression, 0.0), s) for s in SHAPES)[-2:]
        if best[0] > second[0] * CLEARLY:
            table[expression] = best[1]
    return table


def implied(expression: Expression, notation: Notation) -> str | None:
    """The shape that an expression implies; None where two shapes tie, or where it is no expression of the grammar."""
    return _table(notation).get(expression)


@cache
def telling_odds(shape: str, notation: Notation) -> dict[Expression, float]:
    """The exact probability of every telling expression of a shape."""
    mine = {e: p for e, p in rule_odds(shape, notation).items() if _table(notation).get(e) == shape}
    total = sum(mine.values())
    return {e: p / total for e, p in mine.items()}


@cache
def _plainest(notation: Notation) -> dict[str, Expression]:
    """For every shape one of its likeliest telling expressions, chosen among equals so that their beginnings differ.

    A model that writes token by token then decides between the shapes at once, not between beginnings that several shapes share.
    """
    equals = []
    for shape in SHAPES:
        odds = telling_odds(shape, notation)
        equals.append(sorted(e for e, p in odds.items() if p * CLEARLY >= max(odds.values())))

    def differ(chosen: tuple[Expression, ...]) -> tuple[int, int]:
        return len({e.tokens[0] for e in chosen}), len({e.tokens[0][:2] for e in chosen})

    return dict(zip(SHAPES, max(product(*equals), key=differ)))


def plainest(shape: str, notation: Notation) -> Expression:
    """The likeliest telling expression of a shape: what a shape's plain label is."""
    return _plainest(notation)[shape]


def draw_telling(rng: random.Random, shape: str, notation: Notation) -> Expression:
    """A telling expression: the rules draw until one implies the shape (ten draws at the rarest, on average)."""
    while True:
        expression = in_notation(tuple(draw(rng, PATTERN_WEIGHTS[shape], first_weights(shape))), notation)
        if implied(expression, notation) == shape:
            return expression


def recall_of_rules(notation: Notation) -> float:
    """How often the implied shape is right where the rules speak of every shape alike: the most that their labels allow (0 to 1)."""
    return sum(p for s in SHAPES for e, p in rule_odds(s, notation).items() if implied(e, notation) == s) / len(SHAPES)
