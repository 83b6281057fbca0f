"""The published zones of word entropy (E1), and the warning where the length of the text alone decides the zone."""

from __future__ import annotations

import math

from scionwood.tasks.lantern.measures.kinds import WordEntropy

LASER, TRANSITION, LANTERN, CHAOS = ZONES = ("LASER", "TRANSITION", "LANTERN", "CHAOS")
BLANKS = "words between blanks"  # the basis of E1 as published


def zone_of(value: float) -> str:
    """The zone of an E1 in nats: below 3, 3 to below 4, 4 to 6, above 6."""
    return LASER if value < 3 else TRANSITION if value < 4 else LANTERN if value <= 6 else CHAOS


def zone(e1: WordEntropy) -> str | None:
    """The published zone of a word entropy; None for a text without words between blanks. Any other measure is a TypeError."""
    if type(e1) is not WordEntropy:
        raise TypeError(f"zones were set for E1 alone, not for {getattr(e1, 'NAME', type(e1).__name__)}")
    return zone_of(e1.value) if e1.basis == BLANKS and e1.value is not None else None


def length_decides(e1: WordEntropy) -> str:
    """Why the zone says nothing but the length of the text, in one sentence; empty where it says more.

    An entropy over N words is at most ln N, so a short text cannot leave the lowest zones whatever it says. And where nine of
    ten passages of ordinary prose of the same length lie in one zone, a text in that zone is told apart from nothing.
    """
    if zone(e1) is None:
        return ""
    own = zone_of(e1.value)
    most = zone_of(math.log(e1.n)) if e1.n else LASER
    if most in (LASER, TRANSITION) and own == most:
        return f"length alone decides the zone: no text of {e1.n} words can be above {own} (at most ln {e1.n} = {math.log(max(e1.n, 1)):.2f} nats)"
    o = e1.ordinary
    if o is not None and zone_of(o.low) == zone_of(o.high) == own:
        return f"length alone decides the zone: of ordinary prose of {e1.n} words, nine passages in ten are {own} too"
    return ""
