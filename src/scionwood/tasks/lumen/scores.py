"""Scores of one answer, and the figures over many.

Some of them a lookup table wins: coherence (say a token that fits the shape) and pattern accuracy (always say SINGLE). They are here
because they were published. The distances to the rules' own distribution, and in ``blind`` the shape that an expression implies, are
what such a table cannot win. A failed answer is wrong in every score.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Sequence

from scionwood.task import Case, Metric, ScoredRow, proportion
from scionwood.tasks.lumen import implied
from scionwood.tasks.lumen.distances import Distance, pattern_shares, said, token_shares
from scionwood.tasks.lumen.grammar import Expression, Notation
from scionwood.tasks.lumen.shapes import SHAPES
from scionwood.tasks.lumen.vocabulary import coherence

BINS = 10  # of equal width, for the calibration error


def score(case: Case, answer: dict[str, Any] | None) -> dict[str, float]:
    """The scores that need no notation. An answer without any token has no coherence (as published), a failed one has 0."""
    tokens, pattern = said(answer)
    out = {"valid": float(answer is not None), "strict": float(bool(answer) and bool(answer["strict"])),
           "pattern_correct": float(bool(answer) and pattern == case.reference["pattern"]),
           "exact": float(bool(answer) and list(tokens) == list(case.reference["tokens"]) and pattern == case.reference["pattern"])}
    fit = 0.0 if answer is None else coherence(case.reference["shape"], tokens)
    return out if fit is None else out | {"coherence": fit}


def mean_of(name: str) -> Callable[[Sequence[ScoredRow]], float | None]:
    """The mean of a score over the rows that carry it."""

    def mean(rows: Sequence[ScoredRow]) -> float | None:
        values = [r.scores[name] for r in rows if name in r.scores]
        return sum(values) / len(values) if values else None

    return mean


def diversity(rows: Sequence[ScoredRow]) -> float | None:
    """Different tokens over all tokens. It falls with the number of rows: compare it on the same cases only."""
    tokens = [t for r in rows for t in said(r.answer)[0] or ()]
    return len(set(tokens)) / len(tokens) if tokens else None


def implied_shape(answer: dict[str, Any] | None, notation: Notation) -> str | None:
    """The shape that an answer implies; None for a failure, a tie, or what is no legal expression."""
    tokens, pattern = said(answer)
    return implied.implied(Expression(tokens, pattern), notation) if answer and answer.get("strict", True) else None


def shape_number(shape: str | None) -> float:
    """A shape as a score: its place in ``SHAPES``, -1 for none. Resampling asks for it a hundred million times."""
    return float(SHAPES.index(shape)) if shape else -1.0


def shape_f1(only: str | None = None) -> Callable[[Sequence[ScoredRow]], float | None]:
    """Mean F1 of the implied shape over the true shapes that occur, or the F1 of one shape."""

    def value(rows: Sequence[ScoredRow]) -> float | None:
        pairs = Counter((r.scores["shape"], r.scores["implied"]) for r in rows)
        true, guessed = Counter(), Counter()
        for (shape, implied_one), n in pairs.items():
            true[shape] += n
            guessed[implied_one] += n
        shapes = [s for s in true if only is None or s == shape_number(only)]
        return sum(2 * pairs[s, s] / (true[s] + guessed[s]) for s in shapes) / len(shapes) if shapes else None

    return value


def shape_probability(row: ScoredRow, notation: Notation, plain: bool = False) -> float | None:
    """How sure a system is of the shape that it implies, 0 to 1; None where it gives no confidence or implies no shape.

    Telling expressions of different shapes never coincide. So a system that has learnt to speak says an expression with the probability
    of its shape times the share that the expression has under that shape, and the one follows from the other by division. With
    ``plain`` labels a shape has one expression only, whose share is 1.
    """
    if row.confidence is None or (shape := implied_shape(row.answer, notation)) is None:
        return None
    return min(1.0, row.confidence / (1.0 if plain else implied.telling_odds(shape, notation)[Expression(*said(row.answer))]))


def calibration_error(notation: Notation, plain: bool = False) -> Callable[[Sequence[ScoredRow]], float | None]:
    """The expected calibration error of the implied shape (Naeini et al. 2015, AAAI), ten bins; None without any confidence."""

    def value(rows: Sequence[ScoredRow]) -> float | None:
        bins: dict[int, list[float]] = {}
        count = 0
        for r in rows:
            p = shape_probability(r, notation, plain)
            if p is not None:
                one = bins.setdefault(min(BINS - 1, int(p * BINS)), [0.0])
                one[0] += p - r.scores["correct"]
                count += 1
        return sum(abs(b[0]) for b in bins.values()) / count if count else None

    return value


def of_shape(shape: str) -> Callable[[ScoredRow], bool]:
    """Keeps the rows of one true shape."""
    return lambda row: row.case.reference["shape"] == shape


def all_metrics(notation: Notation, blind: bool, plain: bool = False) -> list[Metric]:
    """Every figure of the card, the primary one first."""
    odds = implied.telling_odds if blind else implied.rule_odds

    def reference(shape: str):
        return odds(shape, notation)

    both = Distance((token_shares, pattern_shares), reference)
    far = "to the rules' own distribution, from the mean divergence over the shapes, corrected for the number of answers"
    sensed = [
        Metric("shape_macro_f1", shape_f1(), about="mean F1 over the nine shapes of the shape that the expression implies (primary)"),
        proportion("shape_accuracy", "correct", about="the expression implies the true shape"),
        Metric("shape_calibration_error", calibration_error(notation, plain), better="lower",
               about="expected calibration error of the implied shape's probability, ten bins"),
        *(Metric(f"f1_{s}", shape_f1(s), about=f"F1 of '{s}'") for s in SHAPES),
    ]
    spoken = [
        Metric("js_distance", both, better="lower",
               about=f"Jensen-Shannon distance of tokens and patterns {far}{'' if blind else ' (primary)'}"),
        Metric("js_tokens", Distance((token_shares,), reference), better="lower", about=f"Jensen-Shannon distance of the tokens {far}"),
        Metric("js_patterns", Distance((pattern_shares,), reference), better="lower",
               about=f"Jensen-Shannon distance of the patterns {far}"),
        *(Metric(f"js_{s}", both, better="lower", rows=of_shape(s), about=f"the same for '{s}' alone") for s in SHAPES if not blind),
    ]
    published = [
        Metric("coherence", mean_of("coherence"), about="share of the tokens that fit the shape (published; a lookup scores 1)"),
        *(Metric(f"coherence_{s}", mean_of("coherence"), rows=of_shape(s), about=f"the same for '{s}' alone") for s in SHAPES if not blind),
        proportion("valid_rate", "valid", about="readable by the published rule, which is lax"),
        proportion("strict_valid_rate", "strict", about="keeps the grammar: tokens, words and pattern agree"),
        proportion("pattern_accuracy", "pattern_correct", about="the pattern of the label, which is a random draw (published)"),
        proportion("exact_rate", "exact", about="tokens and pattern of the label, which is a random draw"),
        Metric("diversity", diversity, about="different tokens over all tokens (published)"),
    ]
    return sensed + spoken + published if blind else spoken + published
