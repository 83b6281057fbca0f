"""The application: every route with its schemas, and one shape for every error."""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi import FastAPI, Header, Path
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from scionwood import __version__
from scionwood.serving import chat, typed
from scionwood.serving.docs import page
from scionwood.serving.guard import Guard
from scionwood.serving.metrics import CONTENT_TYPE
from scionwood.serving.refusals import ErrorBody, Refused, error_response
from scionwood.serving.routes import Route
from scionwood.serving.sidecar import Sidecar

ABOUT = """Typed answers of one small specialist.

A typed route answers within its deadline (header X-Deadline-Ms). Where the model is not done by then, the answer is the safe
default, marked as degraded, and result_id names where the late answer will be."""


class State(BaseModel):
    """Whether the server is there, and whether it is warm."""

    status: str


def build(sidecar: Sidecar) -> FastAPI:
    """The application around a sidecar, which is started and closed with it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI):
        sidecar.start()
        yield

    app = FastAPI(title=f"scionwood: {sidecar.task.name}", version=__version__, description=ABOUT, lifespan=lifespan,
                  docs_url=None, redoc_url=None)  # their pages load scripts from elsewhere; ours does not
    app.add_middleware(Guard, settings=sidecar.settings, metrics=sidecar.metrics)
    for route in sidecar.routes.values():
        add_typed(app, sidecar, route)
    add_results(app, sidecar)
    add_chat(app, sidecar)
    add_probes(app, sidecar)
    add_errors(app)
    describe(app, sidecar)
    return app


def errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Responses of a route that are errors, for its documentation."""
    return {code: {"model": ErrorBody} for code in (401, 403, *codes)}


def body(schema: type[BaseModel], example: dict | None = None) -> dict[str, Any]:
    """A request body for the documentation; it is read and checked by our own code, which shows no values in errors."""
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": content | ({"example": example} if example else {})}}}


def add_typed(app: FastAPI, sidecar: Sidecar, route: Route) -> None:
    """POST /v1/NAME, with the schemas of its route."""
    async def endpoint(request: Request, x_deadline_ms: str | None = Header(None, include_in_schema=False)) -> Response:
        return await typed.answer(sidecar, route, request)

    extra = body(route.request, route.example) | {"parameters": [deadline_header(sidecar)]}
    app.add_api_route(f"/v1/{route.name}", endpoint, methods=["POST"], summary=route.summary, name=route.name, tags=["task"],
                      response_model=None, responses={200: {"model": route.response}, **errors(400, 408, 413, 415, 422, 429, 503)},
                      openapi_extra=extra)


def deadline_header(sidecar: Sidecar) -> dict[str, Any]:
    """The header that sets the deadline, for the documentation."""
    most = sidecar.settings.longest_deadline_ms
    return {"name": "X-Deadline-Ms", "in": "header", "required": False, "description": "how long the caller waits, in milliseconds",
            "schema": {"type": "integer", "minimum": 1, "maximum": most, "default": min(sidecar.settings.deadline_ms, most)}}


def add_results(app: FastAPI, sidecar: Sidecar) -> None:
    """The late answers."""
    @app.get("/v1/results/{id}", summary="A late answer", tags=["task"], response_model=None,
             responses={200: {"model": typed.Result}, 202: {"model": typed.Result}, **errors(404)})
    async def result(id: str = Path(description="result_id of a degraded answer")) -> Response:
        return await typed.result(sidecar, id)


def add_chat(app: FastAPI, sidecar: Sidecar) -> None:
    """OpenAI's routes."""
    @app.get("/v1/models", summary="What is served", tags=["OpenAI"], response_model=None,
             responses={200: {"model": chat.ModelList}, **errors(503)})
    async def models() -> Response:
        return chat.models(sidecar)

    async def completions(request: Request) -> Response:
        return await chat.complete(sidecar, request)

    example = {"messages": [{"role": "user", "content": "Good morning."}], "max_tokens": 16}
    ok = {"model": chat.ChatResponse, "content": {"text/event-stream": {}}}
    app.add_api_route("/v1/chat/completions", completions, methods=["POST"], summary="A chat completion", tags=["OpenAI"],
                      response_model=None, responses={200: ok, **errors(400, 408, 413, 415, 422, 429, 503)},
                      openapi_extra=body(chat.ChatRequest, example) | {"parameters": [deadline_header(sidecar)]})


def add_probes(app: FastAPI, sidecar: Sidecar) -> None:
    """Health, readiness, counters, and the documentation."""
    @app.get("/healthz", summary="Is the process alive?", tags=["probes"], response_model=State, responses=errors())
    async def healthz() -> State:
        return State(status="ok")

    @app.get("/readyz", summary="Is it warm, and not stopping?", tags=["probes"], response_model=State,
             responses=errors() | {503: {"model": ErrorBody}})
    async def readyz() -> State:
        if not sidecar.is_ready():
            raise Refused(503, "stopping" if sidecar.draining.is_set() else "not warm yet", {"Retry-After": "1"})
        return State(status="ready")

    @app.get("/metrics", summary="Counters for Prometheus", tags=["probes"], response_class=Response,
             responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **errors()})
    def metrics() -> Response:
        return Response(sidecar.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


    @app.get("/docs", include_in_schema=False)
    def documentation(request: Request) -> Response:
        text = page(app.openapi(), f"http://{request.headers.get('host', '')}", sidecar.settings.api_key is not None)
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})


def add_errors(app: FastAPI) -> None:
    """Every refusal in the one shape of refusals.py."""
    @app.exception_handler(Refused)
    async def refused(request: Request, e: Refused) -> JSONResponse:
        return error_response(e.status, e.message, e.headers)

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, e: RequestValidationError) -> JSONResponse:
        places = ", ".join(sorted({".".join(map(str, error["loc"][:2])) for error in e.errors()}))
        return error_response(422, f"not as the documentation asks: {places}")

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, e: HTTPException) -> JSONResponse:
        return error_response(e.status_code, str(e.detail), dict(e.headers or {}))


def describe(app: FastAPI, sidecar: Sidecar) -> None:
    """Add the schemas of the bodies, which our own code reads, to the OpenAPI document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for model in [*(r.request for r in sidecar.routes.values()), chat.ChatRequest]:
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}", by_alias=True)
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            if sidecar.settings.api_key:
                document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                document["security"] = [{"key": []}]
                for probe in ("/healthz", "/readyz"):
                    document["paths"][probe]["get"]["security"] = []
        return app.openapi_schema

    app.openapi = openapi
