"""Which of an engine's caches a prompt goes to: prefixes that were warmed keep their own, everybody else shares the rest."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Iterator, Sequence


class Slots:
    """A number of caches, each used by one request at a time. A warmed prefix keeps its slot until a newer one needs it."""

    def __init__(self, count: int):
        self.kept: list[tuple[int, ...]] = [()] * count  # what each slot was warmed with
        self.read: list[Sequence[int]] = [()] * count  # what each slot holds
        self.age = [0] * count  # when each prefix was warmed
        self.busy = [False] * count
        self.closed = False
        self.changed = threading.Condition()

    def keep(self, prefix: Sequence[int]) -> None:
        """Set a slot aside for prompts that begin with ``prefix``: one that keeps nothing yet, else the oldest."""
        with self.changed:
            slot = min(range(len(self.kept)), key=lambda i: (bool(self.kept[i]), self.age[i], i))
            self.kept[slot], self.age[slot] = tuple(prefix), max(self.age) + 1

    def _candidates(self, prompt: Sequence[int]) -> list[int]:
        """The slots that a prompt may use: those of its longest warmed prefix, else those that keep none, else all."""
        fitting = {i: len(kept) for i, kept in enumerate(self.kept) if kept and tuple(prompt[: len(kept)]) == kept}
        if fitting:
            return [i for i, n in fitting.items() if n == max(fitting.values())]
        return [i for i, kept in enumerate(self.kept) if not kept] or list(range(len(self.kept)))

    @contextlib.contextmanager
    def taken(self, prompt: Sequence[int], deadline: float | None = None) -> Iterator[int]:
        """Hold the slot that has read most of ``prompt`` already. Raises TimeoutError past ``deadline`` (``time.monotonic()``)."""
        with self.changed:
            candidates = self._candidates(prompt)
            while not (free := [i for i in candidates if not self.busy[i]]) and not self.closed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError("no slot became free before the deadline")
                self.changed.wait(left)
            if self.closed:
                raise RuntimeError("the engine is closed")
            slot = max(free, key=lambda i: common_length(self.read[i], prompt))
            self.busy[slot] = True
        try:
            yield slot
        finally:
            with self.changed:
                self.busy[slot] = False
                self.read[slot] = prompt
                self.changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more and wait until all slots are free."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            while any(self.busy):
                self.changed.wait()


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginnings."""
    return next((k for k, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
