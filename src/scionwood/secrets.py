"""Secret values in a text: known shapes, assigned values, payment cards. What holds one is never logged and never written to disk."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any, Iterator

# Shapes of values, not words: a text that merely mentions an API key passes. Words are ASCII words, so that a shape is also
# found where it stands right beside a Chinese character.
SECRET_SHAPES = [
    re.compile(p, re.ASCII)
    for p in (
        r"\b(?:AKIA|ASIA)[0-9A-Z]{12,20}\b",  # AWS access key ids
        r"\bgh[pousr]_[A-Za-z0-9]{16,}\b",  # GitHub tokens
        r"\bgithub_pat_[A-Za-z0-9_]{20,}\b",
        r"\bglpat-[A-Za-z0-9_-]{16,}\b",  # GitLab
        r"\b[prs]k_(?:live|test)_[A-Za-z0-9]{10,}\b",  # Stripe
        r"\bsk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{14,}",  # OpenAI and its kin
        r"\bsk-(?:[a-z]{2,5}-)?(?=[a-z]*\d)[a-z0-9]{14,}\b",
        r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b",  # Slack
        r"\bhf_[A-Za-z0-9]{16,}\b",  # Hugging Face
        r"\bnpm_[A-Za-z0-9]{20,}\b",
        r"\bAIza[0-9A-Za-z_-]{20,}\b",  # Google
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",  # JSON web tokens
        r"-----BEGIN [A-Z ]*PRIVATE KEY",
        r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/:@]{3,}@",  # credentials in a URL
        r"(?i:\bcv[vc]2?\b)\W{0,3}(?:is )?\d{3,4}\b",  # the check digits of a card
        r"(?:密码|验证码|口令|(?i:\bpin))[\s:]{0,2}\d{4,8}(?![\d年月日号位个次天秒分])",  # a code right behind its name
    )
]
LATIN = r"pass(?:word|code|phrase|wd)?|pwd|(?:\b|_)pw|\bpin(?: code| number)?|token|secret|api[ _-]?key|cvv|cvc"
NAMES = rf"(?:(?:{LATIN})s?(?:_[a-z0-9_]+)?(?![a-z])|密码|口令|验证码|密钥|令牌)"
# A name for a secret, then an assignment or a quotation mark, then a value. "the password is stored in the safe" has no value
# of this shape.
ASSIGNED = re.compile(
    NAMES + r"[^\n\w]{0,3}(?:[a-z]{0,12} ){0,3}?"
    r"(?:\s*(?:[:=]|\b(?:is|are)\b:?|'s\b|->|→|是|为|改成了?|改为)\s*|(?=[\"'`「“]))[\"'`「“]?"
    r"(?P<value>[^\s\"'`，。,;；」”]{3,})",
    re.IGNORECASE,
)
SECRET_NAME = re.compile(NAMES, re.IGNORECASE)
# A number or a day behind a name is no value where it measures: "token limit is 128000", "max tokens = 4096".
MEASURED = re.compile(
    r"(?:tokens\W|\b(?:count|limit|usage|length|size|budget|quota|expiry|expires|reset|due)\b).*?[\d.,:/-]+[a-z]{0,2}$",
    re.IGNORECASE,
)
# The name and the value side by side, or a login written "user / value": here the value must look the part by itself.
BESIDE = re.compile(
    rf"(?:{NAMES}[\s\"'「]{{0,2}}|(?:login|账号|登录)\W[^\n/]{{0,40}} / )(?P<value>[^\s，。,;；」”]{{5,}})", re.IGNORECASE
)
# Payment cards: first digits of the networks in use (so no millisecond clock, no ISBN), in one run or in the groups of a card.
CARDS = [
    re.compile(rf"(?<![A-Za-z0-9.-])(?=[2-6]|9558){shape}(?![A-Za-z0-9]|[.-]\d)")
    for shape in (
        r"\d{13,19}",
        r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}",
        r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}\1\d{3}",
        r"\d{4}([ -])\d{6}\1\d{5}",
    )
]


def luhn(digits: str) -> bool:
    """The check sum of payment card numbers (ISO/IEC 7812-1)."""
    total = 0
    for i, d in enumerate(reversed(digits)):
        n = int(d) * (1 + i % 2)
        total += n - 9 * (n > 9)
    return total % 10 == 0


def _entropy(value: str) -> float:
    """Shannon entropy of the characters of a value, in bits per character."""
    return -sum(value.count(c) / len(value) * math.log2(value.count(c) / len(value)) for c in set(value))


def looks_secret(value: str) -> bool:
    """Whether the thing behind "password:" is a value: it holds a digit or mixes character classes. A plain word is none."""
    classes = [any(map(f, value)) for f in (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())]
    if not value.isascii():
        value = "".join(c for c in value if c.isascii())
        return len(value) >= 4 and any(map(str.isdigit, value))
    return len(value) >= 4 and (classes[2] or (sum(classes) >= 3 and _entropy(value) > 2.5))


def looks_strong(value: str) -> bool:
    """Whether a value with no assignment before it can be nothing but a secret: digits and a mark among its ASCII characters."""
    value = "".join(c for c in value if c.isascii()).rstrip(".!?)")
    marked = any(map(str.isdigit, value)) and any(c in "!#$%&*@^?+~_-" for c in value)
    return len(value) >= 5 and marked and not re.fullmatch(r"[\d\-/.:]+", value)


def has_secret(text: str) -> bool:
    """Whether a text holds a secret value: a known shape, an assigned one, or a card number that passes the Luhn check."""
    text = unicodedata.normalize("NFKC", text)
    if any(p.search(text) for p in SECRET_SHAPES):
        return True
    if any(looks_secret(m["value"].rstrip(".!?)）")) and not MEASURED.search(m[0]) for m in ASSIGNED.finditer(text)):
        return True
    if any(looks_strong(m["value"]) for m in BESIDE.finditer(text)):
        return True
    return any(luhn(re.sub(r"\D", "", m[0])) for p in CARDS for m in p.finditer(text))


def strings(value: Any) -> Iterator[str]:
    """Every string of a JSON value. One that stands under a secret's name comes with it, so that ``{"pin": "4471"}`` tells.

    Numbers are left out: one in ten long ones has the check sum of a card.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str) and SECRET_NAME.search(str(key)):
                yield f"{key}: {inner}"
            else:
                yield from strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from strings(inner)


def holds_secret(value: Any) -> bool:
    """Whether any string of a JSON value holds a secret value."""
    return any(map(has_secret, strings(value)))
