"""scion memory: requests to the memory router, answered with a run's adapter. JSON in, one JSON line out for each, in order."""

from __future__ import annotations

import json
import os
import queue
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Iterable, Iterator, Optional, Sequence

import typer

CHUNK = 64  # requests of one batch at most

app = typer.Typer(help="Classify a message, judge whether a text is worth keeping, arbitrate a new fact against stored ones.",
                  no_args_is_help=True, rich_markup_mode=None)

INPUT = typer.Argument(None, metavar="[TEXT | FILE | -]", show_default=False,
                       help="A text, a JSON request, or a file of requests (JSON, JSON lines, plain lines); - or nothing: stdin.")
RUN = typer.Option(None, "--run", show_default=False, help="Run folder (default: runs/cerebellum, or below SCION_RUNS).")
PRETTY = typer.Option(False, "--pretty", help="Indent the answers: easier to read, but no longer one a line.")


@app.command()
def classify(given: Optional[str] = INPUT, run: Optional[Path] = RUN, pretty: bool = PRETTY) -> None:
    """What does a message want from the memory? Request: {"text": ...}."""
    answer("classify", read_input("classify", given), run, pretty)


@app.command()
def memorize(given: Optional[str] = INPUT, run: Optional[Path] = RUN, pretty: bool = PRETTY) -> None:
    """Is a text worth keeping, and what is it? Request: {"text": ..., "previous": [up to two turns before]}."""
    answer("memorize", read_input("memorize", given), run, pretty)


@app.command()
def arbitrate(
    given: Optional[str] = INPUT,
    candidate: list[str] = typer.Option([], "--candidate", "-c", metavar="TEXT", help="A stored memory, where the new fact is a plain TEXT."),
    run: Optional[Path] = RUN,
    pretty: bool = PRETTY,
) -> None:
    """How does a new fact stand to stored memories? Request: {"new": {"text": ...}, "candidates": [{"id": ..., "text": ...}]}."""
    answer("arbitrate", read_input("arbitrate", given, candidate), run, pretty)


# -- answering ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One request as it came: a decoded JSON value, or what kept it from being one."""

    number: int
    value: Any = None
    error: str = ""


def answer(job: str, chunks: Iterator[list[Line]], run: Path | None, pretty: bool) -> None:
    """Print one answer for every line. The texts of requests go nowhere else: not to stderr, not to a log."""
    from scionwood.cli.common import quiet_libraries, say
    from scionwood.errors import UserError
    from scionwood.run import default_folder, open_run

    folder = run or default_folder("cerebellum")
    open_run(folder)  # a missing run is told before the libraries are loaded
    quiet_libraries()
    from scionwood.tasks.cerebellum.answering import Router

    router = Router(folder, echo=say)
    count = 0
    for lines in chunks:
        for response in responses(router, job, lines):
            print(json.dumps(response, ensure_ascii=False, indent=2 if pretty else None))
        sys.stdout.flush()
        count += len(lines)
    if not count:
        raise UserError("nothing to answer: the input is empty")


def responses(router, job: str, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The good lines as one batch; a bad one is answered in its place."""
    from scionwood.errors import UserError
    from scionwood.tasks.cerebellum.requests import read

    good, bad = [], {}
    for i, line in enumerate(lines):
        try:
            if line.error:
                raise UserError(line.error)
            good.append(read(job, line.value))
        except UserError as e:
            bad[i] = {"line": line.number, "status": "invalid", "error": str(e)}
    answered = iter(router.answer(job, good))
    return [bad[i] if i in bad else next(answered) for i in range(len(lines))]


# -- reading --------------------------------------------------------------------------------------------------------------


def read_input(job: str, given: str | None, candidates: Sequence[str] = ()) -> Iterator[list[Line]]:
    """The requests of the argument, a file or stdin, in chunks of what is at hand."""
    from scionwood.errors import UserError

    piped = given in (None, "-")
    is_file = not piped and os.path.isfile(given)
    if candidates and (piped or is_file):
        raise UserError("--candidate goes with a new fact as a plain TEXT; requests from a file or stdin name their candidates themselves")
    if given is None and sys.stdin.isatty():
        raise UserError(f"nothing to answer; give a text or a file, or pipe requests in (scion memory {job} --help)")
    if piped:
        return lines_of(at_hand(sys.stdin.buffer), job)
    if is_file:
        try:
            return lines_of(at_hand(open(given, "rb")), job, whole=True)
        except OSError as e:
            raise UserError(f"{given}: cannot be read ({e.strerror})") from None
    if re.fullmatch(r"\S+\.(jsonl?|txt)", given):
        raise UserError(f"{given}: no such file")
    return iter([[read_argument(job, given, candidates)]])


def read_argument(job: str, given: str, candidates: Sequence[str]) -> Line:
    if given.lstrip().startswith("{") and not candidates:
        return decode(1, given, plain=job != "arbitrate")
    if job != "arbitrate":
        return Line(1, given)
    return Line(1, {"new": given, "candidates": list(candidates)}) if candidates else Line(1, error="no candidate: give one or more with -c TEXT")


def at_hand(stream: BinaryIO) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines, as many at a time as have come in: a pipe that stays open is answered up to where it waits."""
    waiting: queue.Queue = queue.Queue(maxsize=4 * CHUNK)

    def fill() -> None:
        try:
            for pair in enumerate(stream, 1):
                waiting.put(pair)
        finally:
            waiting.put(None)

    threading.Thread(target=fill, daemon=True).start()
    while True:
        chunk = [waiting.get()]
        while len(chunk) < CHUNK and not waiting.empty():
            chunk.append(waiting.get())
        if chunk[-1] is not None:
            yield chunk
            continue
        if chunk[:-1]:
            yield chunk[:-1]
        return


def lines_of(chunks: Iterable[list[tuple[int, bytes]]], job: str, whole: bool = False) -> Iterator[list[Line]]:
    """Raw lines as requests. What the first line is decides for all: JSON over several lines, JSON lines, or plain texts.

    ``whole``: the input ends by itself (a file), so an unfinished first object may be looked for in all of it.
    """
    chunks = iter(chunks)
    plain = None
    for chunk in chunks:
        chunk = [(n, raw) for n, raw in chunk if raw.strip()]
        if not chunk:
            continue
        if plain is None:
            start = opening(chunk[0][1])
            if start == "array" or (start == "object" and (whole or chunk[0][1].strip() == b"{")):
                if is_bad_json(chunk[0][1]):  # else it is complete in its line
                    chunk += [pair for more in chunks for pair in more]
                document = [chunk[0][1]] if len(chunk) == 1 else [raw for _, raw in chunk]
                items = parts(b"".join(document))
                if items is not None:
                    for at in range(0, len(items), CHUNK):
                        yield items[at : at + CHUNK]
                    continue
            plain = job != "arbitrate" and not start
        for at in range(0, len(chunk), CHUNK):
            yield [decode(n, raw, plain) for n, raw in chunk[at : at + CHUNK]]
