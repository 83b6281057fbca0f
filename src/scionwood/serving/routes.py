"""Typed routes: what a task's requests look like, the cases behind them, and the response that its predictions become."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

from pydantic import BaseModel

from scionwood.errors import UserError
from scionwood.systems.base import Prediction
from scionwood.task import Case, Task


@dataclass(frozen=True)
class Route:
    """POST /v1/NAME. A task of one job per case needs none of its own: ``routes_of`` derives them from its cases.

    ``read`` checks a decoded JSON object and raises a UserError of one line that names keys and never a value. ``cases`` gives
    what a model has to decide, with ids below a record's (none where a fixed rule answers the whole request). ``respond`` makes
    the response, also where predictions failed: then it is the safe default, with ``degraded`` true. ``example`` is a request
    that is shown in the documentation and answered once before the server says that it is ready.
    """

    name: str
    summary: str
    request: type[BaseModel]
    response: type[BaseModel]
    read: Callable[[Any], Any]
    cases: Callable[[Any, str], list[Case]]
    respond: Callable[[Any, Sequence[Prediction], str], dict[str, Any]]
    example: dict[str, Any] = field(default_factory=dict)


RESERVED = {"models", "chat", "results"}


def routes_of(task: Task) -> list[Route]:
    """The routes that the task names itself, else one for each job, derived from its cases. Raises UserError on bad names."""
    from scionwood.serving.derived import derived_routes

    routes = task.routes() or derived_routes(task)
    for route in routes:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", route.name) or route.name in RESERVED:
            raise UserError(f"task '{task.name}': '{route.name}' cannot be the name of a route; use lower-case letters, digits, '-' "
                            f"and '_' (taken: {', '.join(sorted(RESERVED))})")
    if len({r.name for r in routes}) < len(routes):
        raise UserError(f"task '{task.name}': two routes have the same name")
    return routes
