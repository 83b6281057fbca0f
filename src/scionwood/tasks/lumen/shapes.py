"""The nine shapes of a trajectory, the four dimensions of a state, and one state in time."""

from __future__ import annotations

from typing import NamedTuple

DIMENSIONS = ("E", "I", "S", "V")

# In the order of the published enumeration: seeds and tables depend on it.
SHAPES = (
    "settled_presence",
    "rising_entropy",
    "falling_energy",
    "basin_transition_down",
    "basin_transition_up",
    "entropy_spike_recovery",
    "drift_dissonance",
    "void_rising",
    "convergence",
)
UNCLASSIFIED = "unclassified"  # what only the robust classifier may answer

ABOUT = {
    "settled_presence": "nothing moves",
    "rising_entropy": "disorder grows",
    "falling_energy": "energy fades, without leaving its basin",
    "basin_transition_down": "energy falls from one level to a lower one",
    "basin_transition_up": "energy climbs from one level to a higher one",
    "entropy_spike_recovery": "disorder jumps up and comes back",
    "drift_dissonance": "the drift channel says that acts and values part",
    "void_rising": "resources run out",
    "convergence": "motion that dies away",
    UNCLASSIFIED: "none of the nine",
}


class Point(NamedTuple):
    """A state at time ``t`` (seconds); E, I, S and V are 0 to 1. ``drift`` is the published field ethical_drift, 0 where not recorded."""

    t: float
    E: float
    I: float  # noqa: E741 - the published name
    S: float
    V: float
    drift: float = 0.0
