"""More training pairs from the hand-written ones: the new text and the stored one change places.

Only where the guide fixes what the swapped pair is: "says the same" and "has no bearing" hold both ways, a stored text that
says more refines the one that says less, and of a change told backwards the older half is stale. Used for training only.
"""

from __future__ import annotations

from dataclasses import replace

from scionwood.task import Case
from scionwood.tasks.cerebellum.cases import time_order

SWAPPED = {"same": "same", "independent": "independent", "covered": "refines", "supersedes": "stale", "stale": "supersedes"}


def swap(case: Case) -> Case | None:
    """The case with its two texts swapped, or None where the swapped relation does not follow."""
    if case.job != "arbitrate" or case.reference not in SWAPPED:
        return None
    new, stored = case.input["new"], case.input["stored"]
    if case.reference == "supersedes" and time_order(new, stored) != "later":
        return None  # told on the same day, nothing says which half is the older one
    if case.reference == "stale" and time_order(new, stored) != "earlier":
        return None
    swapped_new = {"text": stored["text"], "observed_at": stored.get("observed_at"), "event_time": stored.get("valid_from")}
    swapped_stored = {"text": new["text"], "observed_at": new.get("observed_at"), "valid_from": new.get("event_time")}
    if case.reference in ("same", "covered", "independent"):
        # these hold whatever the dates: the dates keep their places, so that the order of time predicts nothing new
        swapped_new |= {"observed_at": new.get("observed_at"), "event_time": new.get("event_time")}
        swapped_stored |= {"observed_at": stored.get("observed_at"), "valid_from": stored.get("valid_from")}
    return replace(case, id=f"{case.id}~swapped", input={"new": swapped_new, "stored": swapped_stored}, reference=SWAPPED[case.reference])
