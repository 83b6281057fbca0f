"""One frozen type per measure, so that two quantities with the same name can never be compared, subtracted or given each other's zones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from scionwood.errors import UserError

NATS, SHARE, WORDS, COUNT = "nats", "share", "words", "count"
SAME_LENGTH = 0.1  # how far two lengths may differ where the length itself moves the measure


@dataclass(frozen=True)
class Ordinary:
    """What ordinary prose of the same length has: the mean, and the range in which nine of ten passages lie.

    ``length`` is the length that the figure is for, in the unit of the measure's n; ``source`` names the text.
    """

    mean: float
    low: float
    high: float
    length: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure of one kind. ``value`` is None where the measure is not defined; ``why`` then says why.

    ``n`` counts what the figure was computed over (``OVER``). ``low`` and ``high`` are a 95 % interval, None where too little
    text stands behind the figure. ``basis`` is what two figures must share to be compared, such as the model.
    """

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    ordinary: Ordinary | None = None
    basis: str = ""
    why: str = ""

    NAME: ClassVar[str]
    UNIT: ClassVar[str]
    OVER: ClassVar[str] = "words"
    SOURCE: ClassVar[str]
    LENGTH_BOUND: ClassVar[bool] = False  # a longer text alone gives another figure

    def alike(self, other: Any) -> None:
        """Raise TypeError where ``other`` is another kind of figure, UserError where the two rest on different ground."""
        if type(other) is not type(self):
            given = getattr(other, "NAME", type(other).__name__)
            raise TypeError(f"{self.NAME} and {given} are different quantities; they cannot be compared")
        if self.basis != other.basis:
            raise UserError(f"{self.NAME}: one figure rests on {self.basis or 'nothing named'}, the other on {other.basis or 'nothing named'}; "
                            "measure both in the same way")
        if self.value is None or other.value is None:
            raise UserError(f"{self.NAME}: not defined ({self.why or other.why})")
        if self.LENGTH_BOUND and abs(self.n - other.n) > SAME_LENGTH * max(self.n, other.n):
            raise UserError(f"{self.NAME} grows or falls with length, and here {self.n} {self.OVER} stand against {other.n}; cut both to one length")

    def __sub__(self, other: Any) -> float:
        self.alike(other)
        return self.value - other.value

    def __lt__(self, other: Any) -> bool:
        self.alike(other)
        return self.value < other.value

    def __gt__(self, other: Any) -> bool:
        self.alike(other)
        return self.value > other.value

    def row(self) -> dict[str, Any]:
        """The figure as a JSON value, with its unit and source."""
        out: dict[str, Any] = {"value": self.value, "unit": self.UNIT, "n": self.n, "of": self.OVER, "low": self.low, "high": self.high}
        out["ordinary"] = None if self.ordinary is None else vars(self.ordinary)
        out |= {"basis": self.basis} if self.basis else {}
        out |= {"why": self.why} if self.why else {}
        return out | {"source": self.SOURCE}


class WordEntropy(Measure):
    """Entropy of the text's own words, as published: above all a measure of length. Zones belong to this measure alone: see ``zones.py``."""

    NAME, UNIT, LENGTH_BOUND = "E1", NATS, True
    SOURCE = "Shannon 1948, plug-in; published as Entropy Thermometer (iris-gate)"


class CharacterEntropy(Measure):
    """Entropy of the text's own characters: above all the spelling of its language."""

    NAME, UNIT, OVER, LENGTH_BOUND = "E2", NATS, "characters", True
    SOURCE = "Shannon 1948, plug-in; published as lexical entropy (iris-gate)"


class H50(Measure):
    """Mean word entropy of windows of 50 words, whatever the length of the text."""

    WINDOW: ClassVar[int] = 50
    NAME, UNIT = "H50", NATS
    SOURCE = "Shannon 1948, over windows of fixed length"


class H100(Measure):
    """Mean word entropy of windows of 100 words, whatever the length of the text."""

    WINDOW: ClassVar[int] = 100
    NAME, UNIT = "H100", NATS
    SOURCE = "Shannon 1948, over windows of fixed length"


