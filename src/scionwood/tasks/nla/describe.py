"""Descriptions and summaries of texts, from an endpoint or recorded: asked for, validated, and refused with a reason.

A describer reads the text alone, never a vector. The verbalizer learns to say the description, the reconstructor reads the
summary; if one were a copy of the other, a round trip would prove less. So both are checked before they are kept, and what is
refused is asked for once more with the reason. Every answer and every refusal is in the journal.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Sequence

from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.task import JsonSchema
from scionwood.tasks.nla.inputs import Given
from scionwood.tasks.nla.wording import Limits, problem, tidy
from scionwood.teaching.endpoint import Endpoint, Request, ask_all
from scionwood.teaching.journal import OK, REFUSED, Journal, make_row

TRIES = 2  # the first answer, and one more after a refusal
KEYS = ("description", "summary")
SCHEMA = {
    "type": "object", "additionalProperties": False, "required": list(KEYS),
    "properties": {key: {"type": "string", "minLength": 1} for key in KEYS},
}
TAGS = {key: re.compile(rf"<{key}>(.*?)</{key}>", re.DOTALL) for key in KEYS}


@dataclass(frozen=True)
class Described:
    """What became of one text: a description and a summary, or the reason why there are none."""

    id: str
    description: str = ""
    summary: str = ""
    reason: str = ""

    @property
    def kept(self) -> bool:
        return not self.reason


def system_text(limits: Limits, as_json: bool) -> str:
    """What the describer is told before it reads a text."""
    form = ('Answer with one JSON object with the keys "description" and "summary" and nothing else.' if as_json else
            "Answer with <description>...</description> and then <summary>...</summary>, and nothing else.")
    return (
        "You read one text and write two accounts of it, both in English, whatever language the text has. You know nothing else.\n\n"
        f"1. The description: two to four short sentences, {limits.description[0]} to {limits.description[1]} words in all. Say what the "
        "text is about, its tone and form, who speaks to whom, and what would come next. Name the main theme first. It should let a reader "
        "pick this text out of ten of the same kind.\n"
        f"2. The summary: one sentence of {limits.summary[0]} to {limits.summary[1]} words that tells the content again in other words: "
        "who does, wants or feels what. Take no phrase from the description, and do not merely shorten it.\n\n"
        f"Quote no more than {limits.quote - 1} running words of the text. No lists, no headings, no bold. {form}"
    )


def messages_for(text: str, limits: Limits, as_json: bool) -> list[dict[str, str]]:
    """The question for one text. The part that all questions share comes first."""
    return [{"role": "system", "content": system_text(limits, as_json)}, {"role": "user", "content": f"<text>\n{text}\n</text>"}]


def read_answer(answer: str) -> tuple[str, str] | str:
    """``(description, summary)`` from closed tags or a JSON object; a string says what is wrong with the form."""
    stripped = answer.strip()
    if stripped.startswith(("{", "```")):
        body = re.sub(r"^```[a-z]*\s*|\s*```$", "", stripped)
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return "no valid JSON object"
        if not isinstance(value, dict) or any(not isinstance(value.get(key), str) for key in KEYS):
            return "the JSON object has no text under 'description' or 'summary'"
        return tidy(value["description"]), tidy(value["summary"])
    found = {}
    for key, tag in TAGS.items():
        parts = tag.findall(answer)
        if len(parts) != 1:
            opened = f"<{key}>" in answer
            return f"{len(parts)} {key} tags" if parts else f"the {key} tag is not closed" if opened else f"no {key} tag"
        found[key] = tidy(parts[0])
    return found["description"], found["summary"]


def judge(given: Given, answer: str, limits: Limits) -> Described:
    """Read and validate one answer."""
    read = read_answer(answer)
    if isinstance(read, str):
        return Described(given.id, reason=read)
    return Described(given.id, *read, reason=problem(given.text, *read, limits))


def describe(endpoint: Endpoint, texts: Sequence[Given], journal: Journal, limits: Limits = Limits(),
             progress: Callable[[int], None] | None = None) -> list[Described]:
    """Ask an endpoint for every text; one result for each, in order.

    The journal (with its token budget) makes it resumable: what was answered is not asked again. A refusal is a row of its own with
    status "refused" and the reason. Raises UserError where no text would fare better (no server, a wrong key, a spent budget).
    """
    by_id = {given.id: given for given in texts}
    questions = {given.id: messages_for(given.text, limits, endpoint.constrain) for given in texts}
    refused = {(row["key"], row["reason"]) for row in journal.rows if row["status"] == REFUSED}
    done: dict[str, Described] = {}
    for attempt in range(TRIES):
        requests = [Request(name, messages, JsonSchema(SCHEMA)) for name, messages in questions.items()]
        rows = ask_all(endpoint, requests, journal, progress if attempt == 0 else None)
        again = {}
        for name, row in rows.items():
            if row["status"] != OK:
                done[name] = Described(name, reason=row["reason"] or row["status"])
                continue
            found = done[name] = judge(by_id[name], row["text"], limits)
            if found.kept:
                continue
            if (row["key"], found.reason) not in refused:
                journal.append(make_row(name, row["key"], questions[name], REFUSED, row["text"], found.reason))
            again[name] = [*questions[name], {"role": "assistant", "content": row["text"]},
                           {"role": "user", "content": f"This cannot be used: {found.reason}. Write both anew, in the same form."}]
        questions = again
        if not questions:
            break
    return [done[given.id] for given in texts]


def recall(path: Path, texts: Sequence[Given], limits: Limits = Limits()) -> list[Described]:
    """Recorded descriptions: lines of ``id``, ``description`` and ``summary``, or a journal (``case``, ``text``). Validated alike.

    A journal holds refused rows too; the last answer that passes counts, else the last reason.
    """
    by_id = {given.id: given for given in texts}
    found: dict[str, Described] = {}
    for n, row in enumerate(read_jsonl(path), 1):
        name = row.get("id", row.get("case"))
        if not isinstance(name, str):
            raise UserError(f"{path}: row {n} has neither 'id' nor 'case'; say which text it describes")
        given = by_id.get(name)
        if given is None or (name in found and found[name].kept and "case" in row):
            continue
        if "case" in row:
            if row.get("status", OK) != OK:
                found.setdefault(name, Described(name, reason=str(row.get("reason") or row["status"])))
                continue
            found[name] = judge(given, str(row.get("text", "")), limits)
        elif any(not isinstance(row.get(key), str) for key in KEYS):
            raise UserError(f"{path}: row {n} ('{name}') has no text under 'description' or 'summary'")
        else:
            said = tidy(row["description"]), tidy(row["summary"])
            found[name] = Described(name, *said, reason=problem(given.text, *said, limits))
    return [found.get(given.id) or Described(given.id, reason="no recorded description") for given in texts]


def rows_of(texts: Sequence[Given], described: Sequence[Described]) -> list[dict[str, Any]]:
    """The texts that got both, as rows that keep all keys they came with."""
    return [{**given.row, "id": given.id, "text": given.text, "description": d.description, "summary": d.summary}
            for given, d in zip(texts, described, strict=True) if d.kept]


def told(described: Sequence[Described]) -> list[str]:
    """How many were kept, and why the others were not, for the terminal."""
    reasons = Counter(re.sub(r"\d+", "N", d.reason) if len(d.reason) < 60 else d.reason[:57] + "..." for d in described if not d.kept)
    kept = sum(d.kept for d in described)
    return [f"{kept} of {len(described)} texts described", *(f"  refused: {n} times {reason}" for reason, n in reasons.most_common())]


def about(endpoint: Endpoint | None, source: str, limits: Limits) -> dict[str, Any]:
    """What the sidecar of a data set says of its descriptions: the model, how it was asked, and the instruction."""
    if endpoint is None:
        return {"model": f"recorded in {source}", "max_tokens": None, "temperature": None, "instruction_prompt": None}
    return {"model": endpoint.model, "max_tokens": endpoint.max_tokens, "temperature": endpoint.temperature,
            "instruction_prompt": system_text(limits, endpoint.constrain)}
