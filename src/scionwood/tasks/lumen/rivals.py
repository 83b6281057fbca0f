"""Trivial systems. Those that are told the shape know it from the reference: in ``blind`` they show what knowing it would be worth."""

from __future__ import annotations

import random
from collections import Counter
from typing import Callable, Sequence

from scionwood.systems.base import Rival
from scionwood.task import Case, Task
from scionwood.tasks.lumen import implied
from scionwood.tasks.lumen.generator import draw, first_weights, sharpened
from scionwood.tasks.lumen.grammar import Notation, in_notation, text_of
from scionwood.tasks.lumen.shapes import DIMENSIONS, SHAPES, UNCLASSIFIED, Point
from scionwood.tasks.lumen.vocabulary import AFFINITY, PATTERN_WEIGHTS, TOKENS

TEMPERATURES = (0.1, 0.3, 0.5, 0.7)
Weights = Callable[[str], Sequence[float]]  # by shape


class Drawn(Rival):
    """Draws by pattern weights and token weights of the shape; the same for the same case and seed."""

    def __init__(self, name: str, about: str, notation: Notation, patterns: Weights, tokens: Weights, seed: int = 0):
        self.name, self.about, self.notation, self.patterns, self.tokens, self.seed = name, about, notation, patterns, tokens, seed

    def answer(self, case: Case) -> tuple[str, float | None]:
        shape = case.reference["shape"]
        tokens = draw(random.Random(f"{self.name}/{self.seed}/{case.id}"), self.patterns(shape), self.tokens(shape))
        return text_of(in_notation(tuple(tokens), self.notation), self.notation), None


class Constant(Rival):
    """One token, whatever comes."""

    def __init__(self, token: str, notation: Notation):
        self.name, self.about = f"constant-{token.replace('_', '-')}", f"always ~{token}~ alone"
        self.text = text_of(in_notation((token,), notation), notation)

    def answer(self, case: Case) -> tuple[str, float | None]:
        return self.text, None


class Commonest(Rival):
    """The token that stands most often in the training labels of the shape, alone."""

    name, about = "commonest", "told the shape: the token that is commonest in its training labels, alone"

    def __init__(self, notation: Notation):
        self.notation = notation

    def fit(self, task: Task, cases: Sequence[Case]) -> None:
        super().fit(task, cases)
        counts: dict[str, Counter] = {s: Counter() for s in SHAPES}
        for c in cases:
            counts[c.reference["shape"]].update(c.reference["tokens"])
        # ties, and shapes without a label, fall to the token that comes first in the vocabulary
        self.best = {s: max(TOKENS, key=n.__getitem__) for s, n in counts.items()}

    def answer(self, case: Case) -> tuple[str, float | None]:
        return text_of(in_notation((self.best[case.reference["shape"]],), self.notation), self.notation), None


class Marginal(Rival):
    """A training label drawn without looking at the case: what shuffled labels teach."""

    name, about = "marginal", "the label of a training case at random, whatever comes"

    def __init__(self, seed: int = 0):
        self.seed = seed

    def fit(self, task: Task, cases: Sequence[Case]) -> None:
        super().fit(task, cases)
        self.labels = [task.target(c) for c in cases]

    def answer(self, case: Case) -> tuple[str, float | None]:
        return random.Random(f"{self.name}/{self.seed}/{case.id}").choice(self.labels), None


def speak(shape: str, notation: Notation) -> str:
    """The likeliest telling expression of a shape."""
    return text_of(implied.plainest(shape, notation), notation)


