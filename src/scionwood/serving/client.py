"""A client of the sidecar, sync and async, with retries. Needs httpx and nothing else: no torch, no transformers.

    from scionwood.serving.client import Client

    with Client() as scion:
        scion.wait_ready()
        print(scion.memorize("never descale the kettle with vinegar"))
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Sequence

import httpx

from scionwood.teaching.pacing import backoff, retry_after

URL = "http://127.0.0.1:8765"
FIRST_WAIT = 0.1  # seconds; doubled with every try
AGAIN = {408, 429, 502, 503, 504}


class ServerError(Exception):
    """The server refused a request, or could not be reached (``status`` 0). The message is the server's own line."""

    def __init__(self, status: int, message: str):
        super().__init__(f"{status}: {message}" if status else message)
        self.status, self.message = status, message


class _Calls:
    """The calls that both clients know; each goes through ``_call``, which the async client turns into a coroutine.

    ``deadline_ms`` is how long the server may take before it answers with the safe default (``degraded`` true, and ``result_id``
    where the late answer will be). Asking again does no harm: answers change nothing on the server.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None, timeout: float = 30.0, retries: int = 4):
        """``timeout``: seconds for one try. ``url`` and ``api_key`` default to SCION_URL and SCION_API_KEY."""
        self.retries, self.timeout = retries, timeout
        key = api_key or os.environ.get("SCION_API_KEY")
        self.options = {"base_url": url or os.environ.get("SCION_URL", URL), "timeout": timeout,
                        "headers": {"Authorization": f"Bearer {key}"} if key else {}, "trust_env": False}

    def _call(self, method: str, path: str, body: Any = None, deadline_ms: int | None = None) -> Any:
        raise NotImplementedError

    def ask(self, route: str, body: dict[str, Any], deadline_ms: int | None = None) -> Any:
        """Any typed route of the task: POST /v1/ROUTE."""
        return self._call("POST", f"/v1/{route}", body, deadline_ms)

    def classify(self, text: str, deadline_ms: int | None = None, **more: Any) -> Any:
        """What a message wants from the memory. ``more``: previous, lang_hint, now, source, request_id."""
        return self.ask("classify", {"text": text, **more}, deadline_ms)

    def memorize(self, text: str, deadline_ms: int | None = None, **more: Any) -> Any:
        """Whether a text is worth keeping, and what it is."""
        return self.ask("memorize", {"text": text, **more}, deadline_ms)

    def arbitrate(self, new: str | dict[str, Any], candidates: Sequence[str | dict[str, Any]],
                  deadline_ms: int | None = None, **more: Any) -> Any:
        """How a new fact stands to stored memories."""
        return self.ask("arbitrate", {"new": new, "candidates": list(candidates), **more}, deadline_ms)

    def chat(self, messages: Sequence[dict[str, str]], deadline_ms: int | None = None, **more: Any) -> Any:
        """A chat completion. ``more``: max_tokens, response_format, temperature, top_p, min_p, seed, ignore_eos."""
        return self._call("POST", "/v1/chat/completions", {"messages": list(messages), **more}, deadline_ms)

    def models(self) -> Any:
        """What is served."""
        return self._call("GET", "/v1/models")

    def result(self, result_id: str) -> Any:
        """A late answer as it stands: {"state": "pending" | "done" | "lost", "response": ...}."""
        return self._call("GET", f"/v1/results/{result_id}")

    def _headers(self, deadline_ms: int | None) -> dict[str, str]:
        return {"X-Deadline-Ms": str(deadline_ms)} if deadline_ms is not None else {}

    def _wait_before(self, attempt: int, response: httpx.Response | None) -> float | None:
        """Seconds until the next try; None where the last one stands."""
        if attempt >= self.retries or (response is not None and response.status_code not in AGAIN):
            return None
        asked = retry_after(response.headers.get("retry-after")) if response is not None else None
        return max(asked or 0.0, backoff(attempt, FIRST_WAIT))


def _value(response: httpx.Response | None, error: Exception | None) -> Any:
    """The decoded body, or what is wrong as a ServerError."""
    if response is None:
        raise ServerError(0, f"the server cannot be reached ({type(error).__name__}: {error})") from error
    try:
        value = response.json()
    except ValueError:
        raise ServerError(response.status_code, "not the answer of a scionwood server") from None
    if response.is_success:
        return value
    detail = value.get("error") if isinstance(value, dict) else None
    raise ServerError(response.status_code, detail.get("message", "") if isinstance(detail, dict) else "no reason given")


class Client(_Calls):
    """The client for programs without an event loop. Use it as a context manager, or close it."""

    def __init__(self, *args: Any, **kw: Any):
        super().__init__(*args, **kw)
        self.http = httpx.Client(**self.options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def _call(self, method: str, path: str, body: Any = None, deadline_ms: int | None = None) -> Any:
        attempt = 0
        while True:
            response, error = None, None
            try:
                response = self.http.request(method, path, json=body, headers=self._headers(deadline_ms))
            except httpx.TransportError as e:
                error = e
            wait = self._wait_before(attempt, response)
            if wait is None or (response is not None and response.is_success):
                return _value(response, error)
            time.sleep(wait)
            attempt += 1

    def ready(self) -> bool:
        """Whether the server is there, warm and not stopping."""
        try:
            return self.http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Wait until the server is ready. Raises ServerError where it is not in time."""
        until = time.monotonic() + seconds
        while not self.ready():
            if time.monotonic() > until:
                raise ServerError(0, f"the server was not ready within {seconds:g} s")
            time.sleep(0.05)

    def wait_result(self, result_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """The late answer, once it is there. Raises ServerError where it is lost, or not there in time."""
        until = time.monotonic() + seconds
        while (response := _arrived(self.result(result_id))) is None:
            if time.monotonic() > until:
                raise ServerError(0, f"result {result_id} was not there within {seconds:g} s")
            time.sleep(0.05)
        return response


class AsyncClient(_Calls):
    """The same calls as coroutines."""

    def __init__(self, *args: Any, **kw: Any):
        super().__init__(*args, **kw)
        self.http = httpx.AsyncClient(**self.options)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self.http.aclose()

    async def _call(self, method: str, path: str, body: Any = None, deadline_ms: int | None = None) -> Any:
        attempt = 0
        while True:
            response, error = None, None
            try:
                response = await self.http.request(method, path, json=body, headers=self._headers(deadline_ms))
            except httpx.TransportError as e:
                error = e
            wait = self._wait_before(attempt, response)
            if wait is None or (response is not None and response.is_success):
                return _value(response, error)
            await asyncio.sleep(wait)
            attempt += 1

    async def ready(self) -> bool:
        """Whether the server is there, warm and not stopping."""
        try:
            return (await self.http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    async def wait_ready(self, seconds: float = 60.0) -> None:
        """Wait until the server is ready. Raises ServerError where it is not in time."""
        until = time.monotonic() + seconds
        while not await self.ready():
            if time.monotonic() > until:
                raise ServerError(0, f"the server was not ready within {seconds:g} s")
            await asyncio.sleep(0.05)

    async def wait_result(self, result_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """The late answer, once it is there. Raises ServerError where it is lost, or not there in time."""
        until = time.monotonic() + seconds
        while (response := _arrived(await self.result(result_id))) is None:
            if time.monotonic() > until:
                raise ServerError(0, f"result {result_id} was not there within {seconds:g} s")
            await asyncio.sleep(0.05)
        return response


def _arrived(result: dict[str, Any]) -> dict[str, Any] | None:
    """The response of a result that is done. Raises ServerError for one that is lost."""
    if result["state"] == "lost":
        raise ServerError(0, f"result {result['id']} is lost: the request held a secret and the server was started anew; ask again")
    return result["response"] if result["state"] == "done" else None
