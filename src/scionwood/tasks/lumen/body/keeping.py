"""An output that may be missing, fail, hang and come back: whatever happens, using it takes a bounded time and raises nothing."""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Protocol

from scionwood.tasks.lumen.sensing.guard import Helper

FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 300.0
PATIENCE_S = 1.0


class Output(Protocol):
    """What can be opened, used in its own way, and closed. Each of these may raise anything."""

    name: str

    def open(self) -> None: ...

    def close(self) -> None: ...


class Kept:
    """Keeps one output. ``do`` uses it where it can be used; where not, it is looked for again, each time after a longer wait.

    ``tell`` is given one line when the output is lost, and one when it is back. With ``hangs`` its work is done by a helping thread, for
    ``PATIENCE_S`` at most: hardware may keep a caller for ever.
    """

    def __init__(self, output: Output, tell: Callable[[str], None], hangs: bool = False, clock: Callable[[], float] = time.monotonic):
        self.output, self.tell, self.clock = output, tell, clock
        self.helper = Helper(output.name) if hangs else None
        self.opened, self.told, self.why = False, False, ""
        self.wait, self.next_look = FIRST_WAIT_S, -math.inf

    def do(self, use: Callable[[Any], Any]) -> Any:
        """What ``use(output)`` returns, or None where the output is lost."""
        if not self.opened and self.clock() < self.next_look:
            return None
        try:
            if not self.opened:
                self._call(self.output.open)
                self.opened = True
            result = self._call(lambda: use(self.output))
        except Exception as e:
            self._lost(e)
            return None
        if self.told:
            self.tell(f"{self.output.name}: back")
        self.told, self.why, self.wait = False, "", FIRST_WAIT_S
        return result

    def _call(self, function: Callable[[], Any]) -> Any:
        return self.helper.call(function, PATIENCE_S) if self.helper else function()

    def _lost(self, e: Exception) -> None:
        self.why = " ".join(str(e).split()) or type(e).__name__
        if not self.told:
            self.tell(f"{self.output.name}: not available ({self.why}); going on without")
        self.told = True
        if self.opened:
            self.opened = False
            self._quietly_close()
        self.next_look = self.clock() + self.wait
        self.wait = min(2 * self.wait, LONGEST_WAIT_S)

    def _quietly_close(self) -> None:
        try:
            self._call(self.output.close)
        except Exception:
            pass  # it is lost anyway

    def close(self) -> None:
        """Close the output, however it is."""
        if self.opened:
            self.opened = False
            self._quietly_close()
        if self.helper:
            self.helper.close()
