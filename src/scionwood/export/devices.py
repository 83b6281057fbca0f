"""Small machines that a specialist may run on, by their data sheets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """``memory`` in GB of 10^9 bytes, as boards are sold (their GiB are a little more); ``bandwidth`` in GB/s between memory and processor,
    the data sheet's peak (width of the bus times its rate); ``reserved``: GB that the system itself needs, an assumption of ours."""

    name: str
    label: str
    memory: float
    bandwidth: float
    reserved: float


# Peak bandwidths: LPDDR4-3200 on 32 bits (Pi 4), LPDDR4X-4267 on 32 (Pi 5), LPDDR4-3200 on 64 (Jetson Nano), LPDDR5 on 128 (Orin Nano),
# LPDDR4X-4266 on 128 (Apple M1, the slowest of its line). macOS lets the GPU use about three quarters of the memory.
DEVICES = {d.name: d for d in (
    Device("pi4", "Raspberry Pi 4, 4 GB", 4, 12.8, 0.5),
    Device("pi4-8", "Raspberry Pi 4, 8 GB", 8, 12.8, 0.5),
    Device("pi5", "Raspberry Pi 5, 8 GB", 8, 17.1, 0.5),
    Device("pi5-4", "Raspberry Pi 5, 4 GB", 4, 17.1, 0.5),
    Device("pi5-16", "Raspberry Pi 5, 16 GB", 16, 17.1, 0.5),
    Device("jetson-nano", "Jetson Nano, 4 GB", 4, 25.6, 1.0),
    Device("orin-nano", "Jetson Orin Nano, 8 GB", 8, 68.0, 1.0),
    Device("mac8", "Mac with M1, 8 GB", 8, 68.2, 2.0),
    Device("mac16", "Mac with M1, 16 GB", 16, 68.2, 4.0),
)}
