"""How each token looks and moves: its colour, its way of breathing over the three LEDs, and the gestures that it draws with."""

from __future__ import annotations

import math
from typing import NamedTuple

RGB = tuple[float, float, float]  # 0 to 255


class Manner(NamedTuple):
    """``pace``: breaths per usual breath. ``lean``: how far, in breaths, the right LED lags behind the left one (negative: leads).
    ``depth``: share of the brightness that the breath takes away. ``gestures``: what the pen likes to do, by weight."""

    colour: RGB
    pace: float
    lean: float
    depth: float
    gestures: dict[str, float]


MANNERS: dict[str, Manner] = {
    "warmth": Manner((255, 138, 56), 1.0, 0.0, 0.35, {"glow": 3, "leaf": 1}),
    "curiosity": Manner((255, 196, 64), 1.4, 0.25, 0.40, {"wander": 3, "curl": 1}),
    "resonance": Manner((206, 120, 214), 1.0, 0.10, 0.30, {"ring": 2, "leaf": 2}),
    "stillness": Manner((118, 168, 226), 0.7, 0.0, 0.15, {"dots": 3, "ring": 1}),
    "boundary": Manner((196, 82, 70), 0.9, 0.0, 0.25, {"bar": 3, "grow": 1}),
    "reaching": Manner((240, 214, 108), 1.3, 0.33, 0.45, {"grow": 4, "branch": 1}),
    "reflection": Manner((120, 144, 226), 0.8, 0.20, 0.30, {"leaf": 2, "curl": 2}),
    "ripple": Manner((76, 198, 206), 1.7, 0.50, 0.55, {"ring": 3, "wander": 1}),
    "deep_listening": Manner((92, 112, 206), 0.6, 0.0, 0.20, {"ring": 2, "dots": 1, "glow": 1}),
    "emergence": Manner((132, 212, 108), 1.3, 0.33, 0.45, {"branch": 3, "leaf": 2}),
    "questioning": Manner((250, 170, 92), 1.5, 0.30, 0.50, {"curl": 3, "wander": 2}),
    "holding": Manner((222, 152, 112), 0.8, 0.0, 0.20, {"ring": 2, "glow": 1, "leaf": 1}),
    "releasing": Manner((150, 198, 172), 0.8, -0.33, 0.45, {"spores": 4, "curl": 1}),
    "threshold": Manner((226, 104, 148), 1.1, 0.15, 0.35, {"bar": 2, "branch": 2}),
    "return": Manner((236, 166, 128), 0.9, -0.25, 0.35, {"curl": 2, "grow": 1, "glow": 1}),
}
NEUTRAL = Manner((214, 150, 84), 0.8, 0.0, 0.25, {"grow": 2, "dots": 1})  # before the first expression


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """The colour that lies ``share`` of the way from a to b, mixed as light."""
    return tuple(math.sqrt((1 - share) * x * x + share * y * y) for x, y in zip(a, b))


def tinted(colour: RGB, warmth: float) -> RGB:
    """A colour seen by a warmer (1) or a colder (0) body; 0.5 leaves it as it is."""
    r, g, b = colour
    shift = 0.24 * (warmth - 0.5)
    return tuple(min(255.0, max(0.0, v)) for v in (r * (1 + shift), g, b * (1 - shift)))


def hexed(colour: RGB) -> str:
    """``#rrggbb``."""
    return "#" + "".join(f"{min(255, max(0, round(v))):02x}" for v in colour)
