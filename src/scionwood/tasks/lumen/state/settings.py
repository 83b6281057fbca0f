"""The [state] table: weights and scales of the formulas, and the two presets that fill it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from scionwood.settings import Settings

# What the model card says where it differs from the published code: entropy without a neural term, void from memory, processor and disk
# alone and not scaled down, a state every 30 seconds. The card gives no weights: those of the code are kept for the terms that stay.
PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "card": {
        "every_s": 30.0,
        "void_scale": 1.0,
        "stability": {"neural": 0.0},
        "presence": {"gamma": 0.0},
    },
}


class Warmth(Settings):
    """Weights of the terms of warmth."""

    cpu_temp: float = Field(0.35, ge=0, description="processor temperature between its bounds")
    ambient_temp: float = Field(0.45, ge=0, description="air temperature between its bounds")
    neural: float = Field(0.20, ge=0, description="mean of the bands beta and gamma")


class Clarity(Settings):
    """Weights of the terms of clarity. They need not sum to one: every sum is divided by the weights that were present."""

    prediction: float = Field(0.50, ge=0, description="how well the next state was foretold")
    alpha: float = Field(0.30, ge=0, description="the band alpha")
    coverage: float = Field(0.15, ge=0, description="share of the five environment sensors that answer")
    light: float = Field(0.15, ge=0, description="light on a logarithmic scale")


class Stability(Settings):
    """Weights of the terms of instability; stability is one minus their mean."""

    humidity: float = Field(0.25, ge=0, description="distance of the humidity from its ideal, over the ideal")
    memory: float = Field(0.30, ge=0, description="share of memory in use")
    missing: float = Field(0.20, ge=0, description="share of the five environment sensors that do not answer")
    pressure: float = Field(0.15, ge=0, description="distance of the air pressure from the location's own")
    neural: float = Field(0.10, ge=0, description="one minus the mean of the bands theta and delta")


class Presence(Settings):
    """Weights of the terms of absence; presence is one minus their mean."""

    disk: float = Field(0.25, ge=0, description="share of the disk in use")
    memory: float = Field(0.30, ge=0, description="share of memory in use")
    cpu: float = Field(0.25, ge=0, description="share of processor time that is busy")
    gamma: float = Field(0.20, ge=0, description="the band gamma")


class Scales(Settings):
    """What the terms are measured against."""

    cpu_temp_low_c: float = Field(40.0, description="processor temperature that counts as 0")
    cpu_temp_high_c: float = Field(80.0, description="processor temperature that counts as 1")
    ambient_low_c: float = Field(15.0, description="air temperature that counts as 0")
    ambient_high_c: float = Field(35.0, description="air temperature that counts as 1")
    light_decades: float = Field(3.0, gt=0, description="powers of ten above 1 lux that count as 1")
    humidity_ideal_pct: float = Field(45.0, gt=0, description="ideal humidity")
    pressure_hpa: float = Field(1013.25, gt=300, lt=1100, description="usual air pressure at this location; at 500 m it is about 955")
    pressure_range_hpa: float = Field(20.0, gt=0, description="distance from it that counts as 1")
    context_switches_s: float = Field(5000.0, gt=0, description="context switches per second that count as 1")
    interrupts_s: float = Field(5000.0, gt=0, description="interrupts per second that count as 1")
    disk_busy_ms_s: float = Field(2000.0, gt=0, description="busy milliseconds of the disks per second that count as 1")
    disk_bytes_s: float = Field(10 * 1024.0**2, gt=0, description="bytes per second that count as 1 where busy time is not known")
    net_bytes_s: float = Field(500 * 1024.0, gt=0, description="network bytes per second that count as 1")
    cpu_swing_pct: float = Field(40.0, gt=0, description="range of the processor share in the history at which delta's first part is 0")
    temp_swing_c: float = Field(10.0, gt=0, description="distance of the temperature from its mean at which delta's second part is 0")

    @model_validator(mode="after")
    def _bounds_are_apart(self):
        if self.cpu_temp_low_c >= self.cpu_temp_high_c or self.ambient_low_c >= self.ambient_high_c:
            raise ValueError("the low bound of a temperature must be below its high bound")
        return self


class State(Settings):
    """How a state comes from readings. ``preset`` fills everything that is not given."""

    preset: Literal["published", "card"] = Field("published", description="published: the authors' code; card: their model card")
    every_s: float = Field(2.0, gt=0, le=3600, description="seconds from one state to the next")
    history: int = Field(10, ge=2, le=1000, description="readings that delta and the prediction look back on")
    gamma_new: float = Field(0.2, gt=0, le=1, description="share of the new value in the moving average of gamma")
    theta_new: float = Field(0.3, gt=0, le=1, description="share of the new value in the moving average of theta")
    prediction: Literal["last", "unknown"] = Field(
        "last", description="last: the next state is foretold to equal this one, and its error is measured; unknown: 0.5 for ever")
    void_scale: float = Field(0.3, gt=0, le=1, description="V is this times one minus presence")
    warmth: Warmth = Warmth()
    clarity: Clarity = Clarity()
    stability: Stability = Stability()
    presence: Presence = Presence()
    scales: Scales = Scales()

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        return _merged(PRESETS.get(str(data.get("preset", "published")), {}), data) if isinstance(data, dict) else data


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two tables as one, table by table; what is above hides what is below."""
    both = dict(below)
    for key, value in above.items():
        both[key] = _merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
    return both
