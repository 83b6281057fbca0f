"""A sensor that may be missing, fail, hang and come back: whatever happens, asking it takes a bounded time and raises nothing."""

from __future__ import annotations

import math
import queue
import threading
from typing import Any, Callable, Mapping

Read = Callable[[], Mapping[str, "float | None"]]  # a value that is None is not known this time


class Helper:
    """One thread that makes calls for others, who wait for so long and no longer.

    A driver that waits for a chip for ever (some do) then costs a thread, not the loop. While it hangs, every call fails at once.
    """

    def __init__(self, name: str):
        self.name = name
        self.jobs: queue.Queue = queue.Queue()
        self.stuck: threading.Event | None = None  # set when the call that overran has come back
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (job := self.jobs.get()) is not None:
            function, answer, done = job
            try:
                answer.append((function(), None))
            except Exception as e:  # whatever a driver raises is an answer too
                answer.append((None, e))
            done.set()

    def call(self, function: Callable[[], Any], seconds: float) -> Any:
        """What the function returns or raises; TimeoutError where that takes too long, or an earlier call has still not come back."""
        if self.stuck and not self.stuck.is_set():
            raise TimeoutError("an earlier look has not come back yet")
        answer: list = []
        done = threading.Event()
        self.jobs.put((function, answer, done))
        if not done.wait(seconds):
            self.stuck = done
            raise TimeoutError(f"no answer within {seconds:g} s")
        value, error = answer[0]
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """End the thread once its work is done."""
        self.jobs.put(None)


class Guarded:
    """One source of readings. ``open`` sets it up and returns what reads it; both may raise anything."""

    def __init__(self, name: str, fields: tuple[str, ...], open: Callable[[], Read], *, failures: int = 3, first_wait: float = 10.0,
                 longest_wait: float = 300.0, limits: Mapping[str, tuple[float, float]] | None = None):
        self.name, self.fields, self._open = name, fields, open
        self.failures, self.first_wait, self.longest_wait = failures, first_wait, longest_wait
        self.limits = limits or {}
        self._read: Read | None = None
        self._failed = 0
        self._wait = first_wait
        self.next_look = -math.inf  # on the clock that ``ask`` is given
        self.why = ""

    def ask(self, now: float, call: Callable[[Callable[[], Any]], Any] = lambda f: f()) -> tuple[dict[str, float | None], dict[str, str]]:
        """Values and, for each that is None, a reason. ``now``: seconds on a clock that never goes back. ``call`` runs driver code."""
        if self._read is None and now < self.next_look:
            return self._nothing()
        try:
            if self._read is None:
                self._read = call(self._open)
            values = dict(call(self._read))
        except Exception as e:
            self._lost(now, e)
            return self._nothing()
        self._failed, self._wait = 0, self.first_wait
        return self._checked(values)

    def _lost(self, now: float, e: Exception) -> None:
        """Count a failure; after enough of them, or where setting up failed, wait before looking again, each time for longer."""
        self.why = f"{self.name}: {_plain(e)}"
        self._failed += 1
        if self._read is None or self._failed >= self.failures:
            self._read = None
            self._failed = 0
            self.next_look = now + self._wait
            self._wait = min(2 * self._wait, self.longest_wait)

    def _nothing(self) -> tuple[dict[str, float | None], dict[str, str]]:
        return dict.fromkeys(self.fields), dict.fromkeys(self.fields, self.why)

    def _checked(self, values: dict[str, float | None]) -> tuple[dict[str, float | None], dict[str, str]]:
        """Drop what no such sensor can measure: a disturbed bus can give any number."""
        reasons = {}
        for name in self.fields:
            value = values.setdefault(name, None)
            low, high = self.limits.get(name, (-math.inf, math.inf))
            if value is None:
                reasons[name] = f"{self.name}: not known"
            elif not (low <= value <= high and math.isfinite(value)):
                values[name] = None
                reasons[name] = f"{self.name}: outside of {low:g} to {high:g}"
        return values, reasons


def _plain(e: Exception) -> str:
    """An exception in one line; drivers write several, and some write none."""
    text = " ".join(str(e).split())
    return text or type(e).__name__
