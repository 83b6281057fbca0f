"""How good a student is, on windows from a time that it never saw.

Agreement with one answer of a teacher who draws lots is bounded by the lots, so two rivals stand beside every figure: the expression
that the teacher says most often for the shape (a lookup table, no number of the window), and a second draw by the rules.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, Callable, Mapping, Sequence

from scionwood.tasks.lumen.generator import Generator
from scionwood.tasks.lumen.student.assemble import Choose, Expression, Scores, decide, drawing, likeliest
from scionwood.tasks.lumen.student.examples import Example, shuffled_numbers
from scionwood.tasks.lumen.vocabulary import coherence, pattern_of

Answer = Callable[[Example], tuple[str, ...]]
SHUFFLES = 3
DRAWS = 5  # expressions drawn for each window, for the distances


def answers(scores: Scores, examples: Sequence[Example], choose: Choose) -> list[tuple[str, ...]]:
    """The tokens that a student says for each example."""
    return [decide(scores, e.features(), choose).tokens for e in examples]


def figures(scores: Scores, test: Sequence[Example], seed: int = 0) -> dict[str, Any]:
    """Agreement and coherence of the likeliest answers; coherence and distances of drawn ones; dependence on all but the shape."""
    greedy = answers(scores, test, likeliest)
    out = agreement(greedy, test)
    out["coherence"] = _coherence(greedy, test)
    repeated = [e for e in test for _ in range(DRAWS)]
    said = answers(scores, repeated, drawing(random.Random(seed)))
    out["drawn_coherence"] = _coherence(said, repeated)
    out |= distances(said, repeated, test)
    out |= dependence(scores, test, greedy, seed)
    return out


def agreement(said: Sequence[tuple[str, ...]], test: Sequence[Example]) -> dict[str, Any]:
    """Shares of equal patterns, first tokens and whole expressions, with Wilson intervals."""
    from scionwood.evidence.intervals import wilson

    out: dict[str, Any] = {"n": len(test)}
    for name, equal in hits(said, test).items():
        right = sum(equal)
        out[f"{name}_agreement"], out[f"{name}_interval"] = right / len(test), list(wilson(right, len(test)))
    return out


def hits(said: Sequence[tuple[str, ...]], test: Sequence[Example]) -> dict[str, list[int]]:
    """For each kind of agreement, 1 or 0 per example."""
    return {
        "pattern": [int(pattern_of(s) == pattern_of(e.tokens)) for s, e in zip(said, test)],
        "token1": [int(s[0] == e.tokens[0]) for s, e in zip(said, test)],
        "expression": [int(s == e.tokens) for s, e in zip(said, test)],
    }


def compare(first: Scores, second: Scores, test: Sequence[Example]) -> dict[str, Any]:
    """Two students on the same windows: by exact McNemar on the agreement with the teacher, and how often they say the same."""
    from scionwood.evidence.paired import mcnemar

    one, other = (answers(s, test, likeliest) for s in (first, second))
    out: dict[str, Any] = {"same_answers": sum(a == b for a, b in zip(one, other)) / len(test)}
    for name, before in hits(one, test).items():
        tested = mcnemar(before, hits(other, test)[name])
        out[name] = {"gains": tested.gains, "losses": tested.losses, "p": tested.p}
    return out


def _coherence(said: Sequence[tuple[str, ...]], test: Sequence[Example]) -> float:
    return sum(coherence(e.window.shape, s) for s, e in zip(said, test)) / len(test)


def distances(said: Sequence[tuple[str, ...]], windows: Sequence[Example], test: Sequence[Example]) -> dict[str, float]:
    """Jensen-Shannon distances (0 to 1) of tokens and patterns to the teacher's held-out answers, mean over the shapes that occur."""
    import numpy as np

    from scionwood.tasks.lumen.distances import divergence, pattern_shares, token_shares

    out = {}
    for name, shares in (("js_tokens", token_shares), ("js_patterns", pattern_shares)):
        values = []
        for shape in sorted({e.window.shape for e in test}):
            mine = np.mean([shares(s, pattern_of(s)) for s, e in zip(said, windows) if e.window.shape == shape], axis=0)
            theirs = np.mean([shares(e.tokens, pattern_of(e.tokens)) for e in test if e.window.shape == shape], axis=0)
            values.append(max(0.0, divergence(mine, theirs)) ** 0.5)
        out[name] = sum(values) / len(values)
    return out


def dependence(scores: Scores, test: Sequence[Example], greedy: Sequence[tuple[str, ...]], seed: int = 0) -> dict[str, float]:
    """How much depends on anything but the shape: the share of likeliest answers that change when windows of any shape swap their
    numbers, and how much agreement on the pattern that costs. Means over ``SHUFFLES`` permutations."""
    changed, cost = [], []
    before = sum(hits(greedy, test)["pattern"])
    for k in range(SHUFFLES):
        said = answers(scores, shuffled_numbers(test, seed + k), likeliest)
        changed.append(sum(a != b for a, b in zip(said, greedy)) / len(test))
        cost.append((before - sum(hits(said, test)["pattern"])) / len(test))
    return {"changed_without_numbers": sum(changed) / SHUFFLES, "agreement_lost_without_numbers": sum(cost) / SHUFFLES}


def lookup(train: Sequence[Example]) -> Answer:
    """The rival that knows the shape alone: the teacher's commonest expression for it."""
    counts: dict[str, Counter] = {}
    for e in train:
        counts.setdefault(e.window.shape, Counter())[e.tokens] += 1
    best = {shape: max(sorted(c), key=c.__getitem__) for shape, c in counts.items()}
    return lambda e: best.get(e.window.shape, ("stillness",))


def rivals(train: Sequence[Example], test: Sequence[Example], seed: int = 0) -> dict[str, dict[str, Any]]:
    """The figures of the two rivals that have them."""
    out = {}
    best = lookup(train)
    for name, answer in (("lookup", best), ("rules", lambda e: tuple(Generator(f"again/{seed}/{e.window.id}").generate(e.window.shape)))):
        said = [answer(e) for e in test]
        out[name] = agreement(said, test) | {"coherence": _coherence(said, test)} | distances(said, test, test)
    return out


def contradictions(scores: Scores, examples: Sequence[Example], seed: int = 0) -> int:
    """Expressions whose tokens stand for another pattern than was decided; there must be none."""
    choose: Mapping[str, Choose] = {"likeliest": likeliest, "drawn": drawing(random.Random(seed))}
    found: list[Expression] = [decide(scores, e.features(), c) for c in choose.values() for e in examples]
    return sum(pattern_of(f.tokens) != f.pattern for f in found)
