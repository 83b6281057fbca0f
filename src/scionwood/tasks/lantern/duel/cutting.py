"""Answers of one length: cut at so many words to be measured, and at the last sentence end before that to be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator

from scionwood.tasks.lantern.lengths import ends_of_words
from scionwood.tasks.lantern.measures.words import chinese_splitter, language_of

# What ends a sentence, with the quotes and brackets that close after it; a line break ends one, too.
END = re.compile(r"[.!?…](?:[\"'”’)\]*_]*)(?=\s|$)|[。！？](?:[”’」』）]*)|\n")
ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|vs|cf|No|e\.g|i\.e|etc)\.$")


@dataclass(frozen=True)
class Cut:
    """An answer at one length. ``words``: how many the whole answer has. ``measured``: its first N words exactly, or all where it is
    ``short``. ``shown``: up to the last sentence end within them; where no sentence ends there, the measured words with an ellipsis."""

    words: int
    measured: str
    shown: str
    short: bool


def spans(text: str) -> Iterator[int]:
    """Where each word ends in the text, words as the measures count them."""
    lang = language_of(text)
    if lang == "zh":
        chinese_splitter()  # says how to install the segmenter
    return ends_of_words(text, lang)


def has_words(text: str, words: int) -> bool:
    """Whether a text that is still being written has so many whole words: the last one may be half of a word."""
    return sum(1 for _ in spans(text)) > words


def cut(text: str, words: int) -> Cut:
    """Cut a text at so many words."""
    text = text.strip()
    ends = list(spans(text))
    if len(ends) <= words:
        return Cut(len(ends), text, text, len(ends) < words)
    measured = text[: ends[words - 1]]
    limit = len(measured) + len(re.match(r"\W*", text[len(measured) :]).group())  # what stands between this word and the next
    last = 0
    for m in END.finditer(text):
        if m.end() > limit:
            break
        if not ABBREVIATION.search(text[: m.end()]):
            last = m.end()
    shown = text[:last].rstrip()
    return Cut(len(ends), measured, shown or measured + " …", False)
