"""What the card and the report are made of. Both print the same sections; only the report can draw the plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence, Union

WORD, NUMBER = "word", "number"  # how a column is set: words to the left, numbers to the right


@dataclass(frozen=True)
class Table:
    """A table of inline Markdown. ``columns`` are (title, WORD or NUMBER); the first cell of a row names the row."""

    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]


def words(*titles: str) -> list[tuple[str, str]]:
    """Columns set as words."""
    return [(title, WORD) for title in titles]


def numbers(*titles: str) -> list[tuple[str, str]]:
    """Columns set as numbers."""
    return [(title, NUMBER) for title in titles]


@dataclass(frozen=True)
class Items:
    """A list with bullets."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    language: str
    text: str


@dataclass(frozen=True)
class Plot:
    """The name of a function of ``plots`` and what a reader sees in its drawing."""

    name: str
    caption: str


Block = Union[str, Table, Items, Code, Plot]  # a string is a paragraph of inline Markdown


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]
