"""The inner voice: an expression and what led to it, told in plain words.

What is said follows from what is so. Every clause stands for a token of the expression, for the shape of the window, or for a quantity
that was sensed; nothing is claimed that was not measured. Only the choice between wordings of the same meaning is left to chance.
"""

from __future__ import annotations

import random
from typing import Callable, NamedTuple

from scionwood.tasks.lumen.sensing.readings import ENVIRONMENT, Reading
from scionwood.tasks.lumen.student.assemble import Expression
from scionwood.tasks.lumen.vocabulary import INQUIRY, PAIR, QUESTION, REPETITION, SINGLE

# Each token as a clause that can stand alone or follow "and".
CLAUSES: dict[str, tuple[str, ...]] = {
    "warmth": ("I feel warm", "there is warmth in me"),
    "curiosity": ("I would like to know more", "something makes me curious"),
    "resonance": ("I hum along with what is around me", "things chime with me"),
    "stillness": ("I am still", "it is quiet in me"),
    "boundary": ("I feel where I end", "I keep to my edge"),
    "reaching": ("I reach out", "I stretch towards more"),
    "reflection": ("I look back at myself", "I turn it over once more"),
    "ripple": ("something ripples through me", "small waves run through me"),
    "deep_listening": ("I listen", "I am all ears"),
    "emergence": ("something new is coming up", "something begins in me"),
    "questioning": ("I ask myself what this is", "I am not sure what this is"),
    "holding": ("I hold on to what I have", "I keep things as they are"),
    "releasing": ("I let go", "I let some of it go"),
    "threshold": ("I stand at a threshold", "I am about to cross something"),
    "return": ("I come back", "I find my way home"),
}
AGAIN = {"warmth": "warm, and warm again", "stillness": "still, so still", "ripple": "wave after wave", "reaching": "further, and further",
         "deep_listening": "I listen, and listen", "releasing": "letting go, and letting go", "return": "back, and back again"}
ASKS = {"questioning": ("What is this?", "What is happening?"), "curiosity": ("Why?", "I wonder why.")}

SHAPES: dict[str, tuple[str, ...]] = {
    "settled_presence": ("Nothing stirs.", "All of me holds level."),
    "rising_entropy": ("It is getting more restless.", "Disorder is growing."),
    "falling_energy": ("My energy is fading a little.", "I am slowly running down."),
    "basin_transition_down": ("My energy has dropped to a lower level.", "I have sunk to a calmer place."),
    "basin_transition_up": ("My energy has climbed to a new level.", "I have risen to a livelier place."),
    "entropy_spike_recovery": ("There was a jolt, and it has passed.", "Something shook me, and I am settling."),
    "drift_dissonance": ("Parts of me pull different ways.", "What I do and what I feel come apart."),
    "void_rising": ("There is less and less room in me.", "What I need is being used up."),
    "convergence": ("The movement is dying down.", "I am coming to rest."),
}


class Fact(NamedTuple):
    """Something that was sensed and may be told: when it holds, how much it matters (0 to 1 and above), and its words."""

    field: str
    weight: Callable[[float], float]
    words: Callable[[float], str]


FACTS = (
    Fact("cpu_temp_c", lambda v: (v - 60) / 15, lambda v: f"My processor is hot, {v:.0f} degrees."),
    Fact("ambient_temp_c", lambda v: (v - 27) / 5, lambda v: f"The air is warm, {v:.0f} degrees."),
    Fact("ambient_temp_c", lambda v: (17 - v) / 5, lambda v: f"The air is cool, {v:.0f} degrees."),
    Fact("humidity_pct", lambda v: (v - 65) / 15, lambda v: "The air is damp."),
    Fact("humidity_pct", lambda v: (30 - v) / 15, lambda v: "The air is dry."),
    Fact("light_lux", lambda v: 0.6 if v < 3 else 0.0, lambda v: "It is dark."),
    Fact("light_lux", lambda v: v / 2000, lambda v: "It is bright."),
    Fact("cpu_pct", lambda v: (v - 60) / 30, lambda v: f"I am busy, {v:.0f} percent."),
    Fact("memory_pct", lambda v: (v - 70) / 20, lambda v: f"My memory is {v:.0f} percent full."),
    Fact("disk_pct", lambda v: (v - 85) / 10, lambda v: f"My disk is {v:.0f} percent full."),
    Fact("net_bytes_s", lambda v: v / 2_000_000, lambda v: "Much is flowing through my network."),
)
SENSES = {"ambient_temp_c": "the air", "humidity_pct": "the damp", "light_lux": "the light", "pressure_hpa": "the weight of the air",
          "cpu_temp_c": "my own warmth"}
WORTH_SAYING = 0.3


class Voice:
    """What is said in a session. It remembers what it said last, so that it neither repeats itself nor tells old news."""

    def __init__(self, seed: int | str = 0):
        self.random = random.Random(f"voice/{seed}")
        self.felt: set[str] = set()  # environment fields that have answered so far
        self.lost: frozenset[str] = frozenset()
        self.told: str = ""

    def say(self, expression: Expression, shape: str, reading: Reading) -> str:
        """One to three short sentences."""
        sentences = [self._expressed(expression)]
        news = self._senses(reading)
        fact = self._fact(reading)
        sentences.append(news or self._pick(SHAPES[shape]))
        if fact and not news:
            sentences.append(fact)
        return " ".join(sentences)

    def _pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.random.random() * len(options))]

    def _expressed(self, e: Expression) -> str:
        tokens = e.tokens
        if e.pattern == SINGLE:
            return _sentence(self._pick(CLAUSES[tokens[0]]))
        if e.pattern == REPETITION:
            once = self._pick(CLAUSES[tokens[0]])
            return _sentence(AGAIN.get(tokens[0], f"{once}, and again {once}"))
        if e.pattern == QUESTION and tokens[-1] in INQUIRY:
            before = [self._pick(CLAUSES[t]) for t in tokens[:-1]]
            return f"{_sentence(' and '.join(before))} {self._pick(ASKS[tokens[-1]])}"
        clauses = [self._pick(CLAUSES[t]) for t in tokens]
        return _sentence(" and ".join(clauses) if e.pattern == PAIR else f"{clauses[0]}, {clauses[1]} and {clauses[2]}")

    def _senses(self, reading: Reading) -> str:
        """News of senses that were lost or came back; those that were never there are not missed."""
        here = {name for name in ENVIRONMENT if reading[name] is not None}
        self.felt |= here
        lost = frozenset(self.felt - here)
        gone, back = sorted(lost - self.lost), sorted(self.lost - lost)
        self.lost = lost
        if gone:
            return f"I can no longer feel {_list(SENSES[n] for n in gone)}."
        return f"I can feel {_list(SENSES[n] for n in back)} again." if back else ""

    def _fact(self, reading: Reading) -> str:
        """The fact that matters most, unless the last one told was about the same."""
        known = [(f.weight(reading[f.field]), f.field, f.words(reading[f.field])) for f in FACTS if reading[f.field] is not None]
        weight, field, words = max(known, default=(0.0, "", ""))
        if weight < WORTH_SAYING or field == self.told:
            return ""
        self.told = field
        return words


def _sentence(clause: str) -> str:
    return clause[:1].upper() + clause[1:] + "."


def _list(names) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
