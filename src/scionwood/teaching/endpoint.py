"""A teacher behind an OpenAI-compatible chat endpoint: llama-server, Ollama, vLLM or a hosted service."""

import asyncio
import json
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Collection, Sequence
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from scionwood.errors import UserError
from scionwood.files import text_hash
from scionwood.settings import Settings
from scionwood.task import Case, Choices, Grammar, JsonSchema, Task
from scionwood.teaching import reply as replies
from scionwood.teaching.journal import ERROR, OK, TIMEOUT, Journal, Row, make_row, tokens
from scionwood.teaching.pacing import Budget, Pace, backoff, most_tokens
from scionwood.teaching.reply import Reply

if TYPE_CHECKING:
    import httpx

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
OWN_KEYS = {"model", "messages", "temperature", "max_tokens", "response_format", "stream", "n"}


class Endpoint(Settings):
    """Where a teacher is and how it is asked. ``extra`` is merged into the body of every request; its default turns off the
    thinking that Qwen3 does otherwise. The key itself is never a setting: ``api_key_env`` names the variable holding it."""

    base_url: str = Field(description="up to and with /v1, for example http://127.0.0.1:8080/v1")
    model: str = Field(min_length=1, description="the name by which the server knows the model")
    api_key_env: str | None = Field(None, description="name of the environment variable that holds the key")
    temperature: float = Field(0.0, ge=0, description="of the sampling; 0 takes the likeliest token")
    max_tokens: int = Field(512, gt=0, description="longest answer")
    timeout_s: float = Field(60.0, gt=0, description="seconds until the whole answer must be there")
    concurrency: int = Field(4, ge=1, description="requests under way at once")
    requests_per_minute: float | None = Field(None, gt=0, description="most requests sent in a minute")
    retries: int = Field(5, ge=0, description="further tries after 429, 5xx, a time-out or a lost connection")
    backoff_s: float = Field(1.0, ge=0, description="longest first wait before a retry; doubles with each")
    budget_tokens: int | None = Field(None, gt=0, description="tokens in all, those of the journal included")
    constrain: bool = Field(False, description="send the task's choices or JSON Schema as response_format")
    extra: dict[str, Any] = Field(default_factory=lambda: {"chat_template_kwargs": {"enable_thinking": False}},
                                  description="merged into the body of every request")

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.username or parts.password or parts.query:
            # Not a ValueError: that would print the value, and the value may hold a secret.
            raise UserError("endpoint.base_url: holds a name, password or query; name the variable with the key in api_key_env")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http://host:port/v1 or https://host/v1")
        if parts.path.rstrip("/").endswith("/chat/completions"):
            raise ValueError("leave out /chat/completions")
        _ = parts.port  # raises ValueError where it is no number
        return value.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_]\w*", value, re.ASCII):
            raise UserError("endpoint.api_key_env: expected the name of an environment variable, not the key itself")
        return value

    @field_validator("extra")
    @classmethod
    def _no_own_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        if own := sorted(OWN_KEYS & value.keys()):
            raise ValueError(f"'{own[0]}' does not belong here; it is set by a key of [endpoint] or by Scionwood")
        return value

    def url(self) -> str:
        return self.base_url + "/chat/completions"

    def api_key(self) -> str:
        """The key, or an empty string where none is named. A UserError where the named variable does not hold one."""
        if self.api_key_env is None:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            raise UserError(f"endpoint.api_key_env = '{self.api_key_env}': the variable holds no key; export it first")
        return key


@dataclass(frozen=True)
class Request:
    """The messages to send for one case, and what a legal answer looks like (sent only where the endpoint constrains). ``extra`` is
    merged into this one body, after the endpoint's."""

    case: str
    messages: list[dict[str, str]]
    constraint: Choices | JsonSchema | Grammar | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def requests_for(task: Task, cases: Sequence[Case]) -> list[Request]:
    """What the teacher is asked: each case with the task's own messages and constraint."""
    return [Request(c.id, task.messages(c), task.constraint(c)) for c in cases]


