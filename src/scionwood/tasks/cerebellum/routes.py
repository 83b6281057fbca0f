"""The three jobs as typed routes of a sidecar. Requests, gates and responses are those of requests.py."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, Field

from scionwood.errors import UserError
from scionwood.serving.derived import Base
from scionwood.serving.routes import Route
from scionwood.tasks.cerebellum.labels import ACTIONS, INTENTS, KINDS, RELATIONS
from scionwood.tasks.cerebellum.requests import SCHEMAS, read, respond, to_cases

Decision = Literal["SAVE", "SKIP"]
Action = Literal["NONE", "UPDATE", "DELETE"]


class Routed(Base):
    """What the responses of the three jobs have in common."""

    request_id: int | str | None = None


class ClassifyResponse(Routed):
    """What the message wants."""

    intent: Literal[INTENTS]


class MemorizeResponse(Routed):
    """Whether the text is worth keeping, and what it is."""

    decision: Decision
    kind: Literal[KINDS]
    mixed: bool = Field(description="several parts of different worth")


class Link(BaseModel):
    """How the new fact stands to one stored memory; the action follows from the relation."""

    id: int | str
    relation: Literal[RELATIONS]
    action: Action
    confidence: float | None
    reason: str | None = None


class ArbitrateResponse(Routed):
    """Relations to the stored memories (those it has no bearing on are left out), and what becomes of the new fact."""

    links: list[Link]
    new_fact: Literal[tuple(dict.fromkeys(fate for _, fate in ACTIONS.values()))]


SUMMARIES = {
    "classify": "What does a message want from the memory?",
    "memorize": "Is a text worth keeping, and what is it?",
    "arbitrate": "How does a new fact stand to stored memories?",
}
RESPONSES = {"classify": ClassifyResponse, "memorize": MemorizeResponse, "arbitrate": ArbitrateResponse}
EXAMPLES = {
    "classify": {"text": "Where did I put the spare key?"},
    "memorize": {"text": "Never descale the kettle with vinegar, it ruins the seal."},
    "arbitrate": {"new": {"text": "Fen moved to Ghent in March.", "observed_at": "2026-04-02"},
                  "candidates": [{"id": "m-17", "text": "Fen lives in Leiden.", "observed_at": "2025-01-05"}]},
}


def read_object(job: str, value: Any):
    """A request of a route is an object; plain strings are for the command line."""
    if not isinstance(value, dict):
        raise UserError("a JSON object is expected")
    return read(job, value)


def routes() -> list[Route]:
    """One route for each job."""
    return [Route(job, SUMMARIES[job], SCHEMAS[job], RESPONSES[job], partial(read_object, job), partial(to_cases, job),
                  partial(respond, job), EXAMPLES[job]) for job in SCHEMAS]
