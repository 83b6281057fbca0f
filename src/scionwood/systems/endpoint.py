"""A chat endpoint as a system."""

from typing import Callable, Sequence

from scionwood.systems.base import Prediction, System
from scionwood.systems.recorded import from_row
from scionwood.task import Case, Task
from scionwood.teaching.endpoint import Endpoint, ask_all, requests_for
from scionwood.teaching.journal import OK, REFUSED, TIMEOUT, Journal

STANDING = (OK, TIMEOUT, REFUSED)


class EndpointSystem(System):
    """Asks an endpoint with the task's own messages, and under its constraint where ``endpoint.constrain`` is true.

    A time-out or a refusal stands at once and is never tried again: it is part of what is measured. With a journal an interrupted
    measurement goes on where it stopped; without one every ``predict`` asks anew. Latency includes the server's own queue,
    so measure it with ``concurrency = 1``. A UserError stops it where no case could be answered (no server, wrong key).
    """

    def __init__(
        self,
        task: Task,
        endpoint: Endpoint,
        journal: Journal | None = None,
        name: str | None = None,
        kind: str = "teacher",
        progress: Callable[[int], None] | None = None,
    ):
        self.task, self.endpoint, self.journal, self.progress = task, endpoint, journal, progress
        self.name, self.kind = name or endpoint.model, kind

    def predict(self, cases: Sequence[Case]) -> list[Prediction]:
        journal = self.journal if self.journal is not None else Journal(None)
        rows = ask_all(self.endpoint, requests_for(self.task, cases), journal, self.progress, STANDING)
        return [from_row(self.task, case, rows[case.id]) for case in cases]
