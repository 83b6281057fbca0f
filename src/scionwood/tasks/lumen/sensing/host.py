"""Counters of the machine itself through psutil, as shares and rates; temperature of the processor."""

from __future__ import annotations

from typing import Callable, Mapping

from scionwood.tasks.lumen.sensing.guard import Read

COUNTED = ("context_switches_s", "interrupts_s", "disk_busy_ms_s", "disk_bytes_s", "net_bytes_s")
CPU_SENSORS = ("cpu_thermal", "soc_thermal", "coretemp", "k10temp", "zenpower", "acpitz")  # a Pi's first


SHORTEST = 0.1  # seconds: over less, a rate is mostly chance


class Rates:
    """From counters that only grow to rates per second. A counter that went back (a reboot, an interface gone) has no rate that time."""

    def __init__(self):
        self.before: tuple[float, Mapping[str, float]] | None = None

    def next(self, t: float, counters: Mapping[str, float]) -> dict[str, float | None]:
        """Rates since the call before, by name; None at the first call and where nothing can be said. ``t`` in seconds."""
        before = self.before
        if before is not None and 0 <= t - before[0] < SHORTEST:
            return dict.fromkeys(counters)
        self.before = (t, dict(counters))
        if before is None or t < before[0]:
            return dict.fromkeys(counters)
        return {name: _rate(before[1].get(name), now, t - before[0]) for name, now in counters.items()}


def _rate(before: float | None, now: float, seconds: float) -> float | None:
    return None if before is None or now < before else (now - before) / seconds


def processor(clock: Callable[[], float]) -> Read:
    """Busy share of all cores since the call before; not known at the first."""
    import psutil

    psutil.cpu_percent(None)  # what it says first means nothing
    before = clock()

    def read() -> dict[str, float | None]:
        nonlocal before
        if clock() - before < SHORTEST:
            return {"cpu_pct": None}
        before = clock()
        return {"cpu_pct": psutil.cpu_percent(None)}

    return read


def memory() -> Read:
    """Share of memory that is not available."""
    import psutil

    def read() -> dict[str, float]:
        found = psutil.virtual_memory()
        return {"memory_pct": round(100 * (1 - found.available / found.total), 2)}

    return read


def disk_space(folder: str) -> Read:
    """Used share of the disk that holds a folder."""
    import psutil

    return lambda: {"disk_pct": psutil.disk_usage(folder).percent}


def temperature() -> Read:
    """Temperature of the processor, where the system tells it."""
    import psutil

    def read() -> dict[str, float]:
        found = getattr(psutil, "sensors_temperatures", dict)()
        for name in (*CPU_SENSORS, *found):
            for one in found.get(name, ()):
                if one.current:  # a sensor that is not fitted says 0
                    return {"cpu_temp_c": one.current}
        raise OSError("the system tells no temperature")

    return read


def rates_of(counters: Callable[[], Mapping[str, float]], clock: Callable[[], float]) -> Callable[[], Read]:
    """A source of rates from a source of counters."""

    def open() -> Read:
        rates = Rates()
        rates.next(clock(), counters())
        return lambda: rates.next(clock(), counters())

    return open


def kernel_counters() -> dict[str, float]:
    """Context switches and interrupts since the start of the system."""
    import psutil

    stats = psutil.cpu_stats()
    return {"context_switches_s": stats.ctx_switches, "interrupts_s": stats.interrupts}


def disk_counters() -> dict[str, float]:
    """Bytes moved and, where it is known, time in which disks were busy, since the start of the system."""
    import psutil

    io = psutil.disk_io_counters()
    if io is None:
        raise OSError("the system counts no disk traffic")
    busy = {"disk_busy_ms_s": io.busy_time} if hasattr(io, "busy_time") else {}
    return {"disk_bytes_s": io.read_bytes + io.write_bytes, **busy}


def net_counters() -> dict[str, float]:
    """Bytes received and sent since the start of the system, loopback left out."""
    import psutil

    cards = psutil.net_io_counters(pernic=True)
    return {"net_bytes_s": sum(c.bytes_recv + c.bytes_sent for name, c in cards.items() if name != "lo" and not name.startswith("lo0"))}
