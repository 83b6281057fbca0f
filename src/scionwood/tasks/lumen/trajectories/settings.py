"""The settings of the robust classifier: the [shapes] table."""

from __future__ import annotations

from pydantic import Field

from scionwood.settings import Settings


class Units(Settings):
    """One unit of each dimension: the smallest change that matters. V is small, since the published V is scaled to at most 0.3."""

    E: float = Field(0.01, gt=0, description="unit of energy")
    I: float = Field(0.01, gt=0, description="unit of integrity")  # noqa: E741 - the published name
    S: float = Field(0.01, gt=0, description="unit of entropy")
    V: float = Field(0.003, gt=0, description="unit of void")


class Shapes(Settings):
    """Thresholds of the robust classifier: net changes over the window, never rates."""

    units: Units = Units()
    settled: float = Field(3.0, gt=0, description="units within which every smoothed curve stays in a settled window")
    moved: float = Field(6.0, gt=0, description="units of net change from which a dimension has moved")
    noise: float = Field(3.0, gt=0, description="standard deviations of the window's own noise that a move must exceed too")
    basin: float = Field(0.2, gt=0, description="net change of E, as such, from which it is a basin transition")
    spike: float = Field(10.0, gt=0, description="units by which S rises above its start in a spike")
    back: float = Field(0.5, gt=0, le=1, description="share of a spike's height that must be gone again at the end")
    calmer: float = Field(0.5, gt=0, lt=1, description="in convergence: motion in the last third over motion in the first, at most")
    drift: float = Field(0.3, gt=0, description="drift channel above which a window is dissonant")
    fewest: int = Field(5, ge=3, description="states that a window must have")
    gap: float = Field(0.35, gt=0, le=1, description="longest silence inside a window, as a share of its duration")
