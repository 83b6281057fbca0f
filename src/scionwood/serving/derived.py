"""Typed routes for a task that names none: one for each job, from the inputs of its cases and the answers that are legal."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Sequence

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from scionwood.errors import UserError, nearest
from scionwood.secrets import has_secret
from scionwood.serving.routes import Route
from scionwood.settings import Settings
from scionwood.systems.base import GATED, OK, Prediction
from scionwood.task import Case, Choices, Task

LONGEST = 8000  # characters of one string
MOST_ITEMS = 100  # of one list
DEEPEST = 16  # levels of nested values


def derived_routes(task: Task) -> list[Route]:
    """One route for each job of the task's test cases; /v1/answer with a free form where the cases are not on this machine."""
    try:
        cases = task.cases("test")
    except (UserError, OSError):
        cases = []
    by_job: dict[str, list[Case]] = {}
    for case in cases:
        by_job.setdefault(case.job, []).append(case)
    if not by_job:
        return [_route(task, "answer", task.name, free_form(), None, {})]
    return [_route(task, slug(job), job, input_model(job, own), own[0], own[0].input) for job, own in by_job.items()]


def slug(job: str) -> str:
    """A job's name as part of a path."""
    return re.sub(r"[^a-z0-9]+", "-", job.lower()).strip("-") or "answer"


def _route(task: Task, name: str, job: str, request: type[BaseModel], sample: Case | None, example: dict) -> Route:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise UserError("a JSON object is expected")
        try:
            checked = request.model_validate(value)
        except ValidationError as e:
            raise UserError(one_line(e, [f.alias or name for name, f in request.model_fields.items()])) from None
        return checked.model_dump(by_alias=True, exclude_unset=True)

    def cases(asked: dict, record: str) -> list[Case]:
        case = Case(record, record, job, asked, None)
        try:
            task.messages(case)
        except UserError:
            raise
        except Exception as e:  # a stranger's code: whatever it trips over, the request is to blame first
            # the type alone: a message of Python's may hold the value
            raise UserError(f"the task cannot make a prompt of this ({type(e).__name__}); compare it with the example in /docs") from None
        return [case]

    def respond(asked: dict, predictions: Sequence[Prediction], model_rev: str) -> dict[str, Any]:
        (p,) = predictions
        fine = p.status in (OK, GATED)
        answer = p.answer if fine else task.default(Case("r", "r", job, asked, None))
        return {"status": p.status, "degraded": not fine, "answer": as_json(answer), "confidence": p.confidence,
                "latency_ms": round(p.latency_ms or 0.0, 3), "model_rev": model_rev, **({"reason": p.reason} if p.reason else {})}

    return Route(name, task.summary or f"{task.name}: {job}", request, response_model(task, name, sample), read, cases, respond, example)


# -- requests -------------------------------------------------------------------------------------------------------------


def _bounded(value: Any, level: int = 0) -> Any:
    if level > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise ValueError(f"{len(value)} characters, more than {LONGEST}")
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise ValueError("holds half a surrogate pair, which is no character")
    elif isinstance(value, (list, dict)):
        if len(value) > MOST_ITEMS:
            raise ValueError(f"{len(value)} items, more than {MOST_ITEMS}")
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _bounded(inner, level + 1)
    return value


BOUNDS = {str: Field(max_length=LONGEST), list: Field(max_length=MOST_ITEMS), dict: Field(max_length=MOST_ITEMS)}
KINDS = {str: str, bool: bool, int: int, float: float, list: list[Any], dict: dict[str, Any], type(None): None}


def _typed(values: list[Any]) -> Any:
    """The type of the values that a key was seen with."""
    kinds = list(dict.fromkeys(float if type(v) is int and float in map(type, values) else type(v) for v in values))
    whole: Any = None
    for kind in kinds:
        one: Any = KINDS.get(kind, Any)
        if kind in BOUNDS:
            one = Annotated[one, BOUNDS[kind]]
        whole = one if whole is None else whole | one
    return Annotated[None if kinds == [type(None)] else whole, AfterValidator(_bounded)]


def input_model(job: str, cases: Sequence[Case]) -> type[BaseModel]:
    """A schema of the inputs of ``cases``: a key that every one of them has is required, its type is what was seen there."""
    seen: dict[str, list[Any]] = {}
    for case in cases:
        for key, value in case.input.items():
            seen.setdefault(key, []).append(value)
    fields = {}
    for n, (key, values) in enumerate(seen.items()):  # under names of our own: a key may be no Python name
        needed = {} if len(values) == len(cases) else {"default": None}
        fields[f"field_{n}"] = (_typed(values), Field(alias=key, **needed))
    return create_model(f"{_camel(job)}Request", __base__=Settings, __doc__=f"One input of the job '{job}'.", **fields)


def free_form() -> type[BaseModel]:
    """A schema for any input, where nothing is known of it."""
    class AnswerRequest(BaseModel):
        """One input of the task, as its ``messages`` expects it."""

        model_config = ConfigDict(extra="allow")
        __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_bounded)]]

    return AnswerRequest


def one_line(error: ValidationError, known: Sequence[str]) -> str:
    """What is wrong first, naming the key and never a value: a request may hold a secret."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    first = min(found, key=lambda e: e["type"] != "extra_forbidden")  # a misspelt key explains the missing one
    # a union's own branches stand in the path too ("function-after[...]"): the key is enough
    key = str(first["loc"][0]) if first["loc"] else ""
    shown = f"'{key}'" if len(key) <= 60 and key.isprintable() and not has_secret(key) else "(not shown)"
    if first["type"] == "extra_forbidden":
        return f"unknown key {shown}{nearest(key, known) if shown != '(not shown)' else ''} (known: {', '.join(known)})"
    if first["type"] == "missing":
        return f"key {shown} is missing"
    return f"{shown}: {first['msg'].removeprefix('Value error, ')}"


# -- responses ------------------------------------------------------------------------------------------------------------


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", name)) or "Answer"


class Base(BaseModel):
    """What every response carries. ``degraded``: the safe default stands in for an answer."""

    status: Literal["ok", "gated", "invalid", "timeout", "error"]
    degraded: bool
    confidence: float | None = Field(description="probability of the answer; null where none was computed")
    latency_ms: float = Field(description="milliseconds of the model, or those waited where it did not answer in time")
    model_rev: str
    reason: str | None = None
    result_id: str | None = Field(None, description="where the late answer will be: GET /v1/results/{result_id}")


def response_model(task: Task, name: str, sample: Case | None) -> type[BaseModel]:
    """The schema of a response. Choices that ``parse`` gives back unchanged are an enumeration, all else any JSON value."""
    answer: Any = Any
    if sample is not None and isinstance(constraint := task.constraint(sample), Choices):
        parsed = [task.parse(sample, text) for text in constraint.texts]
        default = task.default(sample)
        if all(isinstance(p, str) for p in parsed) and (default is None or isinstance(default, str)):
            values = list(dict.fromkeys([*parsed, *([default] if default is not None else [])]))
            answer = Literal[tuple(values)]
            if default is None:
                answer = answer | None
    return create_model(f"{_camel(name)}Response", __base__=Base, answer=(answer, ...))


def as_json(value: Any) -> Any:
    """An answer as a JSON value; what JSON does not know becomes its text."""
    return json.loads(json.dumps(value, ensure_ascii=False, default=str))
