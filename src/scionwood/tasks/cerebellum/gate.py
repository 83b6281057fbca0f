"""Decisions that need no model: secret values and exact duplicates. The same for every system; a value is never logged."""

from __future__ import annotations

import re
import unicodedata

from scionwood.secrets import has_secret, luhn  # noqa: F401  (the gate is where a reader looks for them)

NUMBER = re.compile(r"(?<!\w)-?\d+(?:[.,:/-]\d+)*|\d+(?:[.,:/-]\d+)*")


def normal_form(text: str) -> str:
    """A text without case, marks, width and blanks, folded until nothing changes: one folding may make way for the next."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    form = "".join(c for c in folded if unicodedata.category(c)[0] not in "PZC")
    return form if form == text else normal_form(form)


def is_duplicate(a: str, b: str) -> bool:
    """Whether two texts have the same normal form and the same numbers: 1.5 is not 15, and -18 not 18."""
    form = normal_form(a)
    return bool(form) and form == normal_form(b) and _numbers(a) == _numbers(b)


def _numbers(text: str) -> list[str]:
    return NUMBER.findall(unicodedata.normalize("NFKC", text))
