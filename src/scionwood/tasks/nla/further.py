"""Figures beside the systems: by category, over data size, with a category left out, and what the published 0.94 may have been."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

from scionwood.evidence.figures import tidy
from scionwood.evidence.intervals import percentiles, sample
from scionwood.evidence.rows import SystemRows, scored_rows
from scionwood.task import Case, Metric, ScoredRow, Task
from scionwood.tasks.nla import metrics

PUBLISHED_FVE = 0.94  # of the model card "NLA for Qwen3-4B v2"; its split, its denominator and its code are not published
PAIR, GOLD, GOLD_SUMMARY = "round-trip", "ar-on-gold", "ar-on-summary"

FVE = Metric("fve", metrics.fve)
WITHIN = Metric("within", metrics.within)
TRAIN_D = Metric("train_d", metrics.train_d)
COSINE = Metric("cosine", metrics.mean_of("cosine"))


def figure(metric: Metric, rows: Sequence[ScoredRow]) -> dict[str, Any]:
    """A figure with n and its bootstrapped interval over sources."""
    found = sample(metric, rows)
    low, high = percentiles(found.replicates)
    return {"value": found.value, "low": low, "high": high, "n": len(rows)}


def loose(rows: Sequence[ScoredRow]) -> float | None:
    """FVE over D', the error of the mean brought to the norm sqrt(d): D = 1 - |mu|²/d, so D' = 2 (1 - sqrt(1 - D))."""
    if not rows or not rows[0].scores["train_spread"]:
        return None
    wide = 2 * (1 - (1 - rows[0].scores["train_spread"]) ** 0.5)
    return 1 - sum(r.scores["error"] for r in rows) / len(rows) / wide


TRAIN_D_LOOSE = Metric("train_d_loose", loose)


def compute(task: Task, systems: Sequence[SystemRows], beside: Mapping[str, SystemRows], splits: Mapping[str, Sequence[Case]],
            shares: Sequence[float], texts_of: Callable[[float], int], categories: Sequence[str]) -> dict[str, Any]:
    """The further figures as a JSON value. ``beside`` are prediction files by name, over cases of the splits that their names say."""
    test = list(splits["test"])
    rows = {s.name: scored_rows(task, test, s.predictions, s.file) for s in reversed(systems)}  # of several seeds the first one's
    more = {name: _rows(task, s, splits) for name, s in beside.items()}
    return tidy({
        "denominators": _denominators(rows[PAIR]),
        "categories": [_category(name, rows) for name in categories],
        "meanings": list(_meanings(rows, more)),
        "curve": [_point(reader, share, texts_of(share), more[f"{reader}-at-{share:g}"] if share < 1 else rows[whole])
                  for reader, whole in (("ar", GOLD), ("ridge", "ridge-tfidf")) for share in [*shares, 1.0]] if shares else [],
        "left_out": [_left_out(name, rows, more) for name in categories if f"ridge-without-{name}" in more],
    })


def _rows(task: Task, system: SystemRows, splits: Mapping[str, Sequence[Case]]) -> list[ScoredRow]:
    """Scored rows of a file that need not hold all cases of its split."""
    by_id = {c.id: c for cases in splits.values() for c in cases}
    cases = [by_id[r["case"]] for r in system.predictions if r["case"] in by_id]
    return scored_rows(task, cases, system.predictions, system.file)


def _denominators(rows: Sequence[ScoredRow]) -> dict[str, float]:
    strict = rows[0].scores["train_spread"]
    return {"strict": strict, "loose": 2 * (1 - max(0.0, 1 - strict) ** 0.5), "test": sum(r.scores["spread"] for r in rows) / len(rows)}


def _category(name: str, rows: Mapping[str, Sequence[ScoredRow]]) -> dict[str, Any]:
    def mine(system: str) -> list[ScoredRow]:
        return [r for r in rows[system] if r.case.reference["category"] == name]

    return {"category": name, "n": len(mine(PAIR)), "fve": figure(FVE, mine(PAIR)), "within": figure(WITHIN, mine(PAIR)),
            "gold": figure(FVE, mine(GOLD)), "gold_within": figure(WITHIN, mine(GOLD))}


def _meanings(rows: Mapping[str, Sequence[ScoredRow]], more: Mapping[str, Sequence[ScoredRow]]):
    """What the number could have been, from the kindest reading to what the name promises."""
    for field, words in (("description", "descriptions"), ("summary", "summaries")):
        if own := more.get(f"ar-on-training-{field}"):
            yield {"what": f"cosine, reader on the {words} that it was trained on", **figure(COSINE, own)}
            yield {"what": f"FVE over D', reader on the {words} that it was trained on", **figure(TRAIN_D_LOOSE, own)}
            yield {"what": f"FVE over D, reader on the {words} that it was trained on", **figure(TRAIN_D, own)}
    for name, what in ((GOLD_SUMMARY, "held-out summaries"), (GOLD, "held-out descriptions")):
        yield {"what": f"cosine, reader on {what}", **figure(COSINE, rows[name])}
        yield {"what": f"FVE over D, reader on {what}", **figure(TRAIN_D, rows[name])}
    yield {"what": "cosine of the training mean, which reads nothing", **figure(COSINE, rows["mean"])}
    yield {"what": "cosine, round trip on held-out vectors", **figure(COSINE, rows[PAIR])}
    yield {"what": "FVE over D, round trip on held-out vectors", **figure(TRAIN_D, rows[PAIR])}


def _point(reader: str, share: float, texts: int, rows: Sequence[ScoredRow]) -> dict[str, Any]:
    return {"reader": reader, "share": share, "texts": texts, "fve": figure(FVE, rows), "within": figure(WITHIN, rows)}


def _left_out(name: str, rows: Mapping[str, Sequence[ScoredRow]], more: Mapping[str, Sequence[ScoredRow]]) -> dict[str, Any]:
    def beside(reader: str, whole: str) -> dict[str, Any]:
        with_it = [r for r in rows[whole] if r.case.reference["category"] == name]
        without = more.get(f"{reader}-without-{name}")
        return {"with": figure(FVE, with_it), "without": figure(FVE, without) if without else None}

    return {"category": name, "ridge": beside("ridge", "ridge-tfidf"), "ar": beside("ar", GOLD)}
