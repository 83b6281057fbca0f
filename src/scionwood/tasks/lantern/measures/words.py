"""What a word is: the published split at blanks, and the words that all other measures count, in English and in Chinese."""

from __future__ import annotations

import re
from typing import Callable

from scionwood.errors import UserError

# A run of letters and digits; apostrophes and hyphens inside it join. Lower-cased, punctuation gone.
WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
HAN_SHARE = 0.3  # of the letters: from here on a text counts as Chinese
LANGUAGES = ("en", "zh")
SPLITTERS = {"en": "lower-cased words without punctuation", "zh": "words by rjieba"}

Splitter = Callable[[str], list[str]]


def language_of(text: str) -> str:
    """"zh" where a good part of the letters are Han characters, else "en" (any language that writes blanks between words)."""
    letters = sum(map(str.isalpha, text))
    return "zh" if letters and len(HAN.findall(text)) > HAN_SHARE * letters else "en"


def words_between_blanks(text: str) -> list[str]:
    """The published words: split at white space, case kept, punctuation attached."""
    return text.split()


def english_words(text: str) -> list[str]:
    """Lower-cased words without punctuation."""
    return WORD.findall(text.lower())


def chinese_splitter() -> Splitter:
    """Words by the segmenter rjieba (jieba-rs), lower-cased, punctuation and blanks left out. Raises UserError without it."""
    try:
        import rjieba
    except ImportError:
        raise UserError("Chinese words need a segmenter: pip install 'scionwood[chinese]'") from None

    def split(text: str) -> list[str]:
        return [w for w in rjieba.cut(text.lower()) if w[0].isalnum()]

    return split


def splitter(lang: str) -> Splitter:
    """The function that splits a text of a language ("en" or "zh") into words."""
    return chinese_splitter() if lang == "zh" else english_words
