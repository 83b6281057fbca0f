"""Requests to the memory router, and the responses to them.

The cases behind a request are made by the same function as those of the data files, so the prompts are identical. What is wrong
with a request is said in one line that names the key and never a value: a request may hold a secret.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Sequence

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator

from scionwood.errors import UserError, nearest
from scionwood.secrets import has_secret, holds_secret
from scionwood.settings import Settings
from scionwood.systems.base import GATED, OK, Prediction
from scionwood.task import Case
from scionwood.tasks.cerebellum.cases import MAX_CANDIDATES, cases_of
from scionwood.tasks.cerebellum.labels import action_of, decision_of, fate_of
from scionwood.tasks.cerebellum.task import Cerebellum

LONGEST = 4000  # characters of one text
LONGEST_ID = 200


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("the text is empty")
    if len(value) > LONGEST:
        raise ValueError(f"{len(value)} characters, more than {LONGEST}; shorten or split the text")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("holds half a surrogate pair, which is no character")
    return value


def _day(value: str) -> str:
    try:
        return datetime.datetime.fromisoformat(value).date().isoformat()
    except ValueError:
        raise ValueError("not an ISO date such as 2026-03-02") from None


def _id(value: Any) -> str | int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isprintable() and 0 < len(value) <= LONGEST_ID:
        return value
    raise ValueError(f"an id is a whole number or 1 to {LONGEST_ID} printable characters")


def _wrapped(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


Text = Annotated[str, AfterValidator(_text), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": r"\S"})]
Day = Annotated[str, AfterValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
NAMED = [{"type": "integer"}, {"type": "string", "minLength": 1, "maxLength": LONGEST_ID, "description": "printable characters"}]
Id = Annotated[Any, BeforeValidator(_id), WithJsonSchema({"anyOf": NAMED})]


class Common(Settings):
    """What every request may carry. Dates are kept as ISO days."""

    request_id: Id | None = None
    lang_hint: Annotated[str, Field(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{2,8}){0,3}$")] | None = None
    now: Day | None = None
    source: Literal["user", "tool", "file", "agent"] | None = None


class Classify(Common):
    """A message, and up to two turns before it."""

    text: Text
    previous: Annotated[list[Text], Field(max_length=2)] = []


class Memorize(Classify):
    """A text that may be kept, and up to two turns before it."""


class New(Settings):
    """The new fact. ``observed_at``: when it came in; ``event_time``: when what it says was true."""

    text: Text
    observed_at: Day | None = None
    event_time: Day | None = None


class Stored(Settings):
    """A stored memory to hold it against."""

    text: Text
    id: Id | None = None
    observed_at: Day | None = None
    valid_from: Day | None = None


class Arbitrate(Common):
    """``new`` and each candidate may also be a plain string. A new text without a day of its own was observed ``now``."""

    new: Annotated[New, BeforeValidator(_wrapped)]
    candidates: Annotated[list[Annotated[Stored, BeforeValidator(_wrapped)]], Field(min_length=1, max_length=MAX_CANDIDATES)]

    @model_validator(mode="after")
    def ids_differ(self) -> Arbitrate:
        if len({str(i) for i in self.ids()}) < len(self.candidates):
            raise ValueError("two candidates have the same id (one without an id is called m0, m1, ... by its place)")
        return self

    def ids(self) -> list[str | int]:
        return [f"m{i}" if c.id is None else c.id for i, c in enumerate(self.candidates)]


Request = Classify | Memorize | Arbitrate
SCHEMAS: dict[str, type[Common]] = {"classify": Classify, "memorize": Memorize, "arbitrate": Arbitrate}
INNER = {"new": New, "candidates": Stored}
DEFAULTS = {job: Cerebellum().default(Case("", "", job, {}, None)) for job in SCHEMAS}


# -- reading --------------------------------------------------------------------------------------------------------------


def read(job: str, value: Any) -> Request:
    """Check one decoded JSON value; a plain string is a text to classify or memorize. Raises a UserError of one line."""
    schema = SCHEMAS[job]
    if job != "arbitrate":
        value = _wrapped(value)
    if not isinstance(value, dict):
        needed = [f"'{name}'" for name, field in schema.model_fields.items() if field.is_required()]
        raise UserError(f"a JSON object with {' and '.join(needed)} is expected")
    try:
        return schema.model_validate(value)
    except ValidationError as e:
        found = e.errors(include_url=False, include_input=False, include_context=False)
        first = min(found, key=lambda error: error["type"] != "extra_forbidden")  # a misspelt key explains the missing one
        raise UserError(_one_line(first, schema)) from None


def _one_line(error: dict, schema: type[Common]) -> str:
    where = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        known = list(INNER.get(where[0] if len(where) > 1 else "", schema).model_fields)
        return f"unknown key {_shown('.'.join(where))}{nearest(where[-1], known)} (known: {', '.join(known)})"
    key = ".".join(where)
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _shown(key: str) -> str:
    """A caller's key for an error line, unless it could be more than a key."""
    return f"'{key}'" if len(key) <= 60 and key.isprintable() and not has_secret(key) else "(not shown)"


