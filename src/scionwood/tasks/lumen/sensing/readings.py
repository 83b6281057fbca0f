"""One reading of everything that can be sensed: values in fixed units, and a reason for each that is missing."""

from __future__ import annotations

from dataclasses import dataclass, field

# Every quantity with its unit. Counters of the host are rates, so that a reading stands by itself.
FIELDS = {
    "cpu_temp_c": "temperature of the processor, degrees Celsius",
    "ambient_temp_c": "temperature of the air, degrees Celsius",
    "humidity_pct": "relative humidity, percent",
    "pressure_hpa": "air pressure where the sensor is, hPa",
    "light_lux": "light, lux, smoothed",
    "cpu_pct": "share of processor time that was busy, all cores, percent",
    "memory_pct": "share of memory that is not available, percent",
    "disk_pct": "share of the disk that is used, percent",
    "context_switches_s": "context switches per second",
    "interrupts_s": "interrupts per second",
    "disk_busy_ms_s": "milliseconds per second in which disks were busy, summed over disks",
    "disk_bytes_s": "bytes read and written per second",
    "net_bytes_s": "bytes received and sent per second, loopback left out",
}
ENVIRONMENT = ("cpu_temp_c", "ambient_temp_c", "humidity_pct", "light_lux", "pressure_hpa")  # whose presence the state counts


@dataclass(frozen=True)
class Reading:
    """What was sensed at time ``t`` (seconds since 1970). ``values`` holds all FIELDS; where one is None, ``reasons`` says why."""

    t: float
    values: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float | None:
        return self.values[name]


def reading(t: float, values: dict[str, float | None], reasons: dict[str, str] | None = None) -> Reading:
    """A reading with all fields: those that are not given are None, for the reason given or "not recorded"."""
    whole = {name: values.get(name) for name in FIELDS}
    why = reasons or {}
    return Reading(t, whole, {name: why.get(name, "not recorded") for name, v in whole.items() if v is None})
