"""The routes of OpenAI's API that clients know: chat completions and the list of models. Greedy unless asked to draw; no thinking."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scionwood.errors import UserError
from scionwood.models.sampling import LAST_SEED, Drawing
from scionwood.serving.bodies import read_json
from scionwood.serving.derived import one_line
from scionwood.serving.refusals import Refused
from scionwood.serving.settings import HOTTEST
from scionwood.serving.sidecar import Sidecar
from scionwood.serving.typed import DEADLINE, deadline_seconds

LONGEST = 100_000  # characters of one message; the context is smaller in any case


def _whole(text: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("holds half a surrogate pair, which is no character")
    return text


Text = Annotated[str, Field(max_length=LONGEST), AfterValidator(_whole)]


class Strict(BaseModel):
    """Unknown keys are refused: what would be ignored in silence is not understood."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TextPart(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class Message(Strict):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=32)]
    name: str | None = Field(None, max_length=200, description="understood and not used")

    def plain(self) -> dict[str, str]:
        text = self.content if isinstance(self.content, str) else "".join(p.text for p in self.content)
        return {"role": self.role, "content": text}


class NamedSchema(Strict):
    """A JSON schema under a name."""

    name: str = Field("answer", max_length=200)
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = Field(None, max_length=2000)


class ResponseFormat(Strict):
    """What the answer is: text, any JSON object, or JSON under a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class StreamOptions(Strict):
    """Whether the last event of a stream tells what was used."""

    include_usage: bool = False


class ChatRequest(Strict):
    """A conversation to go on with. Without a temperature the likeliest token is taken, so that one request has one answer."""

    messages: list[Message] = Field(min_length=1, max_length=100)
    model: str | None = Field(None, max_length=200, description="there is one model; any name is taken for it")
    max_tokens: int | None = Field(None, ge=1, le=100_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=100_000)
    response_format: ResponseFormat | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=HOTTEST, strict=True, description="0, or left out: the likeliest token is taken")
    n: Literal[1] | None = None
    top_p: float | None = Field(None, gt=0, le=1, strict=True,
                                description="draw from the fewest tokens that hold so much of the probability; after min_p")
    min_p: float | None = Field(None, ge=0, le=1, strict=True,
                                description="draw from tokens with this share of the likeliest one's probability; after the temperature")
    seed: int | None = Field(None, ge=0, le=LAST_SEED, strict=True, description="the same seed gives the same text; left out, any")
    ignore_eos: bool | None = Field(None, strict=True, description="do not end the turn before max_tokens; not under a response_format")
    user: str | None = Field(None, max_length=200, description="understood and not used")


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Choice(BaseModel):
    """The answer. length: it was cut at max_tokens."""

    index: int
    message: dict[str, str]
    finish_reason: Literal["stop", "length"]


class ChatResponse(BaseModel):
    """A chat completion in OpenAI's form."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str = Field(description="the beginning of the hash of the file that answered, as model_rev on typed routes")
    choices: list[Choice]
    usage: Usage


