"""Faults of hand-written examples and their twins: structure, length, language, duplicates, and twins of another length."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, Sequence

from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.tasks.lantern.cases import PARTS, runs_of, text_of
from scionwood.tasks.lantern.measures.words import WORD, language_of

KEYS = ("id", "author", "domain", "lang", "prompt", *PARTS)
ANSWER = {"en": (200, 300, "words"), "zh": (300, 450, "characters")}  # words between blanks; characters with punctuation, without blanks
PROMPT = {"en": (5, 30, "words"), "zh": (8, 40, "characters")}
TWIN = 0.05  # by how much a twin's length may differ
OPENING = 3  # words (characters in Chinese) with which no two texts of a kind may begin
NAMED = re.compile(rf"^\W*({'|'.join(PARTS)})\W*(:|$)", re.I | re.M)  # a part that is headed by its name
MARKUP = re.compile(r"^\s*(#{1,6}\s|[-*•]\s|\*\*)", re.M)


@dataclass
class Row:
    """One line of a file: where it stands, and what is in it."""

    where: str
    row: dict
    twin: str | None = None
    twin_where: str = ""

    @property
    def id(self) -> str:
        return str(self.row.get("id", ""))


def length(text: str, lang: str) -> int:
    """Words between blanks; in Chinese, characters without blanks."""
    return len("".join(text.split())) if lang == "zh" else len(text.split())


def files_below(paths: Sequence[Path]) -> list[Path]:
    """The files named, and the *.jsonl of folders named, those in a folder "twins" left out."""
    out: list[Path] = []
    for path in paths:
        found = [p for p in sorted(path.rglob("*.jsonl")) if p.parent.name != "twins"] if path.is_dir() else [path]
        if not found:
            twins = "a folder of twins; name the examples, their twins are found beside them"
            raise UserError(f"{path}: {twins if path.name == 'twins' else 'no .jsonl file in this folder'}")
        out += found
    return out


def twins_of(path: Path, twins: Path | None) -> Path | None:
    """The file with the twins of a file of examples: in the folder or file named, else ../twins/NAME where there is one."""
    if twins is None:
        found = path.resolve().parent.parent / "twins" / path.name
        return found if found.is_file() else None
    named = twins / path.name if twins.is_dir() else twins
    if not named.is_file():
        raise UserError(f"{named}: no such file of twins")
    return named


def validate(paths: Sequence[Path], twins: Path | None = None) -> tuple[int, int, list[str]]:
    """(examples, twins, one line for each fault) of files and folders of examples.

    Raises UserError only where a file cannot be read at all.
    """
    rows: list[Row] = []
    faults: list[str] = []
    matched = 0
    for path in files_below(paths):
        mine = [Row(f"{path}:{n}", r) for n, r in numbered(path)]
        if not mine:
            faults.append(f"{path}: holds no example")
        rows += mine
        if beside := twins_of(path, twins):
            faults += pair(mine, path, beside)
            matched += sum(r.twin is not None for r in mine)
    for row in rows:
        faults += [f"{row.where}: {fault}" for fault in own(row)]
    sound = [r for r in rows if all(isinstance(r.row.get(k), str) and r.row[k].strip() for k in KEYS)]
    return len(rows), matched, faults + list(repeated(sound))


def numbered(path: Path) -> Iterator[tuple[int, dict]]:
    """The rows of a file with their line numbers."""
    lines = [n for n, line in enumerate(path.read_text("utf-8").split("\n"), 1) if line.strip()] if path.is_file() else []
    yield from zip(lines, read_jsonl(path))


def pair(rows: Sequence[Row], path: Path, beside: Path) -> Iterator[str]:
    """Give each example its twin; examples without one, and twins without an example, are faults."""
    found = {str(t.get("id", "")): (f"{beside}:{n}", t.get("text")) for n, t in numbered(beside)}
    for row in rows:
        where, text = found.pop(row.id, ("", None))
        if isinstance(text, str) and text.strip():
            row.twin, row.twin_where = text, where
        else:
            yield f"{row.where}: {row.id}: has no twin in {beside}; write one of the same length"
    for name, (where, _) in found.items():
        yield f"{where}: {name}: a twin without an example in {path}"


def own(r: Row) -> Iterator[str]:
    """What is wrong with one example alone, its twin's length among it."""
    row, name = r.row, r.id or "(no id)"
    for key in KEYS:
        if not isinstance(row.get(key), str) or not row[key].strip():
            yield f"{name}: '{key}' is missing or empty; every example has {', '.join(KEYS)}"
            return
    for key in row.keys() - set(KEYS):
        yield f"{name}: unknown key '{key}'; remove it"
    if not re.fullmatch(rf"{re.escape(row['author'])}-\d{{3}}", row["id"]):
        yield f"{name}: an id is the author, a hyphen and three digits ({row['author']}-001)"
    lang = row["lang"]
    if lang not in ANSWER:
        yield f"{name}: lang '{lang}' is unknown (known: {', '.join(ANSWER)})"
        return
    text = text_of(row)
    for what, said in (("prompt", row["prompt"]), *((p, row[p]) for p in PARTS), *([("twin", r.twin)] if r.twin else [])):
        if (seen := language_of(said)) != lang:
            yield f"{name}: the {what} reads as '{seen}', the example is '{lang}'"
        if MARKUP.search(said):
            yield f"{name}: the {what} holds a heading, a bullet or bold; answers are plain prose"
    for what, said, (least, most, unit) in (("prompt", row["prompt"], PROMPT[lang]), ("answer", text, ANSWER[lang])):
        if not least <= (n := length(said, lang)) <= most:
            yield f"{name}: the {what} has {n} {unit}, {least} to {most} are asked for"
    for part in PARTS:
        if NAMED.search(row[part]):
            yield f"{name}: the {part} is headed by the name of a part; the names stand in the keys alone"
    if length(row["witness"], lang) <= max(length(row["invoke"], lang), length(row["articulate"], lang)):
        yield f"{name}: witness is not the longest part; it looks, and keeps looking"
    if r.twin is not None:
        n, m = length(text, lang), length(r.twin, lang)
        if abs(m - n) > TWIN * n:
            yield f"{name}: its twin has {m} {ANSWER[lang][2]}, the example {n}; within {TWIN:.0%} is asked for ({r.twin_where})"


