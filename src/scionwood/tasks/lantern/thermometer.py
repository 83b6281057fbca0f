"""The thermometer: documents in, figures out, one by one and over all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Iterator

from scionwood.errors import UserError
from scionwood.tasks.lantern.documents import Document
from scionwood.tasks.lantern.measures import told
from scionwood.tasks.lantern.measures.kinds import Measure
from scionwood.tasks.lantern.measures.plot import MOST, Line, draw
from scionwood.tasks.lantern.measures.predictive import Reader
from scionwood.tasks.lantern.measures.sets import SAME_TEXT, measure_answers
from scionwood.tasks.lantern.measures.summary import Summary
from scionwood.tasks.lantern.measures.text import TextFigures, measure_text


@dataclass(frozen=True)
class Result:
    """The figures of one document: of its text, or of its answers one by one (``texts``) and as a set (``answers``)."""

    name: str
    texts: list[TextFigures]
    model: list[dict[str, Measure]]
    answers: dict[str, Measure] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The document as a JSON value."""
        def of(measures: dict[str, Measure]) -> dict[str, Any]:
            return {name: m.row() for name, m in measures.items()}

        texts = [{"lang": t.lang, "words": t.words, "characters": t.characters, "zone": t.zone, "warning": t.warning, "span": t.span,
                  "measures": of(t.measures | m), "curve": [round(float(x), 4) for x in t.curve]} for t, m in zip(self.texts, self.model)]
        return {"name": self.name} | ({"answers": texts, "measures": of(self.answers)} if self.answers else texts[0])

    def line(self) -> str:
        """The document in one line: what stands first in every table."""
        shown = [f"{name} {told.number(m.value, m.UNIT)}" for name, m in self.answers.items()]
        if not self.answers:
            t = self.texts[0]
            m = t.measures | self.model[0]
            shown = [f"{t.words:,} words", f"E1 {told.number(m['E1'].value)} {t.zone or ''}".strip(),
                     *(f"{k} {told.number(m[k].value, m[k].UNIT)}" for k in m if k in ("H50", "MTLD", "HD-D", "predictive entropy"))]
        return f"{self.name}: {', '.join(shown)}"


class Thermometer:
    """Measures documents and keeps what a summary needs, not the documents.

    ``reader`` adds the measures of a model; ``judge`` says which answers mean the same, in place of "the same words"; with
    ``lines`` the curves of the first texts are kept for a plot.
    """

    def __init__(self, lang: str = "auto", vocabulary: int | None = None, reader: Reader | None = None, judge=None, lines: bool = False):
        self.lang, self.vocabulary, self.reader, self.judge = lang, vocabulary, reader, judge
        self.keep, self.lines, self.texts, self.sets = lines, [], Summary(), Summary()

    def measure(self, documents: Iterable[Document]) -> Iterator[Result]:
        """One result for each document, in order, as soon as it is measured."""
        for document in documents:
            yield self.one(document)

    def one(self, document: Document) -> Result:
        """Measure one document."""
        parts = [[a] for a in document.answers] or [document.parts]
        texts, model, likelihoods = [], [], []
        for part in parts:
            tokens = prose = None
            if self.reader:  # a tokenizer wants the text as a whole
                part = ["".join(part)]
                read = self.reader.measure(part[0], document.prompt)
                tokens, o = read.entropies, read.measures["predictive entropy"].ordinary
                prose = o and o.mean
                likelihoods.append(-float(read.surprisals.mean()) if len(read.surprisals) else 0.0)
            figures = measure_text(part, self.lang, self.vocabulary)
            texts.append(figures)
            model.append(read.measures if self.reader else {})
            self.texts.add(figures.measures | model[-1], figures.zone, figures.warning)
            if self.keep:
                if len(self.lines) == MOST:
                    raise UserError(f"--plot: more than {MOST} texts cannot be told apart in one plot; name fewer")
                self.lines.append(Line(document.name, figures.lang, figures.curve, figures.span, tokens, prose))
        answers = {}
        if document.answers:
            classes = self.judge.classes(document.answers, document.prompt) if self.judge else None
            answers = measure_answers(document.answers, document.scores, classes, self.judge.name if self.judge else SAME_TEXT,
                                      likelihoods if self.reader else None)
            self.sets.add(answers)
        return Result(document.name, texts, model, answers)

    def draw(self, path: Path) -> None:
        """Write the plot along the texts."""
        draw(self.lines, path)

    def row(self) -> dict[str, Any]:
        """The summary as a JSON value."""
        return {"texts": self.texts.row()} | ({"sets": self.sets.row()} if self.sets.documents else {})

    def check_any(self) -> None:
        """Raise UserError where there was no document."""
        if not self.texts.documents:
            raise UserError("nothing to measure: the input is empty")

    def told(self, last: Result) -> str:
        """The tables for the terminal. ``last``: the last result, which is told alone where it was the only one."""
        self.check_any()
        if self.texts.documents == 1:
            return self.told_one(last)
        parts = [f"{self.texts.documents:,} texts\n\n{told.summary(self.texts.over)}"]
        if self.texts.zones:
            zones = ", ".join(f"{n:,} {zone}" for zone, n in sorted(self.texts.zones.items(), key=lambda z: -z[1]))
            parts.append(f"zones (published, of E1 alone): {zones}; in {self.texts.warned:,} of {self.texts.documents:,} texts the length alone decides")
        if self.sets.documents:
            count = self.sets.documents
            shown = told.measures(last.answers) if count == 1 else told.summary(self.sets.over)
            basis = next(iter(last.answers.values())).basis
            parts.append(f"{count:,} set{'s' * (count > 1)} of answers; the same answer: {basis}\n\n{shown}")
        return "\n\n".join(parts)

    def told_one(self, result: Result) -> str:
        """One text: all its figures, the zone with its warning, and the curve."""
        text = result.texts[0]
        parts = [f"{result.name}: {text.lang}, {text.words:,} words, {text.characters:,} characters",
                 told.measures(text.measures | result.model[0])]
        if text.zone:
            parts.append(f"zone (published, of E1 alone): {text.zone}" + (f"; {text.warning}" if text.warning else ""))
        if line := told.curve(text.curve):
            parts.append(f"along the text, entropy of 50 words: {line}")
        return "\n\n".join(parts + ([told.measures(result.answers)] if result.answers else []))
