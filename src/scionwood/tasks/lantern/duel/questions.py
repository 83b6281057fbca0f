"""The questions of a duel: a file of tasks, and what is a right answer to one that can be checked."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any, Literal, Sequence

from pydantic import Field, model_validator

from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.settings import Settings, check
from scionwood.tasks.lantern.measures.words import HAN

SHIPPED = Path(__file__).resolve().parent.parent / "data" / "duel" / "tasks.jsonl"
OPEN, CHECKED = ("insight", "empathy", "synthesis", "phenomenology"), ("fact", "analysis")
KINDS = (*OPEN, *CHECKED)
LETTER = r"[^\W\u3400-\u9fff]"  # of a word that blanks set apart: a number amid Chinese stands alone
FACT = "fact"  # a right answer may be one word, so its diversity is not measured


class Question(Settings):
    """One task. A right answer to a fact or analysis task has one of ``accept`` in it and none of ``reject``; ``note`` says why."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    author: str = ""
    kind: Literal[KINDS]
    lang: str = "en"
    prompt: str = Field(min_length=1)
    note: str = ""
    facts: Any = None
    accept: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> "Question":
        if self.kind in CHECKED and not any(normal(a) for a in self.accept):
            raise ValueError(f"kind = '{self.kind}' needs 'accept', a list of strings of which a right answer has one")
        if self.kind in OPEN and (self.accept or self.reject):
            raise ValueError(f"kind = '{self.kind}' has no right answer; remove 'accept' and 'reject'")
        return self

    @property
    def checked(self) -> bool:
        """Whether an answer is right or wrong."""
        return self.kind in CHECKED

    def right(self, text: str) -> bool:
        """Whether a text is a right answer: one of ``accept`` stands in it as whole words, and none of ``reject``."""
        said = normal(text)
        return any(occurs(a, said) for a in self.accept) and not any(occurs(r, said) for r in self.reject)


def normal(text: str) -> str:
    """The form in which answers are searched: NFKC, case folded, straight quotes, plain hyphens, single blanks."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"[\u2018\u2019\u02bc]", "'", text)
    return " ".join(re.sub(r"[\u2010-\u2015\u2212]", "-", text).replace("*", "").split())


def occurs(phrase: str, said: str) -> bool:
    """Whether a phrase stands in a normalised text as whole words: 5 is not in 15, nor in 1.5. Chinese has no blanks to look for."""
    phrase = normal(phrase)
    if not phrase:
        return False
    if HAN.search(phrase):
        return phrase in said
    before = rf"(?<!{LETTER})(?<!\d[.,])" if phrase[0].isalnum() else ""
    after = rf"(?!{LETTER})(?![.,]\d)" if phrase[-1].isalnum() else ""
    return re.search(before + re.escape(phrase) + after, said) is not None


def read_questions(path: Path | None = None, lang: str = "") -> list[Question]:
    """The tasks of a file (JSON lines), or those that ship; of one language, where it is named.

    Raises UserError for a bad row, and for an id or a prompt that comes twice.
    """
    path = Path(path or SHIPPED)
    questions = [check(row, Question, f"{path}, task {row.get('id', n)}") for n, row in enumerate(read_jsonl(path), 1)]
    if not questions:
        raise UserError(f"{path}: holds no task; write one JSON object a line with id, kind and prompt")
    for what in ("id", "prompt"):
        seen: dict[str, str] = {}
        for q in questions:
            key = normal(getattr(q, what)) if what == "prompt" else q.id
            if key in seen:
                raise UserError(f"{path}: task '{q.id}' has the {what} of task '{seen[key]}'; remove one of them")
            seen[key] = q.id
    kept = [q for q in questions if not lang or q.lang == lang]
    if not kept:
        known = ", ".join(sorted({q.lang for q in questions}))
        raise UserError(f"{path}: holds no task of the language '{lang}' (there: {known})")
    return kept


def by_kind(questions: Sequence[Question]) -> dict[str, int]:
    """How many tasks there are of each kind."""
    return {kind: n for kind in KINDS if (n := sum(q.kind == kind for q in questions))}
