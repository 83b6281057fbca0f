"""What the routes of one server share: the model's line, the durable queue, the counters, and whether it is ready."""

from __future__ import annotations

import logging
import math
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import Any, Callable, Protocol, Sequence

from scionwood.errors import UserError
from scionwood.models.sampling import Drawing
from scionwood.serving.line import Job, Line
from scionwood.serving.metrics import Metrics
from scionwood.serving.refusals import Refused, where
from scionwood.serving.results import MOST_TRIES, Results, Unfinished
from scionwood.serving.routes import Route, routes_of
from scionwood.serving.settings import Serving
from scionwood.systems.base import ERROR, TIMEOUT, Prediction, gated
from scionwood.task import Case, Task

log = logging.getLogger("scionwood.serving")
PURGE_SECONDS = 600


class Model(Protocol):
    """What answers: the exported file in this process. Called from the threads of the line alone, but for ``check``."""

    name: str
    rev: str

    def check(self, case: Case) -> None: ...

    def answer(self, case: Case) -> Prediction: ...

    def chat(self, messages: list[dict[str, str]], max_tokens: int, schema: dict | None, deadline: float | None,
             drawing: Drawing, endless: bool, anew: bool) -> Any: ...

    def warm(self, cases: Sequence[Case]) -> None: ...

    def close(self) -> None: ...


