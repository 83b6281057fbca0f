"""The server process: signals, draining, and the word to systemd that it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from typing import Callable

import uvicorn

from scionwood.errors import UserError
from scionwood.serving.app import build
from scionwood.serving.artifact import Artifact
from scionwood.serving.routes import routes_of
from scionwood.serving.settings import Serving, check_exposed
from scionwood.serving.refusals import where
from scionwood.serving.sidecar import Model, Sidecar
from scionwood.task import Task

log = logging.getLogger("scionwood.serving")
KEEP_ALIVE_SECONDS = 30


def serve_artifact(artifact: Artifact, task: Task, settings: Serving) -> None:
    """Serve an exported specialist."""
    from scionwood.serving.model import GgufModel

    serve(task, lambda: GgufModel(artifact, task, settings, prompts=len(routes_of(task))), settings)


def serve(task: Task, open_model: Callable[[], Model], settings: Serving) -> None:
    """Serve until SIGTERM or SIGINT, then answer what has come in and stop. Raises UserError where it cannot begin."""
    check_exposed(settings)
    set_up_logging()
    failures: list[BaseException] = []
    stop: list[Callable[[], None]] = []

    def fatal(error: BaseException) -> None:
        failures.append(error)
        for function in stop:
            function()

    listener = bind(settings)
    sidecar = Sidecar(task, open_model, settings, fatal)
    config = uvicorn.Config(build(sidecar), log_config=None, access_log=False, server_header=False, proxy_headers=False, ws="none",
                            timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=max(1, round(settings.drain_seconds)))
    server = Server(config, sidecar)
    stop.append(server.stop)
    host, port = listener.getsockname()[:2]
    log.info("listening on http://%s:%d (docs at /docs)", f"[{host}]" if ":" in host else host, port)
    try:
        asyncio.run(server.run_on(listener))
    finally:
        sidecar.close()
        listener.close()
    if failures:
        if isinstance(failures[0], UserError):
            raise failures[0]
        raise UserError(f"the model could not be started: {type(failures[0]).__name__} at {where(failures[0])}")


class Server(uvicorn.Server):
    """uvicorn, with our own handling of signals: the first drains, the second ends at once; a drained process ends with 0."""

    def __init__(self, config: uvicorn.Config, sidecar: Sidecar):
        super().__init__(config)
        self.sidecar = sidecar

    @contextlib.contextmanager
    def capture_signals(self):
        yield

    def stop(self) -> None:
        """Stop taking requests; called from any thread, and a second time to end at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.sidecar.stop()
        notify("STOPPING=1")

    async def run_on(self, listener: socket.socket) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        watch = asyncio.create_task(self.tell_when_ready())
        await self.serve(sockets=[listener])
        watch.cancel()

    async def tell_when_ready(self) -> None:
        while not self.sidecar.ready.is_set():
            await asyncio.sleep(0.05)
        notify("READY=1")


def bind(settings: Serving) -> socket.socket:
    """The listening socket, before anything else is begun."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as e:
        raise UserError(f"{settings.host}:{settings.port}: cannot listen there ({e.strerror}); choose another --host or --port") from None
    return listener


def notify(message: str) -> None:
    """Tell systemd (Type=notify), where it asked for it: one datagram to the socket that NOTIFY_SOCKET names (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)


def set_up_logging() -> None:
    """Our own lines on stderr. uvicorn's are left out: they name paths as they were asked for, which may hold anything."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours = logging.getLogger("scionwood")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(os.environ.get("SCION_LOG", "INFO").upper())
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
