"""Whether a description and a summary can be used: their lengths, quotes from the text, and whether one copies the other."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# A word is a run of letters and digits, or one CJK character: Chinese has no blanks between words.
WORD = re.compile(r"[㐀-䶿一-鿿豈-﫿]|[^\W_㐀-䶿一-鿿豈-﫿]+(?:['’][^\W_]+)*")
CJK = re.compile(r"[㐀-䶿一-鿿豈-﫿]")
MARKUP = re.compile(r"^\s*(?:[-*•‣]|\d{1,2}[.)]|#{1,6})\s+", re.M)
# An end of a sentence. A full stop behind a short word may belong to an abbreviation ("Dr. Osei").
SENTENCE = re.compile(r"(?:(?<=\w{4})\.|[!?…。！？]+)[\"'”’)\]]*(?=\s|$)")
# Words that carry no content; two accounts of one text share them without being copies.
COMMON = frozenset(
    "a an the and or but nor so yet of to in on at by for from with without into onto over under after before between about against as "
    "than that this these those it its they them their he him his she her hers you your i my we our who whom whose which what when where "
    "while is are was were be been being has have had do does did will would can could may might must should not no only also just then there "
    "here one two some any all each every more most less much many very both such own same other another up down out off again".split())


@dataclass(frozen=True)
class Limits:
    """What is accepted. Lengths are words, lowest and highest. ``quote``: so many running words of the text are a long quotation;
    ``shared``: so many running words in both are a copy; ``overlap``: highest Jaccard similarity of the two sets of content words."""

    description: tuple[int, int] = (15, 90)
    summary: tuple[int, int] = (6, 40)
    quote: int = 7
    shared: int = 5
    overlap: float = 0.5


def words(text: str) -> list[str]:
    """The words of a text in lower case; each CJK character is one."""
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


def tidy(text: str) -> str:
    """One paragraph without bullets, headings and bold: a describer's layout is nothing that an activation holds."""
    plain = MARKUP.sub("", text).replace("**", "").replace("__", "")
    return " ".join(plain.split())


def content(text: str) -> set[str]:
    """The words that carry content."""
    return {w for w in words(text) if w not in COMMON and (len(w) > 2 or CJK.match(w))}


def longest_shared(a: list[str], b: list[str], least: int) -> str:
    """A run of ``least`` words that stands in both, as text; "" where there is none."""
    runs = {tuple(b[i : i + least]) for i in range(len(b) - least + 1)}
    return next((" ".join(a[i : i + least]) for i in range(len(a) - least + 1) if tuple(a[i : i + least]) in runs), "")


def problem(text: str, description: str, summary: str, limits: Limits = Limits()) -> str:
    """Why the two cannot be used, or "" where they can."""
    source, said, short = words(text), words(description), words(summary)
    for name, found, (low, high) in (("description", said, limits.description), ("summary", short, limits.summary)):
        if not low <= len(found) <= high:
            return f"the {name} has {len(found)} words, not {low} to {high}"
    if len(sentences := SENTENCE.findall(summary)) > 1:
        return f"the summary has {len(sentences)} sentences, not one"
    for name, found in (("description", said), ("summary", short)):
        if quoted := longest_shared(found, source, limits.quote):
            return f"the {name} quotes the text at length ('{quoted}')"
    if shared := longest_shared(short, said, limits.shared):
        return f"the summary repeats the description ('{shared}')"
    a, b = content(description), content(summary)
    if a and b and (overlap := len(a & b) / len(a | b)) > limits.overlap:
        return f"description and summary share {overlap:.0%} of their content words, more than {limits.overlap:.0%}"
    return ""
