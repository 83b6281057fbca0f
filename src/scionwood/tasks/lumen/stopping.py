"""A stop that a signal may ask for at any moment."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import threading
from typing import Iterator


class Stop:
    """Like ``threading.Event``, but ``set`` may be called from a signal's handler.

    An event's lock is not re-entrant: where the signal comes while the main thread is just inside ``wait``, ``set`` would wait for it
    for ever. Here it writes a byte to a pair of sockets, which nobody ever reads.
    """

    def __init__(self):
        self._heard, self._told = socket.socketpair()
        self._told.setblocking(False)

    def set(self) -> None:
        """Ask to stop."""
        with contextlib.suppress(BlockingIOError):  # asked for very often already
            self._told.send(b"x")

    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for so many seconds, or until a stop is asked for; returns whether it was."""
        return bool(select.select([self._heard], [], [], timeout)[0])

    def close(self) -> None:
        """Give the sockets back."""
        self._heard.close()
        self._told.close()


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """A stop that Ctrl-C and SIGTERM ask for while the block runs. Outside of the main thread, which hears no signals, a plain stop."""
    stop, before = Stop(), {}
    if threading.current_thread() is threading.main_thread():
        before = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
        stop.close()