def response_format(constraint: Choices | JsonSchema | Grammar) -> dict[str, Any]:
    """A constraint as ``response_format``. Choices become an enumeration: the server then answers with a JSON string.

    Raises UserError for a grammar: chat endpoints have no common way to take one.
    """
    if isinstance(constraint, Grammar):
        raise UserError("endpoint.constrain = true: this task's answers follow a grammar, which chat endpoints cannot be sent; "
                        "set it to false")
    schema = {"type": "string", "enum": list(constraint.texts)} if isinstance(constraint, Choices) else constraint.schema
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def body_of(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """The body of a request. Its hash is the journal's key, so a change to prompt, model or parameters asks anew."""
    body = {
        "model": endpoint.model,
        "messages": request.messages,
        "temperature": endpoint.temperature,
        "max_tokens": endpoint.max_tokens,
        **endpoint.extra,
        **request.extra,
    }
    if endpoint.constrain and request.constraint is not None:
        body["response_format"] = response_format(request.constraint)
    return body


def unquote(text: str, constraint: Choices | JsonSchema | Grammar | None) -> str:
    """A choice that a constrained server wrote as a JSON string, as plain text; any other text as it is."""
    if isinstance(constraint, Choices) and text not in constraint.texts:
        try:
            value = json.loads(text)
        except ValueError:
            return text
        if isinstance(value, str) and value in constraint.texts:
            return value
    return text


def ask_all(
    endpoint: Endpoint,
    requests: Sequence[Request],
    journal: Journal,
    progress: Callable[[int], None] | None = None,
    final: Collection[str] = (OK,),
) -> dict[str, Row]:
    """Ask for every request that the journal does not answer; return a row per case, in the order of ``requests``.

    Cases with the same prompt share one question. Each answer is in the journal before the next step, so a stage that was
    killed or interrupted goes on without asking twice. ``progress`` is told how many more cases are done. ``latency_ms``
    is the time from sending the last try to its whole answer: neither the waits before it nor earlier tries count.
    ``final`` are the statuses that stand: a row that has one is neither tried again nor, on the next run, asked again.

    What fails for one case only is a row with status error, timeout or refused. What would fail for all is a UserError: no
    server, wrong key, address or model, a spent budget. Runs an event loop, so it must not be called from inside one.
    """
    by_key: dict[str, list[Request]] = {}
    for request in requests:
        by_key.setdefault(text_hash(body_of(endpoint, request)), []).append(request)
    if len({r.case for r in requests}) != len(requests):
        raise RuntimeError("ask_all: the same case twice")
    progress = progress or (lambda done: None)
    rows = {row["key"]: row for row in journal.rows if row["status"] in final and row["key"] in by_key}
    if rows:
        progress(sum(len(by_key[key]) for key in rows))
    missing = {key: same[0] for key, same in by_key.items() if key not in rows}

    def done(row: Row) -> None:
        journal.append(row)
        rows[row["key"]] = row
        progress(len(by_key[row["key"]]))

    if missing:
        asyncio.run(_ask_missing(endpoint, missing, journal.tokens(), done, final))
    found = {request.case: {**rows[key], "case": request.case} for key, same in by_key.items() for request in same}
    return {request.case: found[request.case] for request in requests}


async def _ask_missing(
    endpoint: Endpoint, missing: dict[str, Request], spent: int, done: Callable[[Row], None], final: Collection[str]
) -> None:
    """Ask every question of ``missing`` (by key); hand each row to ``done`` as it comes. ``spent``: tokens used before."""
    import httpx

    secret, url = endpoint.api_key(), endpoint.url()
    pace = Pace(endpoint.requests_per_minute)
    budget = Budget(endpoint.budget_tokens, spent, "raise it and run it again: the journal keeps every answer so far")
    free = asyncio.Semaphore(endpoint.concurrency)

    async def tries(client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[Reply, float]:
        """The last reply and its latency in milliseconds."""
        for attempt in range(endpoint.retries + 1):
            await pace.turn()
            start = time.perf_counter()
            reply = await _post(client, body, endpoint, secret)
            latency_ms = round((time.perf_counter() - start) * 1000, 1)
            if not reply.retry or reply.status in final or attempt == endpoint.retries:
                return reply, latency_ms
            if reply.wait_s is not None:
                pace.hold(reply.wait_s)  # it holds for all of us: one more request now would be refused as well
            await asyncio.sleep(max(reply.wait_s or 0.0, backoff(attempt, endpoint.backoff_s)))
        raise AssertionError("unreachable")

    async def ask(client: httpx.AsyncClient, key: str, request: Request) -> None:
        most = most_tokens(request.messages, endpoint.max_tokens)
        used = 0
        try:
            await budget.reserve(most)
            try:
                reply, latency_ms = await tries(client, body_of(endpoint, request))
                if reply.fatal:
                    raise UserError(reply.fatal)
                counts = (reply.prompt_tokens, reply.completion_tokens)
                text = unquote(reply.text, request.constraint) if endpoint.constrain else reply.text
                row = make_row(request.case, key, request.messages, reply.status, text, reply.reason, *counts, latency_ms)
                used = tokens(row)
                done(row)
                if endpoint.budget_tokens is not None and reply.status == OK and None in counts:
                    raise UserError(f"{url}: says nothing of tokens used, so endpoint.budget_tokens cannot be kept; remove it")
            finally:
                await budget.settle(most, used)
        finally:
            free.release()

    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    # A proxy from the environment never stands between this machine and itself. Time-outs are ours: httpx's start anew
    # with every byte, so a server that dribbles would never meet them.
    through_proxy = urlsplit(endpoint.base_url).hostname not in LOOPBACK
    try:
        async with httpx.AsyncClient(headers=headers, timeout=None, trust_env=through_proxy) as client:
            async with asyncio.TaskGroup() as group:
                for key, request in missing.items():
                    await free.acquire()  # before the task is made, so that there are never more tasks than requests under way
                    group.create_task(ask(client, key, request))
    except BaseExceptionGroup as e:
        raise e.exceptions[0] from None


async def _post(client: "httpx.AsyncClient", body: dict[str, Any], endpoint: Endpoint, secret: str) -> Reply:
    """One try. Every failure of the connection is a reply as well."""
    import httpx

    url = endpoint.url()
    try:
        async with asyncio.timeout(endpoint.timeout_s):
            response = await client.post(url, json=body)
    except TimeoutError:
        return Reply(TIMEOUT, reason=f"no answer within {endpoint.timeout_s:g} s", retry=True)
    except httpx.ConnectError as e:
        said = replies.shorten(str(e), secret)
        fatal = f"{url}: cannot connect ({said}); start the server or mend endpoint.base_url"
        return Reply(ERROR, reason=said, retry=True, fatal=fatal)
    except httpx.HTTPError as e:
        said = replies.shorten(f"{type(e).__name__}: {e}", secret)
        return Reply(ERROR, reason=f"connection lost ({said})", retry=True)
    return replies.read(response, endpoint, secret)
