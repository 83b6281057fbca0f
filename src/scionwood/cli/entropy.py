"""scion entropy: how diverse texts are, beside ordinary prose of the same length."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Iterator, Optional

import typer

LANGUAGES = ("auto", "en", "zh")


def entropy(
    paths: list[str] = typer.Argument(..., metavar="FILE... | -",
                                      help="Text files, JSON lines (with --field), folders of them; '-': stdin."),
    field: Optional[str] = typer.Option(None, "--field", "-f", metavar="KEY",
                                        help="JSON lines: the key of the text, or of a list of answers."),
    prompt: Optional[str] = typer.Option(None, metavar="KEY", help="JSON lines: the key of the prompt, for --model and --judge."),
    scores: Optional[str] = typer.Option(None, metavar="KEY", help="JSON lines: the key of the answers' qualities, for utility_k."),
    lang: str = typer.Option("auto", help="auto, en (any language with blanks between words) or zh."),
    model: Optional[str] = typer.Option(None, metavar="BASE",
                                        help="Measure predictive entropy with this base: embedded, a folder or a hub name."),
    adapter: Optional[Path] = typer.Option(None, metavar="FOLDER", help="An adapter to put on --model, in PEFT format."),
    judge: Optional[str] = typer.Option(None, metavar="MODEL",
                                        help="Model of entailment or embeddings that tells which answers mean the same."),
    threshold: Optional[float] = typer.Option(None, help="Cosine from which an embedding --judge takes two answers as the same "
                                                         "(default: 0.85)."),
    vocabulary: Optional[int] = typer.Option(None, min=2, help="The fixed vocabulary of EAD (default: that of the reference corpus)."),
    plot: Optional[Path] = typer.Option(None, metavar="FILE", help="Draw entropy along the texts: .svg, .png or .pdf."),
    each: bool = typer.Option(False, "--each", help="One line for each document, too."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value in place of tables."),
) -> None:
    """Measure the diversity of texts, each figure beside that of ordinary prose of the same length."""
    from scionwood.cli.common import quiet_libraries, say
    from scionwood.errors import UserError, nearest
    from scionwood.tasks.lantern.documents import Fields, documents
    from scionwood.tasks.lantern.thermometer import Thermometer

    if lang not in LANGUAGES:
        raise UserError(f"--lang {lang}: not a language{nearest(lang, LANGUAGES)} (known: {', '.join(LANGUAGES)})")
    for name, value in (("--prompt", prompt), ("--scores", scores)):
        if value and not field:
            raise UserError(f"{name} {value}: names a key of JSON lines; name that of the text with --field, too")
    if adapter and not model:
        raise UserError(f"--adapter {adapter}: needs the base that it was trained on; name it with --model")
    if threshold is not None and not judge:
        raise UserError("--threshold: belongs to --judge MODEL")
    if plot:
        from scionwood.tasks.lantern.measures.plot import check_path

        check_path(plot)
    reader = opened = None
    if model:
        quiet_libraries()
        from scionwood.tasks.lantern.measures.predictive import open_reader

        reader = open_reader(model, adapter, echo=say)
    if judge:
        quiet_libraries()
        from scionwood.tasks.lantern.measures.equivalence import THRESHOLD, Judge

        opened = Judge(judge, THRESHOLD if threshold is None else threshold)
    meter = Thermometer(lang, vocabulary, reader, opened, lines=bool(plot))
    found = meter.measure(documents(paths, Fields(field, prompt, scores), sys.stdin.buffer))
    if as_json:
        print_json(meter, found)
    else:
        print_tables(meter, found, each)
    if plot:
        meter.draw(plot)
        say(f"plot: {plot}")


def print_json(meter, found: Iterator[Any]) -> None:
    """One JSON value, written as the documents are measured, so that no list of them is ever held."""
    print('{"documents": [', end="")
    for n, result in enumerate(found):
        print("," if n else "", json.dumps(result.row(), ensure_ascii=False), sep="\n", end="")
    print("\n],", f'"summary": {json.dumps(meter.row(), ensure_ascii=False)}}}', sep="\n")
    meter.check_any()


def print_tables(meter, found: Iterator[Any], each: bool) -> None:
    """The tables: of one document its figures, of several their means."""
    last = None
    for last in found:
        if each:
            print(last.line())
    if each:
        print()
    print(meter.told(last))
