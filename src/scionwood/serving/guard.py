"""The door of the server: who may come in, what is counted, and what is logged of a request (its route, status and time, no more)."""

from __future__ import annotations

import hmac
import logging
import time

from starlette.datastructures import Headers

from scionwood.serving.metrics import Metrics
from scionwood.serving.refusals import error_response, where
from scionwood.serving.settings import Serving, is_loopback

log = logging.getLogger("scionwood.serving")
OPEN = {"/healthz", "/readyz"}  # for probes, which carry no key


class Guard:
    """Wraps the application. Without an API key only hosts that name this machine are answered.

    That check keeps out web pages whose name was made to point at 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, app, settings: Serving, metrics: Metrics):
        self.app, self.metrics = app, metrics
        self.open, self.max_open = 0, settings.max_open
        self.key = settings.api_key.get_secret_value().encode() if settings.api_key else None

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no websockets here
        begin, status = time.perf_counter(), []

        async def counting(message) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
            await send(message)

        self.open += 1
        try:
            refused = self.refuse(scope)
            await (refused or self.app)(scope, receive, counting)
        except Exception as e:  # the last resort; a traceback would show the text in its message
            log.error("a request failed: %s at %s", type(e).__name__, where(e))
            if not status:
                await error_response(500, "the server failed; its log says where")(scope, receive, counting)
        finally:
            self.open -= 1
            # the route as it is declared: a path as it was asked for may hold anything
            route = getattr(scope.get("route"), "path", "(none)")
            seconds = time.perf_counter() - begin
            code = status[0] if status else 0  # 0: the caller hung up
            self.metrics.requests.labels(route, str(code)).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            log.debug("%s %s %d %.1f ms", scope["method"] if scope["method"].isalpha() else "?", route, code, seconds * 1000)

    def refuse(self, scope):
        """The response of a request that does not come in, or None. All of this runs on the event loop, so counting needs no lock."""
        if self.open > self.max_open and scope["path"] not in OPEN:
            return error_response(429, f"{self.max_open} requests are open already", {"Retry-After": "1", "Connection": "close"})
        headers = Headers(scope=scope)
        if self.key is None:
            host = headers.get("host", "")
            name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
            if not is_loopback(name):
                return error_response(403, "this server answers to names of this machine only, such as 127.0.0.1")
        elif scope["path"] not in OPEN:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1", "replace"), self.key):
                return error_response(401, "send the API key as: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
        return None
