"""Requests from a stream: JSON lines, one JSON document, or plain lines of text, in chunks of what is at hand."""

from __future__ import annotations

import codecs
import itertools
import json
import queue
import re
import threading
from dataclasses import dataclass
from typing import Any, BinaryIO, Iterable, Iterator

CHUNK = 64  # requests answered together at most
ARRAY = re.compile(rb"\[\s*($|[\[\]{\"])")  # but "[INFO] ready" is a line of text


@dataclass(frozen=True)
class Line:
    """One request as it came: a decoded value, or what kept it from being one. ``number``: its line, or its place in an array."""

    number: int
    value: Any = None
    error: str = ""


def at_hand(stream: BinaryIO) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines that are not blank, as many as have come in, so a pipe that stays open is answered up to where it waits."""
    waiting: queue.Queue = queue.Queue(maxsize=4 * CHUNK)

    def fill() -> None:
        try:
            for number, raw in enumerate(stream, 1):
                raw = raw.removeprefix(codecs.BOM_UTF8).strip()
                if raw:
                    waiting.put((number, raw))
        finally:
            waiting.put(None)  # the end

    threading.Thread(target=fill, daemon=True).start()
    chunk: list = []
    while chunk[-1:] != [None]:
        chunk = [waiting.get()]
        while len(chunk) < CHUNK and not waiting.empty():
            chunk.append(waiting.get())
        if lines := [line for line in chunk if line]:
            yield lines


def requests_of(chunks: Iterable[list[tuple[int, bytes]]], plain: bool, ends: bool) -> Iterator[list[Line]]:
    """Numbered lines as requests. The first line decides what they are.

    ``plain``: lines of text are allowed. ``ends``: the input is a file, so an object may go on over any number of lines; from a
    pipe, where that would mean to wait for its end, only an array or a lone brace in the first line begins a document.
    """
    chunks = iter(chunks)
    head = next(chunks, [])
    first = head[0][1] if head else b""
    if ARRAY.match(first) or first == b"{" or (ends and first.startswith(b"{") and decode(1, first).error):
        head += itertools.chain.from_iterable(chunks)
        document = decode(1, b"\n".join(raw for _, raw in head))
        if not document.error:
            items = document.value if isinstance(document.value, list) else [document.value]
            yield from batches([Line(place, item) for place, item in enumerate(items, 1)])
            return
    plain = plain and not is_json(first)
    for chunk in itertools.chain([head], chunks):
        yield from batches([decode(number, raw, plain) for number, raw in chunk])


def batches(lines: list[Line]) -> Iterator[list[Line]]:
    """At most ``CHUNK`` requests at a time."""
    for at in range(0, len(lines), CHUNK):
        yield lines[at : at + CHUNK]


def is_json(raw: bytes) -> bool:
    """Whether a line is meant as JSON, be it broken. A quotation mark alone may also begin a sentence."""
    return bool(raw.startswith(b"{") or ARRAY.match(raw) or (raw.startswith(b'"') and not decode(1, raw).error))


def decode(number: int, raw: bytes, plain: bool = False) -> Line:
    """One line as a request. Among plain lines, an object is still a request, and all else is a text."""
    try:
        text = raw.decode("utf-8")
        if plain and not text.startswith("{"):
            return Line(number, text)
        return Line(number, json.loads(text))
    except UnicodeDecodeError:
        return Line(number, error="not UTF-8 text")
    except (ValueError, RecursionError) as e:
        why = "nested too deep" if isinstance(e, RecursionError) else e
        return Line(number, text) if plain else Line(number, error=f"not valid JSON ({why})")
