"""A text read once, in pieces: counts of words and characters, and the words as numbers in a file that is read again."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from typing import Iterable, Iterator

import numpy as np

from scionwood.tasks.lantern.measures.words import HAN, Splitter, language_of, splitter, words_between_blanks

PIECE = 1 << 20  # characters worked off at a time
SPILL = 1 << 24  # bytes of word numbers kept in memory; more go to a temporary file
BLOCK = 1 << 18  # word numbers read at a time
LONGEST = 1 << 22  # characters without a place to cut; then it is cut anywhere
BLANK = re.compile(r"\s")


class Ids:
    """Word numbers in the order of the text: in memory while they are few, then in a temporary file."""

    def __init__(self, spill: int = SPILL):
        self.file = tempfile.SpooledTemporaryFile(max_size=spill)
        self.count = 0

    def append(self, ids: np.ndarray) -> None:
        self.file.seek(0, 2)
        self.file.write(ids.astype(np.uint32, copy=False).tobytes())
        self.count += len(ids)

    def read(self, begin: int, end: int) -> np.ndarray:
        """The numbers ``begin`` to ``end`` (exclusive): uint32 of shape (end - begin,)."""
        self.file.seek(4 * begin)
        return np.frombuffer(self.file.read(4 * (end - begin)), dtype=np.uint32)

    def blocks(self, overlap: int = 0, block: int = BLOCK) -> Iterator[np.ndarray]:
        """Blocks in order; each begins with the last ``overlap`` numbers of the one before it."""
        for begin in range(0, max(1, self.count - overlap) if self.count else 0, block):
            yield self.read(begin, min(self.count, begin + block + overlap))

    def backwards(self, block: int = BLOCK) -> Iterator[np.ndarray]:
        """Blocks from the last word to the first, each reversed."""
        for end in range(self.count, 0, -block):
            yield self.read(max(0, end - block), end)[::-1]


@dataclass
class Read:
    """A text that was read: its language, counts per type, and its words as numbers.

    ``blanks`` (types,) counts the published words (between blanks; in Chinese the segmenter's), ``words`` (types,) the
    lower-cased ones, whose numbers are ``ids``; ``characters`` (code points,) counts each character that occurs.
    """

    lang: str
    ids: Ids
    blanks: np.ndarray
    words: np.ndarray
    characters: np.ndarray


def numbers() -> defaultdict:
    """A table that gives each new key the next number."""
    table: defaultdict = defaultdict()
    table.default_factory = table.__len__
    return table


class Counting:
    """How often each number came, in an array that grows."""

    def __init__(self):
        self.counts = np.zeros(1024, dtype=np.int64)

    def add(self, ids: np.ndarray, types: int) -> None:
        if types > len(self.counts):
            self.counts = np.concatenate([self.counts, np.zeros(max(types, 2 * len(self.counts)) - len(self.counts), dtype=np.int64)])
        found = np.bincount(ids, minlength=0)
        self.counts[: len(found)] += found

    def above_zero(self) -> np.ndarray:
        return self.counts[self.counts > 0]


def pieces(texts: Iterable[str], size: int = PIECE) -> Iterator[str]:
    """The text cut at blanks or, where there is none, after the punctuation behind a Han character, so that no word is cut."""
    rest = ""
    for text in texts:
        rest += text
        while len(rest) >= size:
            at = cut_at(rest)
            if not at:
                break
            yield rest[:at]
            rest = rest[at:]
    if rest:
        yield rest


def cut_at(text: str) -> int:
    """Where to cut: after the last blank, else after the last punctuation behind a Han character (between blanks, "well.Known" is one word
    of the published kind, so a Latin text is cut at blanks alone), else at the end of what is too long."""
    for at in range(len(text) - 1, max(-1, len(text) - 4097), -1):
        if text[at].isspace():
            return at + 1
    for at in range(len(text) - 1, max(0, len(text) - 4097), -1):
        if HAN.match(text[at - 1]) and not text[at].isalnum():
            return at + 1
    return len(text) if len(text) >= LONGEST else 0


def read(texts: Iterable[str], lang: str = "auto", spill: int = SPILL, piece: int = PIECE) -> Read:
    """Read a text given in parts of any size. ``lang``: "en", "zh", or "auto", which looks at the first piece.

    Memory grows with the vocabulary, not with the text. Raises UserError for Chinese without its segmenter.
    """
    ids, words, blanks = Ids(spill), numbers(), numbers()
    counted, counted_blanks, characters = Counting(), Counting(), Counting()
    split: Splitter | None = None
    for text in pieces(texts, piece):
        if split is None:
            lang = language_of(text[:PIECE]) if lang == "auto" else lang
            split = splitter(lang)
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        characters.add(points, int(points.max()) + 1)
        found = split(text)
        new = np.fromiter(map(words.__getitem__, found), dtype=np.uint32, count=len(found))
        counted.add(new, len(words))
        ids.append(new)
        if lang != "zh":
            found = words_between_blanks(text)
            counted_blanks.add(np.fromiter(map(blanks.__getitem__, found), dtype=np.uint32, count=len(found)), len(blanks))
    own = counted.above_zero()
    return Read(lang if split else "en", ids, own if lang == "zh" else counted_blanks.above_zero(), own, characters.above_zero())
