"""The [sensing] table: which sensors are looked for, and how patiently."""

from __future__ import annotations

from pydantic import Field

from scionwood.settings import Settings


class Sensing(Settings):
    """Sensors that are switched off are never asked. Those that are on but not there cost one look every few minutes."""

    barometer: bool = Field(True, description="look for a BME280 or BMP280 at 0x77 and 0x76")
    aht20: bool = Field(True, description="look for an AHT20 at 0x38")
    veml7700: bool = Field(True, description="look for a VEML7700 at 0x10")
    host: bool = Field(True, description="counters of the machine itself")
    disk: str = Field("/", description="folder whose disk is looked at")
    failures: int = Field(3, ge=1, le=100, description="failed reads in a row after which a sensor is set up anew")
    first_wait_s: float = Field(10.0, gt=0, description="seconds until a lost sensor is looked for again; doubled each time")
    longest_wait_s: float = Field(300.0, gt=0, description="longest such wait")
    patience_s: float = Field(1.0, gt=0, le=60, description="seconds that one look at a sensor may take")
    light_new: float = Field(0.2, gt=0, le=1, description="share of the new value in the moving average of light")
