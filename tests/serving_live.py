"""A server on loopback around a sidecar whose model is a slow stand-in: for tests of everything but the model."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import uvicorn

from scionwood.serving.app import build
from scionwood.serving.server import Server, bind
from scionwood.serving.settings import Serving
from scionwood.serving.sidecar import Sidecar
from scionwood.systems.base import from_text
from scionwood.task import Choices, load_task


@dataclass
class SlowModel:
    """Answers with the first legal choice after so many seconds; ``held`` makes it wait until it is let go."""

    task: Any
    seconds: float = 0.0
    name: str = "slow"
    rev: str = "abc"
    created: int = 1
    held: threading.Event = field(default_factory=threading.Event)
    asked: list = field(default_factory=list)
    chatted: list = field(default_factory=list)
    before: Callable[[Any], None] = lambda case: None
    check: Callable[[Any], None] = lambda case: None

    def __post_init__(self):
        self.held.set()

    def answer(self, case):
        self.asked.append(case)
        self.before(case)
        time.sleep(self.seconds)
        self.held.wait(30)
        constraint = self.task.constraint(case)
        text = constraint.texts[0] if isinstance(constraint, Choices) else '{"n":1}'
        return from_text(self.task, case, text, latency_ms=self.seconds * 1000, confidence=0.5)

    def chat(self, messages, max_tokens, schema, deadline, drawing, endless, anew):
        from scionwood.serving.model import Chatted

        self.held.wait(30)
        self.chatted.append((drawing, endless, anew))
        return Chatted("{}" if schema else "good day", "stop", 3, 2)

    def warm(self, cases):
        self.warmed = list(cases)

    def close(self):
        pass


@dataclass
class Live:
    url: str
    sidecar: Sidecar
    model: SlowModel
    server: Server
    thread: threading.Thread


@contextlib.contextmanager
def live(folder: Path, task=None, model=None, open_model: Callable[[], Any] | None = None, **settings):
    """Serve until the block ends; the server drains then, as after SIGTERM. ``open_model`` gives the model, where that takes its time."""
    task = task or load_task("cerebellum")
    model = model or SlowModel(task)
    values = Serving(**({"port": 0, "state": folder / "state", "drain_seconds": 2} | settings))
    failures: list = []
    sidecar = Sidecar(task, open_model or (lambda: model), values, failures.append)
    listener = bind(values)
    config = uvicorn.Config(build(sidecar), log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=2)
    server = Server(config, sidecar)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    started = Live(f"http://127.0.0.1:{listener.getsockname()[1]}", sidecar, model, server, thread)
    try:
        until(lambda: server.started)  # a quick model is warm before anybody listens
        yield started
    finally:
        model.held.set()
        server.stop()
        thread.join(10)
        sidecar.close()
        listener.close()
    assert not failures


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until a condition holds; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
    return value
