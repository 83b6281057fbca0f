"""The typed routes: a deadline for the caller, and a result that comes in any case."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scionwood.errors import UserError
from scionwood.secrets import holds_secret
from scionwood.serving.bodies import read_json
from scionwood.serving.refusals import Refused
from scionwood.serving.results import DONE, LOST
from scionwood.serving.routes import Route
from scionwood.serving.sidecar import Sidecar

log = logging.getLogger("scionwood.serving")
DEADLINE = "x-deadline-ms"


class Result(BaseModel):
    """A late answer. lost: the request held a secret, which is never written to disk, and the server was started anew since."""

    id: str
    route: str
    state: Literal["pending", "done", "lost"]
    response: dict[str, Any] | None


def deadline_seconds(request: Request, sidecar: Sidecar) -> float:
    """How long the caller of a request waits: its own header, else the server's default."""
    given, most = request.headers.get(DEADLINE), sidecar.settings.longest_deadline_ms
    if given is None:
        return sidecar.settings.deadline_ms / 1000
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise Refused(422, f"header X-Deadline-Ms: a whole number from 1 to {most} is expected")
    return int(given) / 1000


async def answer(sidecar: Sidecar, route: Route, request: Request) -> Response:
    """POST /v1/NAME."""
    begin = time.monotonic()
    seconds = deadline_seconds(request, sidecar)
    sidecar.admit()
    value = await read_json(request, sidecar.settings.max_body, sidecar.settings.body_seconds)
    try:
        asked = route.read(value)
        cases = route.cases(asked, "r")
    except UserError as e:
        raise Refused(422, str(e)) from None
    given = sidecar.by_rule(cases)
    asked_of_model = [c for c, g in zip(cases, given) if g is None]
    if not asked_of_model:
        return JSONResponse(sidecar.response(route, asked, cases, given, []))
    try:
        await asyncio.to_thread(sidecar.check, asked_of_model)
    except UserError as e:
        raise Refused(422, str(e)) from None
    sidecar.admit()  # again: others have come while the body was read
    try:
        job = sidecar.line.submit(sidecar.steps(route.name, asked_of_model))
    except RuntimeError:
        raise Refused(503, "the server is stopping", {"Retry-After": "5"}) from None
    future = asyncio.wrap_future(job.future)
    await asyncio.wait({future}, timeout=max(0.0, begin + seconds - time.monotonic()))
    if job.future.done() or not sidecar.line.give_way(job):
        return JSONResponse(sidecar.response(route, asked, cases, given, job.future.result()))
    response = sidecar.response(route, asked, cases, given, None, (time.monotonic() - begin) * 1000)
    id = uuid.uuid4().hex
    try:
        await asyncio.to_thread(sidecar.results.add, id, route.name, value, holds_secret(value))
    except Exception as e:  # a full disk above all; the answer that can be given is still given
        log.error("a late answer cannot be kept: %s", type(e).__name__)
        sidecar.line.drop(job)
        return JSONResponse(response | {"reason": "no answer in time, and the late one cannot be kept: the server cannot write"})
    job.future.add_done_callback(partial(sidecar.finish_late, id, route, asked, cases, given))
    return JSONResponse(response | {"result_id": id})


async def result(sidecar: Sidecar, id: str) -> Response:
    """GET /v1/results/ID: 200 with the answer, 202 while it is still to come."""
    entry = await asyncio.to_thread(sidecar.results.get, id)
    if entry is None:
        raise Refused(404, "no such result; late answers are kept for a while only")
    status, headers = (200, {}) if entry.state in (DONE, LOST) else (202, {"Retry-After": "1"})
    return JSONResponse({"id": entry.id, "route": entry.route, "state": entry.state, "response": entry.response}, status, headers)
