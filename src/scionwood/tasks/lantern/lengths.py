"""Answers of equal length: cut at the same number of words, so that no figure of diversity is a figure of length."""

from __future__ import annotations

from typing import Iterator

from scionwood.tasks.lantern.measures.words import WORD, chinese_splitter, splitter


def ends_of_words(text: str, lang: str) -> Iterator[int]:
    """Where each word of a text ends, words as the measures count them: in "zh" a segmenter's, else runs of letters and digits."""
    if lang != "zh":
        yield from (m.end() for m in WORD.finditer(text))
        return
    import rjieba

    at = 0
    for piece in rjieba.cut(text):
        at += len(piece)
        if piece[0].isalnum():
            yield at


def count(text: str, lang: str) -> int:
    """How many words a text has."""
    return len(splitter(lang)(text))


def cut(text: str, words: int, lang: str) -> str | None:
    """The beginning of a text that has exactly ``words`` words; None where the text has no more than that.

    A text that ends with its last word may end inside of it, so one more word must have begun.
    """
    if lang == "zh":
        chinese_splitter()  # says what to install
    end = 0
    for n, at in enumerate(ends_of_words(text, lang)):
        if n == words:
            return text[:end]
        end = at
    return None
