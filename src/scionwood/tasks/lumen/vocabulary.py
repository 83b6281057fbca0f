"""The vocabulary of expressions: 15 tokens, five patterns, which tokens fit which shape, and the 16 words of the device.

All of it is the published vocabulary of EISV-Lumen. Tokens are named plainly here (``stillness``); ``spelled`` gives the form that
models write (``~stillness~``). The order of the tokens is part of the format: the published labels were drawn in it.
"""

from __future__ import annotations

from typing import Sequence

TOKENS = ("warmth", "curiosity", "resonance", "stillness", "boundary", "reaching", "reflection", "ripple", "deep_listening",
          "emergence", "questioning", "holding", "releasing", "threshold", "return")
INQUIRY = ("questioning", "curiosity")  # the order in which the published generator draws from them

SINGLE, PAIR, TRIPLE, REPETITION, QUESTION = PATTERNS = ("SINGLE", "PAIR", "TRIPLE", "REPETITION", "QUESTION")

# The tokens that fit a shape, in the published order of the shapes.
AFFINITY: dict[str, tuple[str, ...]] = {
    "settled_presence": ("stillness", "holding", "resonance", "deep_listening"),
    "rising_entropy": ("ripple", "emergence", "questioning", "curiosity"),
    "falling_energy": ("releasing", "stillness", "boundary", "reflection"),
    "basin_transition_down": ("releasing", "threshold", "boundary"),
    "basin_transition_up": ("emergence", "reaching", "warmth", "return"),
    "entropy_spike_recovery": ("ripple", "return", "holding", "reflection"),
    "drift_dissonance": ("boundary", "questioning", "reflection"),
    "void_rising": ("reaching", "curiosity", "questioning", "threshold"),
    "convergence": ("stillness", "resonance", "return", "deep_listening"),
}

# How often each shape is told in each pattern, in the order of PATTERNS.
PATTERN_WEIGHTS: dict[str, tuple[float, ...]] = {
    "settled_presence": (0.40, 0.30, 0.10, 0.15, 0.05),
    "rising_entropy": (0.10, 0.20, 0.30, 0.10, 0.30),
    "falling_energy": (0.30, 0.30, 0.10, 0.20, 0.10),
    "basin_transition_down": (0.20, 0.30, 0.30, 0.10, 0.10),
    "basin_transition_up": (0.15, 0.30, 0.35, 0.10, 0.10),
    "entropy_spike_recovery": (0.10, 0.30, 0.30, 0.20, 0.10),
    "drift_dissonance": (0.10, 0.20, 0.20, 0.10, 0.40),
    "void_rising": (0.20, 0.20, 0.20, 0.10, 0.30),
    "convergence": (0.40, 0.30, 0.10, 0.15, 0.05),
}

AFFINE_WEIGHT, OTHER_WEIGHT = 3.0, 1.0  # how the rules weigh a token that fits the shape, and one that does not

WORDS = ("warm", "cold", "bright", "dim", "quiet", "busy", "here", "feel", "sense", "you", "with", "why", "what", "wonder", "more", "less")

# The two words of the device for each token: the first, or the second where the first was said already.
TOKEN_WORDS: dict[str, tuple[str, str]] = {
    "warmth": ("warm", "feel"),
    "curiosity": ("why", "wonder"),
    "resonance": ("with", "here"),
    "stillness": ("quiet", "here"),
    "boundary": ("less", "sense"),
    "reaching": ("more", "you"),
    "reflection": ("what", "feel"),
    "ripple": ("busy", "sense"),
    "deep_listening": ("quiet", "sense"),
    "emergence": ("more", "bright"),
    "questioning": ("why", "what"),
    "holding": ("here", "with"),
    "releasing": ("less", "dim"),
    "threshold": ("sense", "more"),
    "return": ("here", "warm"),
}
MAX_WORDS = 3


def spelled(token: str) -> str:
    """A token as models write it: ``~stillness~``."""
    return f"~{token}~"


def plain(text: str) -> str:
    """The name in a written token; other text comes back as it is."""
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] == "~" else text


def pattern_of(tokens: Sequence[str]) -> str:
    """The pattern that tokens stand for, by the published rule. Raises ValueError without tokens.

    One token is SINGLE; two or more, all equal, are REPETITION; else a last token that inquires makes a QUESTION; two are a PAIR;
    the rest is a TRIPLE. So a pair that was drawn as one is a QUESTION where it happens to end with an inquiry. (The published rule
    looks at two equal tokens only; the card's example repeats three times, and means the same.)
    """
    if not tokens:
        raise ValueError("an expression needs a token")
    if len(tokens) == 1:
        return SINGLE
    if len(set(tokens)) == 1:
        return REPETITION
    if tokens[-1] in INQUIRY:
        return QUESTION
    return PAIR if len(tokens) == 2 else TRIPLE


def words_of(tokens: Sequence[str]) -> list[str]:
    """The device's words for tokens: each token's first word that is not said yet, three at most."""
    words: list[str] = []
    for token in tokens:
        fresh = [w for w in TOKEN_WORDS[token] if w not in words]
        words += fresh[:1]
    return words[:MAX_WORDS]


def coherence(shape: str, tokens: Sequence[str]) -> float | None:
    """The published coherence: the share of tokens that fit the shape, from 0 to 1; None without tokens."""
    fit = AFFINITY[shape]
    return sum(t in fit for t in tokens) / len(tokens) if tokens else None
