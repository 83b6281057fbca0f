"""Asking a contestant: every question so many times, each answer on a line of its own journal before the next step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Protocol, Sequence

from scionwood.files import text_hash
from scionwood.tasks.lantern.duel.contestants import ENDPOINT, GGUF, RECORDED, Contestant
from scionwood.tasks.lantern.duel.questions import FACT, Question
from scionwood.teaching.journal import ERROR, OK, REFUSED, TIMEOUT, Journal, Row, make_row

STANDING = (OK, TIMEOUT, REFUSED)  # what counts as it is; an error (a lost connection) is tried again by the next run
EMPTY = "the answer is empty"


@dataclass(frozen=True)
class Asked:
    """One question, asked for the ``sample``-th time. ``seed`` is the text from which its chance comes, the same for every contestant.
    ``brief``: a right answer may be one word, so it may end at will."""

    question: str
    sample: int
    messages: tuple[dict[str, str], ...]
    seed: str
    brief: bool = False

    @property
    def case(self) -> str:
        return f"{self.question}/{self.sample}"

    @property
    def number(self) -> int:
        """The seed as a whole number of 31 bits, for engines that take one."""
        return int(text_hash(self.seed)[:8], 16) & 0x7FFFFFFF


class Backend(Protocol):
    """What answers for a contestant. ``identity`` is a JSON value that stands for the very weights, file or server that answers."""

    identity: Any

    def answer(self, asked: Sequence[Asked], done: Callable[[Asked, Row], None]) -> None:
        """Answer all of ``asked``, in any order; ``done`` takes each row as soon as it is there. Failures are rows."""

    def close(self) -> None:
        """Let go of what the contestant holds."""


def to_ask(questions: Sequence[Question], samples: int, seed: int, note: str = "") -> list[Asked]:
    """All that a contestant is asked. ``note`` follows every prompt, alike for all contestants."""

    def messages(q: Question) -> tuple[dict[str, str], ...]:
        return ({"role": "user", "content": f"{q.prompt}\n\n{note}" if note else q.prompt},)

    return [Asked(q.id, k, messages(q), f"{seed}/{q.id}/{k}", q.kind == FACT) for k in range(samples) for q in questions]


def key_of(contestant: Contestant, identity: Any, asked: Asked) -> str:
    """What an answer depends on, as a hash: other weights, sampling, prompt or seed ask anew. For recorded answers the file is all."""
    about = identity if contestant.kind == RECORDED else [identity, contestant.sampling.model_dump(), list(asked.messages), asked.seed]
    return text_hash([asked.case, about])


def answered(rows: Sequence[Row], keys: dict[str, str]) -> dict[str, Row]:
    """By case, the row that stands: the last standing one of its key, else its last failure. ``keys``: case to key."""
    found: dict[str, Row] = {}
    for row in rows:
        case = row["case"]
        if keys.get(case) == row["key"] and (row["status"] in STANDING or found.get(case, row)["status"] not in STANDING):
            found[case] = row
    return found


def ask(
    contestant: Contestant, backend: Backend, asked: Sequence[Asked], journal: Path, tell: Callable[[int], None] = lambda n: None
) -> int:
    """Ask for all that the journal does not answer; returns how many were asked. Killed anywhere, the next call goes on."""
    keys = {a.case: key_of(contestant, backend.identity, a) for a in asked}
    with Journal(journal) as book:
        there = answered(book.rows, keys)
        missing = [a for a in asked if a.case not in there or there[a.case]["status"] not in STANDING]
        tell(len(asked) - len(missing))

        def done(a: Asked, row: Row) -> None:
            book.append(row | {"case": a.case, "key": keys[a.case]})
            tell(1)

        if missing:
            backend.answer(missing, done)
    return len(missing)


def told(a: Asked, text: str, ended: bool, tokens: int | None = None, latency_ms: float | None = None) -> Row:
    """The row of a text. An answer that was cut at its most tokens is an answer, since all are cut to one length; an empty one is none."""
    status, reason = (OK, "") if text.strip() else (REFUSED, EMPTY)
    row = make_row(a.case, "", list(a.messages), status, text, reason, None, tokens, latency_ms)
    return row | {"ended": ended}


def failed(a: Asked, reason: str, status: str = ERROR) -> Row:
    """The row of an answer that did not come."""
    return make_row(a.case, "", list(a.messages), status, "", reason)


def open_backend(contestant: Contestant, say: Callable[[str], None]) -> Backend:
    """What answers for a contestant. Raises UserError where it cannot be loaded or reached."""
    if contestant.kind == ENDPOINT:
        from scionwood.tasks.lantern.duel.over_http import OverHttp

        return OverHttp(contestant, say)
    if contestant.kind == GGUF:
        from scionwood.tasks.lantern.duel.in_llamacpp import InLlamaCpp

        return InLlamaCpp(contestant, say)
    if contestant.kind == RECORDED:
        from scionwood.tasks.lantern.duel.written_down import WrittenDown

        return WrittenDown(contestant)
    from scionwood.tasks.lantern.duel.in_torch import InTorch

    return InTorch(contestant, say)
