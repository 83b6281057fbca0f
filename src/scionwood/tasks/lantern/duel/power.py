"""What a design could show: the power of the sign test on pairs, exactly by the binomial distribution."""

from __future__ import annotations

from functools import cache

from scipy.stats import binom

from scionwood.evidence.paired import ALPHA, POWER

MOST = 100_000  # pairs that are looked at


def needed_wins(n: int, alpha: float = ALPHA, sides: int = 2) -> int | None:
    """The fewest wins of ``n`` that are significant (n - wins losses); None where not even n are."""
    k = int(binom.isf(alpha / sides, n, 0.5)) + 1  # P(X >= k) <= alpha / sides, and k is the least such
    return k if k <= n else None


def power(n: int, share: float, alpha: float = ALPHA, sides: int = 2) -> float:
    """How likely ``n`` pairs without ties show that one side wins, where it wins this share of them (> .5).

    The two-sided test also errs towards the other side; that is no success and is not counted.
    """
    k = needed_wins(n, alpha, sides)
    return float(binom.sf(k - 1, n, share)) if k is not None else 0.0


@cache
def pairs_for(share: float, alpha: float = ALPHA, wanted: float = POWER, sides: int = 2) -> int | None:
    """The fewest pairs with this power. Exact power rises in a saw, so a few of the next numbers fall just short of it again."""
    return next((n for n in range(1, MOST) if power(n, share, alpha, sides) >= wanted), None) if share > 0.5 else None


def detectable(n: int, alpha: float = ALPHA, wanted: float = POWER, sides: int = 2) -> float | None:
    """The smallest share of wins that ``n`` pairs show with this power, to four digits; None where no share is enough."""
    if needed_wins(n, alpha, sides) is None:
        return None
    low, high = 0.5, 1.0
    for _ in range(40):  # power grows with the share
        middle = (low + high) / 2
        low, high = (low, middle) if power(n, middle, alpha, sides) >= wanted else (middle, high)
    return round(high, 4)


def told(n: int, share: float = 0.6) -> dict[str, float | int | None]:
    """All that is said about a design of ``n`` pairs."""
    return {
        "pairs": n,
        "needed_wins": needed_wins(n),
        "detectable": detectable(n),
        "share": share,
        "power": round(power(n, share), 4),
        "pairs_for_share": pairs_for(share),
        "pairs_for_share_one_sided": pairs_for(share, sides=1),
    }
