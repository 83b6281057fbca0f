"""The five bands: what the machine's own counters say in place of an EEG. All are 0 to 1."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from scionwood.tasks.lumen.sensing.readings import Reading
from scionwood.tasks.lumen.state.settings import State


class Bands(NamedTuple):
    """alpha: idle share of the processor; beta: busy share; gamma: switches and interrupts; theta: disk and network; delta: calm."""

    alpha: float
    beta: float
    gamma: float
    theta: float
    delta: float


class BandMemory:
    """The bands of one reading after another; gamma and theta are moving averages that start at 0, delta looks back on a history."""

    def __init__(self, table: State):
        self.table = table
        self.gamma = self.theta = 0.0
        self.cpu: deque[float] = deque(maxlen=table.history)
        self.temperature: deque[float] = deque(maxlen=table.history)
        self.started = False

    def next(self, r: Reading) -> Bands:
        """The bands with this reading. A processor share that is not known counts as 0, as published."""
        cpu = r["cpu_pct"]
        if cpu is not None:
            self.cpu.append(cpu)
        if r["cpu_temp_c"] is not None:
            self.temperature.append(r["cpu_temp_c"])
        beta = _share(cpu, 100)
        gamma = self._gamma(r, beta)
        self.theta += self.table.theta_new * (self._theta(r) - self.theta)
        self.started = True
        return Bands(1 - beta, beta, gamma, self.theta, self._delta(r))

    def _gamma(self, r: Reading, beta: float) -> float:
        """Switches and interrupts; without them half of beta, as published. 0 at the first reading, where no rate can be known."""
        scales = self.table.scales
        switches, interrupts = r["context_switches_s"], r["interrupts_s"]
        if not self.started:
            return 0.0
        if switches is None and interrupts is None:
            return beta / 2
        now = 0.6 * _share(switches, scales.context_switches_s) + 0.4 * _share(interrupts, scales.interrupts_s)
        self.gamma += self.table.gamma_new * (now - self.gamma)
        return self.gamma

    def _theta(self, r: Reading) -> float:
        """Disk and network, the busier of the two counting more; one that is not known counts as 0."""
        scales, net = self.table.scales, _share(r["net_bytes_s"], self.table.scales.net_bytes_s)
        if r["disk_busy_ms_s"] is not None:
            disk = _share(r["disk_busy_ms_s"], scales.disk_busy_ms_s)
        else:
            disk = _share(r["disk_bytes_s"], scales.disk_bytes_s)
        return 0.7 * max(disk, net) + 0.3 * min(disk, net)

    def _delta(self, r: Reading) -> float:
        """How calm processor share and temperature were of late; each part is 1 while its history is too short."""
        scales, load, heat = self.table.scales, 1.0, 1.0
        if len(self.cpu) > 1:
            load = max(0.0, 1 - (max(self.cpu) - min(self.cpu)) / scales.cpu_swing_pct)
        if r["cpu_temp_c"] is not None and len(self.temperature) > 1:
            mean = sum(self.temperature) / len(self.temperature)
            heat = max(0.0, 1 - abs(r["cpu_temp_c"] - mean) / scales.temp_swing_c)
        return 0.7 * load + 0.3 * heat


def _share(value: float | None, whole: float) -> float:
    """A value as a share of what counts as 1, at most 1; 0 where it is not known."""
    return 0.0 if value is None else min(1.0, max(0.0, value / whole))