class Logistic(Rival):
    """Guesses the shape by logistic regression on the printed numbers, and says the likeliest expression that implies it."""

    name = "logistic"
    about = ("logistic regression on the printed numbers guesses the shape, C by cross-validation; "
             "then the expression that tells it best")

    def __init__(self, notation: Notation, plain: bool):
        self.notation, self.plain = notation, plain

    @staticmethod
    def features(case: Case) -> list[int]:
        return [v for values in case.input.values() for v in values]

    def fit(self, task: Task, cases: Sequence[Case]) -> None:
        from sklearn.linear_model import LogisticRegressionCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        super().fit(task, cases)
        # the score is log-loss: it asks for good probabilities, which calibration is measured on
        model = LogisticRegressionCV(Cs=[0.1, 1.0, 10.0], cv=3, solver="newton-cholesky", scoring="neg_log_loss", l1_ratios=(0.0,),
                                     use_legacy_attributes=False)
        self.model = make_pipeline(StandardScaler(), model).fit([self.features(c) for c in cases], [c.reference["shape"] for c in cases])

    def answer(self, case: Case) -> tuple[str, float | None]:
        p = self.model.predict_proba([self.features(case)])[0]
        shape = str(self.model.classes_[p.argmax()])
        share = 1.0 if self.plain else max(implied.telling_odds(shape, self.notation).values())
        return speak(shape, self.notation), float(p.max()) * share


class RobustRules(Rival):
    """The robust classifier on the printed numbers; where it says unclassified, settled is said."""

    name = "robust-rules"
    about = ("the robust classifier on the printed numbers (unclassified counts as settled), "
             "then the expression that tells the shape best")

    def __init__(self, notation: Notation, step: float):
        self.notation, self.step = notation, step

    def answer(self, case: Case) -> tuple[str, float | None]:
        from scionwood.tasks.lumen.trajectories import robust

        lines = [case.input[name] for name in (*DIMENSIONS, "D")]
        shape = robust.classify([Point(k * self.step, *(v / 100 for v in values)) for k, values in enumerate(zip(*lines))])
        return speak(SHAPES[0] if shape == UNCLASSIFIED else shape, self.notation), None


def _rules(shape: str) -> Sequence[float]:
    return PATTERN_WEIGHTS[shape]


def _single(shape: str) -> Sequence[float]:
    return [1.0, 0.0, 0.0, 0.0, 0.0]


def _triple(shape: str) -> Sequence[float]:
    return [0.0, 0.0, 1.0, 0.0, 0.0]


def _affine(shape: str) -> Sequence[float]:
    return [float(t in AFFINITY[shape]) for t in TOKENS]


def _uniform(shape: str) -> Sequence[float]:
    return [1.0] * len(TOKENS)


def drawn(notation: Notation, seed: int = 0) -> list[Rival]:
    """The systems that draw, each told the shape: the rules, sharper rules, fitting tokens only, all tokens alike."""

    def at(temperature: float) -> Drawn:
        return Drawn(f"rules-at-{temperature:g}",
                     f"told the shape: the rules' odds of patterns and tokens sharpened as by temperature {temperature:g}", notation,
                     lambda s: sharpened(PATTERN_WEIGHTS[s], temperature), lambda s: sharpened(first_weights(s), temperature), seed)

    return [
        Drawn("rules", "told the shape: the rules that drew the labels, drawing anew", notation, _rules, first_weights, seed),
        *map(at, TEMPERATURES),
        Drawn("affine-single", "told the shape: one fitting token at random", notation, _single, _affine, seed),
        # three fitting tokens is the least that any shape has, so a triple can always be drawn
        Drawn("affine", "told the shape: fitting tokens at random, in the rules' patterns", notation, _rules, _affine, seed),
        Drawn("uniform", "all tokens alike, in the rules' patterns of the shape", notation, _rules, _uniform, seed),
        Drawn("uniform-triple", "three different tokens at random", notation, _triple, _uniform, seed),
    ]


def all_rivals(notation: Notation, blind: bool, step: float, seed: int = 0, plain: bool = False) -> list[Rival]:
    """Every rival of the task. ``step``: seconds between two printed states of "blind"; ``plain``: what its labels are."""
    constants: list[Rival] = [Constant(t, notation) for t in ("stillness", "resonance", "deep_listening")]
    sensing: list[Rival] = [Logistic(notation, plain), RobustRules(notation, step)] if blind else []
    return [*sensing, *constants, Marginal(seed), Commonest(notation), *drawn(notation, seed)]