def repeated(rows: Sequence[Row]) -> Iterator[str]:
    """Ids, openings and runs of words that come twice."""
    yield from twice(((r.id, r) for r in rows), "the id '{key}'")
    for what, of in (("prompt", lambda r: r.row["prompt"]), ("answer", lambda r: r.row["invoke"]), ("twin", lambda r: r.twin or "")):
        yield from twice(((opening(t, r.row["lang"]), r) for r in rows if (t := of(r))), "its " + what + " opens with '{key}', as that")
    seen: dict[str, tuple[Row, str]] = {}
    told: set[tuple[str, str]] = set()
    for r in rows:
        for what, text in (("prompt", r.row["prompt"]), ("answer", text_of(r.row)), ("twin", r.twin or "")):
            for run in dict.fromkeys(runs_of(text)):
                first, was = seen.setdefault(run, (r, what))
                # a prompt may come again in its own answers; an example and its twin are two texts
                own_prompt = first is r and "prompt" in (was, what)
                if (first is not r or was != what) and not own_prompt and (first.where, r.where) not in told:
                    told.add((first.where, r.where))
                    yield f"{r.where}: {r.id}: its {what} shares '{run}' with the {was} of {first.id}; write one of them anew"


def opening(text: str, lang: str) -> str:
    """The first words of a text, as they are compared."""
    return "".join(text.split())[:OPENING] if lang == "zh" else " ".join(WORD.findall(text.lower())[:OPENING])


def twice(keyed: Iterable[tuple[str, Row]], said: str) -> Iterator[str]:
    """A line for each row whose key another row had before."""
    seen: dict[str, list[Row]] = defaultdict(list)
    for key, row in keyed:
        if seen[key]:
            first = seen[key][0]
            yield f"{row.where}: {row.id}: {said.format(key=key)} of {first.id} ({first.where}); change one of them"
        seen[key].append(row)