# -- the gate on whole requests, and the cases behind them ------------------------------------------------------------------


def has_secrets(part: Settings, without: str = "") -> bool:
    """Whether any string of a request, or of a part of it, holds a secret value."""
    return holds_secret(part.model_dump(exclude={without}))


def _may_echo(name: str | int) -> bool:
    """Whether a caller's id can be given back. Numbers always can: one in ten long ones has the check sum of a card."""
    return isinstance(name, int) or not has_secret(name)


def is_gated(job: str, request: Request) -> bool:
    """Whether a secret stands in what would be stored or in the data about it. Classify stores nothing and is never gated."""
    return job != "classify" and has_secrets(request, without="candidates")


def to_cases(job: str, request: Request, record: str = "r") -> list[Case]:
    """The cases that a model has to decide, with ids below ``record``.

    There are none where the gate answers the whole request, and none for a stored memory that itself holds a secret.
    """
    if is_gated(job, request):
        return []
    row = {"id": record, "job": job, "source": record, "lang": request.lang_hint or "en"}
    if job == "classify":
        return cases_of(row | {"text": request.text, "gold": None})
    if job == "memorize":
        return cases_of(row | {"text": request.text, "previous": request.previous, "gold": {"kind": None, "mixed": None}})
    new = request.new.model_dump()
    new["observed_at"] = new["observed_at"] or request.now
    stored = [c.model_dump(exclude={"id"}) for c in request.candidates]
    cases = cases_of(row | {"new": new, "candidates": stored, "gold": [None] * len(stored)})
    return [case for case, c in zip(cases, request.candidates) if not has_secrets(c)]


# -- responses ------------------------------------------------------------------------------------------------------------


def respond(job: str, request: Request, predictions: Sequence[Prediction], model_rev: str = "") -> dict[str, Any]:
    """The response to a request, from the predictions of the cases of ``to_cases``.

    ``degraded``: the safe default stands in for an answer, so that nothing is changed and nothing lost. ``confidence``: the
    probability of the answer, the lowest one where there are several candidates, null where no model was asked.
    ``latency_ms``: the request's share of the model's time, in milliseconds.
    """
    seen = [p.confidence for p in predictions if p.confidence is not None]
    shown = request.request_id is not None and _may_echo(request.request_id)
    return {
        **({"request_id": request.request_id} if shown else {}),
        **(_links(request, predictions) if job == "arbitrate" else _answer(job, request, predictions)),
        "confidence": min(seen, default=None),
        "latency_ms": round(sum(p.latency_ms or 0.0 for p in predictions), 3),
        "model_rev": model_rev,
    }


def _answer(job: str, request: Request, predictions: Sequence[Prediction]) -> dict[str, Any]:
    if is_gated(job, request):
        status, answer, reason = GATED, {"kind": "secret", "mixed": False}, "secret"
    else:
        (p,) = predictions
        status, reason = p.status, p.reason
        answer = p.answer if status in (OK, GATED) else DEFAULTS[job]
    out: dict[str, Any] = {"status": status, "degraded": status not in (OK, GATED)}
    out |= {"intent": answer} if job == "classify" else {"decision": decision_of(answer["kind"]), **answer}
    return out | ({"reason": reason} if reason else {})


def _links(request: Arbitrate, predictions: Sequence[Prediction]) -> dict[str, Any]:
    if is_gated("arbitrate", request):
        return {"status": GATED, "degraded": False, "links": [], "new_fact": "drop", "reason": "secret"}
    by_place = {p.case.rpartition("#")[2]: p for p in predictions}
    failed = [p for p in predictions if p.status not in (OK, GATED)]
    relations, links = [], []
    for i, (given, candidate) in enumerate(zip(request.ids(), request.candidates)):
        p = by_place.get(f"m{i}")  # none: the stored memory holds a secret
        relation = p.answer if p and p.status in (OK, GATED) else DEFAULTS["arbitrate"]
        relations.append(relation)
        if relation != "independent":
            link = {"id": given if _may_echo(given) else f"m{i}", "relation": relation, "action": action_of(relation)}
            links.append(link | ({"confidence": p.confidence} if p else {"confidence": None, "reason": "secret"}))
    gated = bool(predictions) and all(p.status == GATED for p in predictions)
    out = {"status": failed[0].status if failed else GATED if gated else OK,
           "degraded": bool(failed) or len(predictions) < len(request.candidates), "links": links, "new_fact": fate_of(relations)}
    reason = failed[0].reason if failed else "duplicate" if gated else ""
    return out | ({"reason": reason} if reason else {})
