"""Who waits for the model: callers within their deadline first, then the work of those who have gone."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Any, Callable, Sequence

SMOOTHING = 0.1  # weight of the newest step in the mean time of a step


class Job:
    """Steps for the model, done one after the other. ``future`` gives the list of what they returned.

    While a job that is ``alone`` runs, nothing else is begun.
    """

    def __init__(self, steps: Sequence[Callable[[], Any]], late: bool = False, alone: bool = False):
        self.steps, self.late, self.alone = deque(steps), late, alone
        self.done: list[Any] = []
        self.future: Future = Future()
        self.future.set_running_or_notify_cancel()  # so that nobody who waits for it can cancel it: ``Line.drop`` is for that


class Line:
    """Worker threads over two queues. A late job gives way after each of its steps; a step that runs is never broken off."""

    def __init__(self, workers: int = 1):
        self.live: deque[Job] = deque()
        self.late: deque[Job] = deque()
        self.running: set[Job] = set()
        self.changed = threading.Condition()
        self.closed, self.hurried = False, False
        self.mean_seconds = 0.0
        self.threads = [threading.Thread(target=self._work, name=f"model-{n}", daemon=True) for n in range(workers)]
        for thread in self.threads:
            thread.start()

    def submit(self, steps: Sequence[Callable[[], Any]], late: bool = False, alone: bool = False) -> Job:
        """Stand in line. Raises RuntimeError once the line is closed."""
        job = Job(steps, late, alone)
        with self.changed:
            if self.closed:
                raise RuntimeError("the line is closed")
            (self.late if late else self.live).append(job)
            self.changed.notify()
        return job

    def give_way(self, job: Job) -> bool:
        """The job's caller has gone: from now on it runs when nobody else waits. False where it is done already."""
        with self.changed:
            if job.future.done():
                return False
            job.late = True
            if job in self.live:
                self.live.remove(job)
                self.late.append(job)
            return True

    def drop(self, job: Job) -> None:
        """Nobody wants the job's result: what has not begun does not begin."""
        with self.changed:
            for queue in (self.live, self.late):
                if job in queue:
                    queue.remove(job)
            job.steps.clear()

    def waiting(self) -> int:
        """Callers within their deadline, the one being served among them."""
        with self.changed:
            return len(self.live) + sum(not job.late for job in self.running)

    def expected_seconds(self) -> float:
        """How long a newcomer would stand in line, from the mean time of a step."""
        with self.changed:
            steps = sum(len(job.steps) for job in self.live) + len(self.running)
        return steps * self.mean_seconds / len(self.threads)

    def close(self, seconds: float) -> bool:
        """Work off what stands in line for so many seconds at most, then stop. Returns whether all was done."""
        until = time.monotonic() + seconds
        with self.changed:
            while self._under_way() and not self.hurried and (left := until - time.monotonic()) > 0:
                self.changed.wait(left)
            drained = not (self.live or self.late or self.running)
            self.closed = True
            self.changed.notify_all()
        return drained

    def _under_way(self) -> bool:
        """Whether there is something to wait for: in a closed line, only what runs."""
        return bool(self.running or (not self.closed and (self.live or self.late)))

    def hurry(self) -> None:
        """Let ``close`` wait for nothing any more."""
        with self.changed:
            self.hurried = True
            self.changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the step that runs; returns whether the threads have ended. What they use must not be taken away before."""
        until = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            failure = None
            try:
                if job.steps:
                    begin = time.perf_counter()
                    job.done.append(job.steps.popleft()())
                    seconds = time.perf_counter() - begin
                    self.mean_seconds += (seconds - self.mean_seconds) * (SMOOTHING if self.mean_seconds else 1.0)
            except BaseException as e:  # the thread must live on, whatever a step does
                failure = e
            self._put_back(job, failure)

    def _next(self) -> Job | None:
        with self.changed:
            while not (self.closed or self.live or self.late) or (any(job.alone for job in self.running) and not self.closed):
                self.changed.wait()
            if self.closed:
                return None
            job = (self.live or self.late).popleft()
            self.running.add(job)
            return job

    def _put_back(self, job: Job, failure: BaseException | None) -> None:
        with self.changed:
            over = failure is not None or not job.steps
            if not over:
                (self.late if job.late else self.live).appendleft(job)
        if over:  # outside the lock: whoever hears of it may look at the line
            job.future.set_exception(failure) if failure else job.future.set_result(job.done)
        with self.changed:
            self.running.discard(job)
            self.changed.notify_all()
