"""scion memory: requests to the memory router, answered with a run's adapter. One JSON line out for each request, in order."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional, Sequence

import typer

from scionwood.cli.lines import Line, at_hand, decode, requests_of

app = typer.Typer(help="Classify a message, judge whether a text is worth keeping, arbitrate a new fact against stored ones.",
                  no_args_is_help=True, rich_markup_mode=None)

INPUT = typer.Argument(None, metavar="TEXT | FILE | -", show_default=False,
                       help="A text, a JSON request, or a file of them (JSON, JSON lines, plain lines); '-' or nothing: stdin.")
NEW = typer.Argument(None, metavar="TEXT | FILE | -", show_default=False,
                     help="A new fact (with -c), a JSON request, or a file of them (JSON, JSON lines); '-' or nothing: stdin.")
CANDIDATE = typer.Option([], "--candidate", "-c", metavar="TEXT", help="A stored memory to hold the new fact against; up to 5.")
RUN = typer.Option(None, "--run", show_default=False, help="Run folder (default: runs/cerebellum, or below SCION_RUNS).")
PRETTY = typer.Option(False, "--pretty", help="Indent the answers: easier to read, but no longer one a line.")


@app.command()
def classify(given: Optional[str] = INPUT, run: Optional[Path] = RUN, pretty: bool = PRETTY) -> None:
    """Say what a message wants from the memory. Request: {"text": ...}."""
    answer_all("classify", read_input("classify", given), run, pretty)


@app.command()
def memorize(given: Optional[str] = INPUT, run: Optional[Path] = RUN, pretty: bool = PRETTY) -> None:
    """Say whether a text is worth keeping, and what it is. Request: {"text": ..., "previous": [up to two turns before]}."""
    answer_all("memorize", read_input("memorize", given), run, pretty)


@app.command()
def arbitrate(
    given: Optional[str] = NEW, candidate: list[str] = CANDIDATE, run: Optional[Path] = RUN, pretty: bool = PRETTY
) -> None:
    """Say how a new fact stands to stored memories. Request: {"new": {"text": ...}, "candidates": [{"id": ..., "text": ...}]}."""
    answer_all("arbitrate", read_input("arbitrate", given, candidate), run, pretty)


def answer_all(job: str, chunks: Iterable[list[Line]], run: Path | None, pretty: bool) -> None:
    """Print one answer for every request. Texts of requests go nowhere else: not to stderr, not to a log."""
    from scionwood.cli.common import quiet_libraries, say
    from scionwood.errors import UserError
    from scionwood.run import default_folder, open_run

    folder = run or default_folder("cerebellum")
    open_run(folder)  # a missing run is told before the libraries are loaded
    quiet_libraries()
    from scionwood.tasks.cerebellum.answering import Router

    router = Router(folder, echo=say)
    empty = True
    for lines in chunks:
        empty = False
        for response in responses(router, job, lines):
            print(json.dumps(response, ensure_ascii=False, indent=2 if pretty else None))
        sys.stdout.flush()
    if empty:
        raise UserError("nothing to answer: the input is empty")


def responses(router, job: str, lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """The good requests are asked as one batch; a bad one is answered in its place."""
    from scionwood.errors import UserError
    from scionwood.tasks.cerebellum.requests import read

    good, errors = [], {}
    for line in lines:
        try:
            if line.error:
                raise UserError(line.error)
            good.append(read(job, line.value))
        except UserError as e:
            errors[line.number] = {"line": line.number, "status": "invalid", "error": str(e)}
    answered = iter(router.answer(job, good))
    for line in lines:
        yield errors.get(line.number) or next(answered)


def read_input(job: str, given: str | None, candidates: Sequence[str] = ()) -> Iterable[list[Line]]:
    """The requests of the argument, of a file or of stdin, in chunks."""
    from scionwood.errors import UserError

    piped, named = given in (None, "-"), given is not None and os.path.isfile(given)
    if candidates and (piped or named):
        raise UserError("--candidate goes with a new fact as a plain TEXT; requests in a file or pipe name their own candidates")
    if given is None and sys.stdin.isatty():
        raise UserError(f"nothing to answer: give a text or a file, or pipe requests in (see scion memory {job} --help)")
    if piped:
        return requests_of(at_hand(sys.stdin.buffer), plain=job != "arbitrate", ends=False)
    if named:
        try:
            return requests_of(at_hand(open(given, "rb")), plain=job != "arbitrate", ends=True)
        except OSError as e:
            raise UserError(f"{given}: cannot be read ({e.strerror})") from None
    if re.fullmatch(r"\S+\.(jsonl?|txt)", given):
        raise UserError(f"{given}: no such file")
    return [[one_request(job, given, candidates)]]


def one_request(job: str, given: str, candidates: Sequence[str]) -> Line:
    """The argument itself: a JSON request, or a text."""
    if candidates:
        return Line(1, {"new": given, "candidates": list(candidates)})
    if given.lstrip().startswith("{"):
        return decode(1, given.strip().encode("utf-8", "surrogateescape"), plain=job != "arbitrate")
    return Line(1, given) if job != "arbitrate" else Line(1, error="no candidates: give them with -c TEXT, or a JSON request")