class Mtld(Measure):
    """How many words pass until the share of different ones has fallen to .72."""

    NAME, UNIT = "MTLD", WORDS
    SOURCE = "McCarthy and Jarvis 2010, BRM 42:381"


class HdD(Measure):
    """Expected share of different words among 42 drawn from the text."""

    NAME, UNIT = "HD-D", SHARE
    SOURCE = "McCarthy and Jarvis 2007, Language Testing 24:459"


class Distinct1(Measure):
    """Different words over words: falls with length."""

    SIZE: ClassVar[int] = 1
    NAME, UNIT, LENGTH_BOUND = "distinct-1", SHARE, True
    SOURCE = "Li et al. 2016, NAACL (distinct-n)"


class Distinct2(Measure):
    """Different word pairs over word pairs: falls with length."""

    SIZE: ClassVar[int] = 2
    NAME, UNIT, OVER, LENGTH_BOUND = "distinct-2", SHARE, "word pairs", True
    SOURCE = "Li et al. 2016, NAACL (distinct-n)"


class Distinct3(Measure):
    """Different word triples over word triples: falls with length."""

    SIZE: ClassVar[int] = 3
    NAME, UNIT, OVER, LENGTH_BOUND = "distinct-3", SHARE, "word triples", True
    SOURCE = "Li et al. 2016, NAACL (distinct-n)"


class Ead(Measure):
    """Different words over those that as many even draws from a fixed vocabulary would give."""

    NAME, UNIT, LENGTH_BOUND = "EAD", SHARE, True
    SOURCE = "Liu et al. 2022, ACL (expectation-adjusted distinct)"


class DistinctK(Measure):
    """How many of k answers to one prompt are not the same as an earlier one."""

    NAME, UNIT, OVER, LENGTH_BOUND = "distinct_k", COUNT, "answers", True
    SOURCE = "Zhang et al. 2025 (NoveltyBench)"


class UtilityK(Measure):
    """Quality of the new answers among k, the later ones counting less."""

    NAME, UNIT, OVER, LENGTH_BOUND = "utility_k", "utility", "answers", True
    SOURCE = "Zhang et al. 2025 (NoveltyBench)"


class Overlap(Measure):
    """Words that two answers share over those that either has: low is diverse, short texts overlap less."""

    NAME, UNIT, OVER, LENGTH_BOUND = "overlap", SHARE, "pairs of answers", False
    SOURCE = "Jaccard 1912, over sets of words"


class PredictiveEntropy(Measure):
    """Entropy of the model's next-token distribution, T = 1, over the whole vocabulary."""

    NAME, UNIT, OVER = "predictive entropy", NATS, "tokens"
    SOURCE = "Shannon 1948, of the model's own probabilities"


class Surprisal(Measure):
    """Minus log-probability of the token that stands in the text: no entropy, it belongs to this text."""

    NAME, UNIT, OVER = "surprisal", NATS, "tokens"
    SOURCE = "Shannon 1948; Hale 2001"


class BranchingFactor(Measure):
    """Exp of the predictive entropy: to how many equally likely tokens the choice amounts."""

    NAME, UNIT, OVER = "branching factor", "tokens", "tokens"
    SOURCE = "Yang and Holtzman 2025, arXiv 2506.17871"


class SemanticEntropy(Measure):
    """Entropy over classes of answers that mean the same."""

    NAME, UNIT, OVER, LENGTH_BOUND = "semantic entropy", NATS, "answers", True
    SOURCE = "Farquhar et al. 2024, Nature 630:625, discrete"


class WeightedSemanticEntropy(Measure):
    """The same with each answer weighed by its length-normalised likelihood."""

    NAME, UNIT, OVER, LENGTH_BOUND = "weighted semantic entropy", NATS, "answers", True
    SOURCE = "Farquhar et al. 2024, Nature 630:625"


TEXT = (WordEntropy, CharacterEntropy, H50, H100, Mtld, HdD, Distinct1, Distinct2, Distinct3, Ead)
SETS = (DistinctK, UtilityK, Overlap, SemanticEntropy, WeightedSemanticEntropy)
MODEL = (PredictiveEntropy, Surprisal, BranchingFactor)
