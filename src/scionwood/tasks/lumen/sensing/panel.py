"""All sensors of a body as one panel: every tick one reading, whatever is there, works or hangs."""

from __future__ import annotations

import time
from typing import Callable

from scionwood.tasks.lumen.sensing import chips, host
from scionwood.tasks.lumen.sensing.guard import Guarded, Helper
from scionwood.tasks.lumen.sensing.readings import Reading, reading
from scionwood.tasks.lumen.sensing.settings import Sensing


class Panel:
    """Readings of this machine. Where two sensors measure the same, the first in ``sources`` that answers counts.

    ``bus`` opens the I2C bus, ``clock`` never goes back, ``now`` is the time of day; tests give their own.
    """

    def __init__(self, table: Sensing | None = None, bus: Callable = chips.board_bus, clock: Callable[[], float] = time.monotonic,
                 now: Callable[[], float] = time.time):
        self.table = table or Sensing()
        self.clock, self.now = clock, now
        self.sources = _sources(self.table, bus, clock)
        self.helpers = {name: Helper(name) for name in ("i2c", "host")}  # a hanging bus must not stop the host's counters

    def read(self) -> Reading:
        """One reading. Takes at most the patience of the table for each source that hangs for the first time."""
        t, values, reasons = self.now(), {}, {}
        for kind, source in self.sources:
            helper = self.helpers[kind]
            got, why = source.ask(self.clock(), lambda f: helper.call(f, self.table.patience_s))
            for name in source.fields:
                if values.get(name) is None:
                    values[name] = got[name]
                    if got[name] is None:
                        reasons[name] = f"{reasons[name]}; {why[name]}" if name in reasons else why[name]
        switched_off = {name: "switched off" for kind, names in (("host", _host_fields()), ("i2c", tuple(chips.LIMITS)))
                        for name in names if name not in values}
        return reading(t, values, {**switched_off, **reasons})

    def close(self) -> None:
        """End the helping threads."""
        for helper in self.helpers.values():
            helper.close()


def _host_fields() -> tuple[str, ...]:
    return ("cpu_temp_c", "cpu_pct", "memory_pct", "disk_pct", *host.COUNTED)


def _sources(table: Sensing, bus: Callable, clock: Callable[[], float]) -> list[tuple[str, Guarded]]:
    """The sources that are switched on, the better one first where two measure the same."""
    waits = dict(failures=table.failures, first_wait=table.first_wait_s, longest_wait=table.longest_wait_s)
    on_bus = [
        (table.aht20, "AHT20", ("ambient_temp_c", "humidity_pct"), lambda: chips.aht20(bus)),
        (table.barometer, "BME280/BMP280", ("ambient_temp_c", "humidity_pct", "pressure_hpa"), lambda: chips.barometer(bus)),
        (table.veml7700, "VEML7700", ("light_lux",), lambda: chips.veml7700(bus, table.light_new)),
    ]
    on_host = [
        ("processor", ("cpu_pct",), lambda: host.processor(clock)),
        ("memory", ("memory_pct",), host.memory),
        ("disk space", ("disk_pct",), lambda: host.disk_space(table.disk)),
        ("temperature", ("cpu_temp_c",), host.temperature),
        ("kernel counters", ("context_switches_s", "interrupts_s"), host.rates_of(host.kernel_counters, clock)),
        ("disk counters", ("disk_busy_ms_s", "disk_bytes_s"), host.rates_of(host.disk_counters, clock)),
        ("network counters", ("net_bytes_s",), host.rates_of(host.net_counters, clock)),
    ]
    return [("i2c", Guarded(name, fields, open, limits=chips.LIMITS, **waits)) for on, name, fields, open in on_bus if on] + \
        [("host", Guarded(name, fields, open, **waits)) for name, fields, open in on_host if table.host]
