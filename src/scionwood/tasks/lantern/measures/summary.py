"""The same measure over many documents: mean, spread, range and the interval of the mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from scionwood.tasks.lantern.measures.kinds import Measure, Ordinary
from scionwood.tasks.lantern.measures.windows import MIN_PIECES


@dataclass
class Over:
    """One measure over documents, kept as running sums (Welford 1962).

    ``documents`` counts those in which it is defined, ``missing`` the others; ``n`` sums what stands behind them.
    """

    kind: type[Measure]
    documents: int = 0
    missing: int = 0
    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    bases: set = field(default_factory=set)
    prose: list = field(default_factory=lambda: [0, 0.0, 0.0, 0.0, 0.0, ""])  # count and sums of mean, low, high, length; source

    def add(self, m: Measure) -> None:
        if m.value is None:
            self.missing += 1
            return
        self.bases.add(m.basis)
        self.documents, self.n = self.documents + 1, self.n + m.n
        step = m.value - self.mean
        self.mean += step / self.documents
        self.squares += step * (m.value - self.mean)
        self.least, self.most = min(self.least, m.value), max(self.most, m.value)
        if m.ordinary:
            o = m.ordinary
            self.prose = [self.prose[0] + 1, *(s + x for s, x in zip(self.prose[1:5], (o.mean, o.low, o.high, o.length))), o.source]

    @property
    def sd(self) -> float | None:
        """The standard deviation over the documents as a whole (divided by their number, as published)."""
        return math.sqrt(self.squares / self.documents) if self.documents else None

    @property
    def ordinary(self) -> Ordinary | None:
        """The mean over the documents of what ordinary prose of each one's length has; None unless known for all."""
        count, *sums, source = self.prose
        return Ordinary(*(s / count for s in sums), source) if count and count == self.documents else None

    def interval(self) -> tuple[float | None, float | None]:
        """Student's 95 % interval of the mean over documents; none below ``MIN_PIECES`` documents or without spread."""
        from scipy.stats import t as student

        if self.documents < MIN_PIECES or self.squares < 1e-18:
            return None, None
        half = float(student.ppf(0.975, self.documents - 1)) * math.sqrt(self.squares / (self.documents - 1) / self.documents)
        return self.mean - half, self.mean + half

    def figure(self) -> Measure:
        """The mean as a figure of the same type; its n is the number of documents."""
        low, high = self.interval()
        return self.kind(value=self.mean if self.documents else None, n=self.documents, low=low, high=high, ordinary=self.ordinary,
                         basis="; ".join(sorted(self.bases)), why="" if self.documents else "defined in no document")

    def row(self) -> dict[str, Any]:
        """The figure as a JSON value, with spread and range."""
        row = self.figure().row() | {"of": "documents", "sd": self.sd, "missing": self.missing}
        return row | ({"min": self.least, "max": self.most} if self.documents else {"min": None, "max": None})


class Summary:
    """Every measure over all documents that were added, and how many lie in each zone."""

    def __init__(self):
        self.over: dict[str, Over] = {}
        self.zones: dict[str, int] = {}
        self.warned = 0
        self.documents = 0

    def add(self, measures: dict[str, Measure], zone: str | None = None, warning: str = "") -> None:
        self.documents += 1
        for name, m in measures.items():
            self.over.setdefault(name, Over(type(m))).add(m)
        if zone:
            self.zones[zone] = self.zones.get(zone, 0) + 1
        self.warned += bool(warning)

    def row(self) -> dict[str, Any]:
        return {"documents": self.documents, "zones": self.zones, "zone_decided_by_length": self.warned,
                "measures": {name: o.row() for name, o in self.over.items()}}