class Sidecar:
    """One task, one model. ``open_model`` is called in the background, so that the server answers probes while it loads."""

    def __init__(self, task: Task, open_model: Callable[[], Model], settings: Serving, fatal: Callable[[BaseException], None]):
        self.task, self.open_model, self.settings, self.fatal = task, open_model, settings, fatal
        self.routes: dict[str, Route] = {r.name: r for r in routes_of(task)}
        self.results = Results(settings.state, settings.keep_hours)
        self.left = self.results.unfinished()  # of an earlier process; this one's own requests are in the line
        self.line = Line(settings.parallel)
        self.ready, self.draining = threading.Event(), threading.Event()
        self.model: Model | None = None
        self.until: float | None = None  # when draining ends, on the clock of time.monotonic()
        self.metrics = Metrics(self.line.waiting, lambda: self.results.waiting, self.is_ready)

    # -- from start to end ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the model, complete what an earlier process left, and get warm: all behind the server's back."""
        first = self.line.submit([self._prepare], alone=True)  # here and now, so that no request is before it
        threading.Thread(target=self._start, args=(first,), name="start", daemon=True).start()
        threading.Thread(target=self._keep_house, name="house", daemon=True).start()

    def _start(self, preparing: Job) -> None:
        begin = time.perf_counter()
        try:
            preparing.future.result()
        except BaseException as e:
            if not self.draining.is_set():
                self.fatal(e)
            return
        self.ready.set()
        log.info("ready after %.2f s: %s, revision %s, routes %s", time.perf_counter() - begin, self.model.name, self.model.rev,
                 ", ".join(f"/v1/{name}" for name in self.routes))
        left, self.left = self.left, []
        if left:
            log.info("completing %d late answers of an earlier process", len(left))
        for entry in left:
            self._resume(entry)

    def _prepare(self) -> None:
        """Load and warm. Where that fails, nobody in line is answered: what was promised waits for a start that succeeds."""
        try:
            self.model = self.open_model()
            self.metrics.info.info({"name": self.model.name, "revision": self.model.rev, "task": self.task.name})
            self._warm()
        except BaseException:
            self.line.close(0)
            raise

    def _warm(self) -> None:
        """Every prompt into the cache, then each route's example through everything that a request goes through."""
        cases = {name: route.cases(route.read(route.example), "warm") for name, route in self.routes.items() if route.example}
        self.model.warm([c for own in cases.values() for c in own[:1]])
        for name, own in cases.items():
            for case in own:
                p = self.answer(name, case)
                if p.status == ERROR:
                    raise UserError(f"warm-up: the example of /v1/{name} cannot be answered ({p.reason})")

    def is_ready(self) -> bool:
        return self.ready.is_set() and not self.draining.is_set()

    def _keep_house(self) -> None:
        while not self.draining.wait(PURGE_SECONDS):
            try:
                self.results.purge()
            except Exception as e:  # a full disk above all: the next time it may have room again
                log.error("old late answers could not be removed: %s", type(e).__name__)

    def stop(self) -> None:
        """Begin to drain: ``drain_seconds`` from now are left for what is under way. A second time: nothing is waited for any more."""
        if self.until is None:
            self.until = time.monotonic() + self.settings.drain_seconds
        else:
            self.line.hurry()
        self.draining.set()

    def close(self) -> None:
        """Work off the line for what is left of ``drain_seconds``; what is left of it is in the queue, for the next start."""
        if self.until is None:
            self.stop()
        if not self.line.close(self.until - time.monotonic()):
            log.info("%d late answers are left for the next start", self.results.waiting)
        if self.line.join(0.0 if self.line.hurried else 5.0) and self.model is not None:
            self.model.close()
        self.results.close()

    # -- answering --------------------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Raises Refused (429) where the line is full."""
        if self.line.waiting() >= self.settings.max_waiting:
            seconds = max(1, math.ceil(self.line.expected_seconds()))
            raise Refused(429, f"{self.settings.max_waiting} callers wait already", {"Retry-After": str(seconds)})
        if self.results.waiting >= self.settings.max_late:
            raise Refused(429, f"{self.settings.max_late} late answers are still to come", {"Retry-After": "5"})

    def by_rule(self, cases: Sequence[Case]) -> list[Prediction | None]:
        """What the task's gate answers, without the model."""
        return [gated(self.task, case) for case in cases]

    def check(self, cases: Sequence[Case]) -> None:
        """Raises UserError where a case is too long for the model. While it loads nothing is known; then ``answer`` tells."""
        if self.model is not None:
            for case in cases:
                self.model.check(case)

    def steps(self, route: str, cases: Sequence[Case]) -> list[Callable[[], Prediction]]:
        return [partial(self.answer, route, case) for case in cases]

    def answer(self, route: str, case: Case) -> Prediction:
        """One case, by the model. A failure is a prediction with a status, and its message is not shown: it may hold the text."""
        try:
            with self.metrics.model.labels(route).time():
                return self.model.answer(case)
        except UserError as e:
            return Prediction(case.id, status=ERROR, reason=str(e))
        except Exception as e:
            log.error("the model failed on a case of /v1/%s: %s at %s", route, type(e).__name__, where(e))
            return Prediction(case.id, status=ERROR, reason=f"the model failed ({type(e).__name__})")

    def response(self, route: Route, asked: Any, cases: Sequence[Case], given: Sequence[Prediction | None],
                 answered: Sequence[Prediction] | None, waited_ms: float = 0.0) -> dict[str, Any]:
        """The response from what the gate and the model said; without ``answered`` it is the safe default."""
        if answered is None:
            share = waited_ms / max(1, sum(g is None for g in given))
            answered = [Prediction(c.id, status=TIMEOUT, latency_ms=share, reason=f"no answer within {waited_ms:.0f} ms")
                        for c, g in zip(cases, given) if g is None]
        model = iter(answered)
        response = route.respond(asked, [g or next(model) for g in given], self.model.rev if self.model else "")
        self.metrics.answers.labels(route.name, response.get("status", "")).inc()
        if response.get("degraded"):
            self.metrics.degraded.labels(route.name).inc()
        return response

    # -- late answers -----------------------------------------------------------------------------------------------------

    def finish_late(self, id: str, route: Route, asked: Any, cases, given, future: Future) -> None:
        """The answer whose caller has gone: into the queue."""
        try:
            response = self.response(route, asked, cases, given, future.result()) | {"result_id": id}
        except Exception as e:
            log.error("a late answer of /v1/%s failed: %s at %s", route.name, type(e).__name__, where(e))
            response = failed(self, route.name, f"the answer failed ({type(e).__name__})", id)
        self._finish(id, route.name, response)

    def _finish(self, id: str, route: str, response: dict[str, Any]) -> None:
        try:
            self.results.finish(id, response)
            self.metrics.late.labels(route).inc()
        except Exception as e:  # a full disk: the request is still in the file, and is completed at the next start
            log.error("a late answer could not be written: %s", type(e).__name__)

    def _resume(self, entry: Unfinished) -> None:
        route = self.routes.get(entry.route)
        try:
            if route is None:
                raise UserError(f"this server has no route /v1/{entry.route}")
            if entry.tries >= MOST_TRIES:
                raise UserError(f"given up: the process ended {MOST_TRIES} times while the answer was under way")
            asked = route.read(entry.request)
            cases = route.cases(asked, "r")
        except UserError as e:
            self._finish(entry.id, entry.route, failed(self, entry.route, str(e), entry.id))
            return
        given = self.by_rule(cases)
        steps = self.steps(route.name, [c for c, g in zip(cases, given) if g is None])
        steps[:1] = [partial(self._begun, entry.id, step) for step in steps[:1]]
        try:
            job = self.line.submit(steps, late=True)
        except RuntimeError:  # draining already
            return
        job.future.add_done_callback(partial(self.finish_late, entry.id, route, asked, cases, given))

    def _begun(self, id: str, step: Callable[[], Prediction]) -> Prediction:
        """The first step of a request of an earlier process. It is counted before it is done: it may be what brought that one down."""
        try:
            self.results.begin(id)
        except Exception as e:  # a full disk
            log.error("a try could not be counted: %s", type(e).__name__)
        return step()


def failed(sidecar: Sidecar, route: str, reason: str, id: str) -> dict[str, Any]:
    """What stands in the queue for a request that cannot be completed."""
    return {"status": ERROR, "degraded": True, "confidence": None, "latency_ms": 0.0,
            "model_rev": sidecar.model.rev if sidecar.model else "", "reason": reason, "result_id": id}
