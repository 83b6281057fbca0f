"""Files, folders and streams as documents to measure: a text each, or a row each of JSON lines, read piece by piece."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Iterator

from scionwood.errors import UserError, nearest

BYTES = 1 << 20  # read at a time
TEXTS = (".txt", ".md", ".rst", ".text")
ROWS = (".jsonl", ".ndjson")


@dataclass
class Document:
    """One text, or the answers to one prompt.

    ``parts`` gives the text in pieces and can be read once. ``answers`` and ``scores`` are filled where the field of a row holds
    a list. ``prompt`` is the row's prompt where one was asked for.
    """

    name: str
    parts: Iterator[str] | None = None
    answers: list[str] = field(default_factory=list)
    scores: list[float] | None = None
    prompt: str = ""


@dataclass(frozen=True)
class Fields:
    """Which keys of a JSON row hold the text (or the list of answers), the prompt and the answers' qualities."""

    text: str | None = None
    prompt: str | None = None
    scores: str | None = None


def documents(paths: list[str], fields: Fields, stdin: BinaryIO | None = None) -> Iterator[Document]:
    """The documents of files, folders (all text files below, or all *.jsonl with a field) and "-" for stdin, in order."""
    for path in paths:
        if path == "-":
            if fields.text:
                yield from of_rows(stdin, "-", fields)
            else:
                yield Document("-", decoded(stdin, "-"))
            continue
        for file in files_of(Path(path), fields):
            yield from of_file(file, fields)


def files_of(path: Path, fields: Fields) -> list[Path]:
    """The files to read for a path that the user named."""
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        return [path]
    endings = ROWS if fields.text else TEXTS
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in endings)
    if not found:
        raise UserError(f"{path}: no file that ends in {', '.join(endings)}" + ("" if fields.text else "; JSON lines need --field"))
    return found


def of_file(path: Path, fields: Fields) -> Iterator[Document]:
    """One document of a text file; one for each row of JSON lines."""
    try:
        file = open(path, "rb")
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from None
    with file:
        if fields.text:
            yield from of_rows(file, str(path), fields)
        elif path.suffix.lower() in ROWS:
            raise UserError(f"{path}: JSON lines; name the key of the text with --field")
        else:
            yield Document(str(path), decoded(file, str(path)))


def decoded(file: BinaryIO, name: str) -> Iterator[str]:
    """UTF-8 text in pieces, a byte order mark left out. Raises UserError naming the place of what is no UTF-8."""
    decoder, at = codecs.getincrementaldecoder("utf-8")(), 0
    while True:
        data = file.read(BYTES)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as e:
            raise UserError(f"{name}: not UTF-8 text ({e.reason} at byte {at - pending + e.start}); convert it to UTF-8") from None
        if at == 0:
            text = text.removeprefix("\ufeff")
        at += len(data)
        if text:
            yield text
        if not data:
            return


def of_rows(file: BinaryIO, name: str, fields: Fields) -> Iterator[Document]:
    """One document for each JSON line. A line that is no object, or lacks a key, is an error that names it."""
    for number, raw in enumerate(file, 1):
        raw = raw.removeprefix(codecs.BOM_UTF8).strip()
        if not raw:
            continue
        where = f"{name}:{number}"
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError) as e:
            raise UserError(f"{where}: not valid JSON ({e}); mend or remove the line") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: a JSON object is expected on every line")
        value = get(row, fields.text, where)
        prompt = get(row, fields.prompt, where) if fields.prompt else ""
        if not isinstance(prompt, str):
            raise UserError(f"{where}: '{fields.prompt}' is no text")
        if isinstance(value, str):
            yield Document(where, iter([value]), prompt=prompt)
        elif isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            yield Document(where, answers=value, scores=scores_of(row, fields, where, len(value)), prompt=prompt)
        else:
            raise UserError(f"{where}: '{fields.text}' is neither a text nor a list of texts")


def get(row: dict, key: str, where: str) -> Any:
    """The value of a key of a row, with dots for tables in tables (``message.text``)."""
    value: Any = row
    for part in [key] if key in row else key.split("."):
        if not isinstance(value, dict) or part not in value:
            known = list(value) if isinstance(value, dict) else []
            raise UserError(f"{where}: no key '{key}'{nearest(part, known)} (known: {', '.join(known) or 'none'})")
        value = value[part]
    return value


def scores_of(row: dict, fields: Fields, where: str, count: int) -> list[float] | None:
    """The qualities of a row's answers."""
    if not fields.scores:
        return None
    value = get(row, fields.scores, where)
    if not isinstance(value, list) or len(value) != count or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value):
        raise UserError(f"{where}: '{fields.scores}' must hold one number for each of the {count} answers")
    return [float(v) for v in value]
