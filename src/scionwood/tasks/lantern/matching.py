"""The temperature at which one model draws with the entropy of another, by bisection."""

from __future__ import annotations

import math
from typing import Any, Callable

COLDEST, HOTTEST = 0.05, 5.0
NEAR = 0.02  # nats
MOST = 12  # temperatures that are tried


def match(entropy_at: Callable[[float], float], wanted: float, echo: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """The temperature at which ``entropy_at(temperature)``, which rises, gives ``wanted`` nats.

    Bisects between ln(COLDEST) and ln(HOTTEST), beginning at 1, until the entropy is within ``NEAR``. Returns {"temperature", "entropy",
    "wanted", "tried": [[temperature, entropy], ...]}: the nearest of all that were tried, be it near or not.
    """
    low, high, at = math.log(COLDEST), math.log(HOTTEST), 0.0
    tried: list[list[float]] = []
    while len(tried) < MOST:
        temperature = round(math.exp(at), 4)
        tried.append([temperature, entropy_at(temperature)])
        echo(f"  temperature {temperature:g}: {tried[-1][1]:.3f} nats, {wanted:.3f} wanted")
        if abs(tried[-1][1] - wanted) <= NEAR or high - low < 1e-3:
            break
        low, high = (at, high) if tried[-1][1] < wanted else (low, at)
        at = (low + high) / 2
    best = min(tried, key=lambda t: abs(t[1] - wanted))
    return {"temperature": best[0], "entropy": best[1], "wanted": wanted, "tried": tried}
