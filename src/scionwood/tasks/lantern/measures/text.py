"""All text measures of one text: read once as a stream, then worked off from its word numbers in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

import numpy as np

from scionwood.tasks.lantern.measures import counts, kinds, mtld
from scionwood.tasks.lantern.measures.kinds import Measure
from scionwood.tasks.lantern.measures.ngrams import count_ngrams
from scionwood.tasks.lantern.measures.ordinary import ordinary, vocabulary_of
from scionwood.tasks.lantern.measures.stream import Read, read
from scionwood.tasks.lantern.measures.windows import STEP, Curve, mean_interval, window_entropies
from scionwood.tasks.lantern.measures.words import SPLITTERS
from scionwood.tasks.lantern.measures.zones import BLANKS, length_decides, zone


@dataclass(frozen=True)
class TextFigures:
    """The measures of one text, by name in the order of ``kinds.TEXT``.

    ``curve`` (points,) are word entropies along the text, each the mean of ``span`` windows of 50 words, ``STEP`` words apart.
    """

    lang: str
    words: int
    characters: int
    measures: dict[str, Measure]
    curve: np.ndarray
    span: int

    @property
    def zone(self) -> str | None:
        """The published zone of E1; None in Chinese."""
        return zone(self.measures["E1"])

    @property
    def warning(self) -> str:
        """The sentence that the length alone decides the zone, or nothing."""
        return length_decides(self.measures["E1"])


def measure_text(text: str | Iterable[str], lang: str = "auto", vocabulary: int | None = None) -> TextFigures:
    """Measure a text, given as a whole or in parts.

    ``lang``: "en" (any language with blanks between words), "zh" or "auto". ``vocabulary``: the V of EAD; by default that of
    the reference corpus of the language. Raises UserError for Chinese where its segmenter is not installed.
    """
    return measure_read(read([text] if isinstance(text, str) else text, lang), vocabulary)


def measure_read(r: Read, vocabulary: int | None = None) -> TextFigures:
    """The measures of a text that was read."""
    n, v = r.ids.count, vocabulary or vocabulary_of(r.lang)
    basis = SPLITTERS[r.lang]
    singles = int((r.words == 1).sum())
    out: dict[str, Measure] = {}

    def put(kind: type[Measure], value: float | None, interval, n: int, basis: str = basis, why: str = "") -> None:
        low, high = interval if value is not None else (None, None)
        out[kind.NAME] = kind(value=value, n=n, low=low, high=high, basis=basis, ordinary=ordinary(kind, r.lang, r.ids.count),
                              why=why if value is None else "")

    put(kinds.WordEntropy, counts.entropy(r.blanks), counts.entropy_interval(r.blanks), int(r.blanks.sum()), BLANKS if r.lang != "zh" else basis)
    put(kinds.CharacterEntropy, counts.entropy(r.characters), counts.entropy_interval(r.characters), int(r.characters.sum()), "characters")
    curves = {kind: Curve() for kind in (kinds.H50, kinds.H100)}
    for kind, curve in curves.items():
        for ids in aligned(r, kind.WINDOW):
            curve.add(window_entropies(ids, kind.WINDOW))
        put(kind, curve.mean, mean_interval(curve, kind.WINDOW // STEP), n, why=f"needs {kind.WINDOW} words, has {n}")
    forwards, backwards = mtld.Pass(), mtld.Pass()
    for ids in r.ids.blocks():
        forwards.read(ids.tolist())
    for ids in r.ids.backwards():
        backwards.read(ids.tolist())
    put(kinds.Mtld, mtld.mtld(forwards, backwards), mtld.mtld_interval(forwards, backwards), n,
        why=f"needs {mtld.LEAST} words, has {n}" if n < mtld.LEAST else "no word comes twice")
    hdd = counts.hdd(r.words)
    put(kinds.HdD, hdd, counts.hdd_interval(r.words, hdd), n, why=f"needs {counts.DRAW} words, has {n}")
    for kind in (kinds.Distinct1, kinds.Distinct2, kinds.Distinct3):
        total = max(0, n - kind.SIZE + 1)
        types, once = (len(r.words), singles) if kind.SIZE == 1 else count_ngrams(lambda k: r.ids.blocks(k - 1), n, kind.SIZE, max(1, len(r.words)))
        put(kind, counts.distinct(types, total), counts.distinct_interval(types, once, total), total, why=f"needs {kind.SIZE} words, has {n}")
    put(kinds.Ead, counts.ead(len(r.words), n, v), counts.ead_interval(len(r.words), singles, n, v), n, f"{basis}; vocabulary of {v:,}",
        why="needs a word")
    h50 = curves[kinds.H50]
    return TextFigures(r.lang, n, int(r.characters.sum()), out, h50.points, h50.span)


def aligned(r: Read, width: int):
    """Blocks whose windows, ``STEP`` words apart, are together those of the whole text: none twice, none left out."""
    return r.ids.blocks(width - STEP, 10_000 * STEP)
