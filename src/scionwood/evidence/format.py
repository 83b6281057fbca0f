"""Numbers and names as words for the card and the report: one way to write each kind of value.

Text is *inline Markdown* of three kinds only: `code`, **bold** and backslash escapes. The card prints it as it is;
``report.inline`` turns it into HTML. Anything that comes from data goes through ``code`` or ``prose`` first.
"""

from __future__ import annotations

import re
from typing import Sequence

ABSENT = "–"
MINUS = "\u2212"  # as wide as a plus sign, so that columns of differences line up
SMALLEST_P = 0.0001
SPECIAL = re.compile(r"([\\`*_\[\]<>|~&])")


def number(value: float | None) -> str:
    """A figure: three decimals, fewer where it is large."""
    if value is None:
        return ABSENT
    decimals = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """A difference, with its sign."""
    return ("+" if value is not None and value > 0 else "") + number(value)


def between(low: float | None, high: float | None, write=number) -> str:
    """An interval in words, since a dash beside a minus sign cannot be read."""
    return ABSENT if low is None or high is None else f"{write(low)} to {write(high)}"


def p_value(p: float | None) -> str:
    """Four decimals; what is smaller than they can show is "< 0.0001"."""
    if p is None:
        return ABSENT
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.4f}"


def p_is(p: float | None) -> str:
    """The same inside a sentence: "= 0.0040" or "< 0.0001"."""
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def tally(value: float | None) -> str:
    """A count, or a mean of counts over seeds."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def milliseconds(value: float | None) -> str:
    """A latency to three significant digits."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def code(text: object) -> str:
    """A name as a code span. Back-ticks cannot stand in a simple span, so they become apostrophes."""
    plain = " ".join(str(text).replace("`", "'").split())
    return f"`{plain or ' '}`"


def prose(text: object) -> str:
    """Words from data, with all that Markdown or HTML would read as markup escaped."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def listed(items: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c". """
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items)


def several(n: int, one: str, many: str = "") -> str:
    """ "1 seed", "3 seeds". """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def portable(text: str) -> str:
    """A path without the machine that it lies on: of an absolute path only the last part is told."""
    absolute = text.startswith(("/", "~", "\\")) or re.match(r"[A-Za-z]:[\\/]", text)
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1] if absolute else text