class ModelCard(BaseModel):
    """The one model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    model_rev: str


class ModelList(BaseModel):
    """What is served."""

    object: Literal["list"]
    data: list[ModelCard]


def models(sidecar: Sidecar) -> Response:
    """GET /v1/models."""
    if sidecar.model is None:
        raise Refused(503, "the model is still loading", {"Retry-After": "1"})
    card = {"id": sidecar.model.name, "object": "model", "created": sidecar.model.created, "owned_by": "scionwood",
            "model_rev": sidecar.model.rev}
    return JSONResponse({"object": "list", "data": [card]})


async def complete(sidecar: Sidecar, request: Request) -> Response:
    """POST /v1/chat/completions. There is no safe default for free text: past the deadline it is refused."""
    begin = time.monotonic()
    explicit = DEADLINE in request.headers
    seconds = deadline_seconds(request, sidecar) if explicit else sidecar.settings.longest_deadline_ms / 1000
    sidecar.admit()
    value = await read_json(request, sidecar.settings.max_body, sidecar.settings.body_seconds)
    asked = check(value)
    if sidecar.model is None:
        raise Refused(503, "the model is still loading", {"Retry-After": "1"})
    schema = schema_of(asked)
    tokens = min(asked.max_completion_tokens or asked.max_tokens or sidecar.settings.max_tokens, sidecar.settings.max_tokens)
    messages, deadline, drawing = [m.plain() for m in asked.messages], begin + seconds, drawing_of(asked)
    endless, anew = bool(asked.ignore_eos), asked.seed is not None
    sidecar.admit()  # again: others have come while the body was read
    try:
        job = sidecar.line.submit([lambda: sidecar.model.chat(messages, tokens, schema, deadline, drawing, endless, anew)])
    except RuntimeError:
        raise Refused(503, "the server is stopping", {"Retry-After": "5"}) from None
    future = asyncio.wrap_future(job.future)
    await asyncio.wait({future}, timeout=max(0.0, deadline + 1.0 - time.monotonic()))  # the model itself cuts at the deadline
    if not job.future.done():
        sidecar.line.drop(job)
        raise Refused(429, "the model had no time for this before its deadline", {"Retry-After": "1"})
    try:
        (done,) = job.future.result()
    except UserError as e:
        raise Refused(422, str(e)) from None
    except TimeoutError:
        raise Refused(429, "no whole answer before the deadline; ask for fewer tokens or give it more time", {"Retry-After": "1"}) from None
    return stream(sidecar, asked, done) if asked.stream else JSONResponse(whole(sidecar, done))


def check(value: Any) -> ChatRequest:
    """A decoded body as a request. Raises Refused with one line that holds no value."""
    if not isinstance(value, dict):
        raise Refused(422, "a JSON object is expected")
    try:
        asked = ChatRequest.model_validate(value)
    except ValidationError as e:
        raise Refused(422, one_line(e, list(ChatRequest.model_fields))) from None
    if asked.messages[-1].role == "assistant":
        raise Refused(422, "'messages': the last one is the model's own; end with a message of the user")
    if asked.ignore_eos and asked.response_format is not None and asked.response_format.type != "text":
        raise Refused(422, "'ignore_eos': an answer in JSON ends where the JSON does; leave out one of the two")
    return asked


def drawing_of(asked: ChatRequest) -> Drawing:
    """How the answer is drawn. Without a seed, each request has a chance of its own."""
    seed = secrets.randbelow(LAST_SEED + 1) if asked.seed is None else asked.seed
    return Drawing(asked.temperature or 0.0, asked.min_p or 0.0, 1.0 if asked.top_p is None else asked.top_p, seed)


def schema_of(asked: ChatRequest) -> dict | None:
    """The schema that the answer is held to."""
    wanted = asked.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if wanted.json_schema is None:
        raise Refused(422, "'response_format': json_schema is missing")
    return wanted.json_schema.schema_


def whole(sidecar: Sidecar, done) -> dict[str, Any]:
    """The response in one piece."""
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion", "created": int(time.time()), "model": sidecar.model.name,
        "system_fingerprint": sidecar.model.rev,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": done.text}, "finish_reason": done.finish_reason}],
        "usage": usage(done),
    }


def usage(done) -> dict[str, int]:
    """Tokens read and written."""
    return {"prompt_tokens": done.prompt_tokens, "completion_tokens": done.tokens, "total_tokens": done.prompt_tokens + done.tokens}


def stream(sidecar: Sidecar, asked: ChatRequest, done) -> Response:
    """The response as server-sent events, for clients that only read those: the whole text is one event."""
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion.chunk", "created": int(time.time()),
            "model": sidecar.model.name, "system_fingerprint": sidecar.model.rev}

    def chunk(delta: dict, reason: str | None) -> dict:
        return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    events = [chunk({"role": "assistant", "content": done.text}, None), chunk({}, done.finish_reason)]
    if asked.stream_options and asked.stream_options.include_usage:
        events.append(head | {"choices": [], "usage": usage(done)})
    text = "".join(f"data: {json.dumps(e, ensure_ascii=False)}\n\n" for e in events) + "data: [DONE]\n\n"
    return Response(text, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
