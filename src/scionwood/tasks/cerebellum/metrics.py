"""Scores of one answer, and the figures over many.

Arbitrate is scored per stored memory; "arbitrate_accuracy" (the published figure) asks that all actions of a record are right.
Memorize is scored by its decision. A failed answer is wrong in every score, and counts as none of the destructive errors.
"""

from __future__ import annotations

from typing import Any, Sequence

from scionwood.evidence.metrics import macro_f1
from scionwood.task import Case, Metric, ScoredRow, proportion
from scionwood.tasks.cerebellum.labels import RELATIONS, action_of, decision_of


def score(case: Case, answer: Any | None) -> dict[str, float]:
    """The scores of one answer; None stands for a failure and counts as wrong."""
    if case.job == "classify":
        return {"correct": float(answer == case.reference)}
    if case.job == "memorize":
        return score_memorize(case.reference, answer)
    return score_arbitrate(case, answer)


def score_memorize(gold: dict, answer: dict | None) -> dict[str, float]:
    """SAVE or SKIP, the kind and ``mixed``, and which way the decision was wrong."""
    wanted = decision_of(gold["kind"])
    said = decision_of(answer["kind"]) if answer else None
    out = {"correct": float(said == wanted), "kind_correct": float(bool(answer) and answer["kind"] == gold["kind"]),
           "mixed_correct": float(bool(answer) and answer["mixed"] == gold["mixed"])}
    out["false_skip" if wanted == "SAVE" else "false_save"] = float(said != wanted)
    return out


def score_arbitrate(case: Case, answer: str | None) -> dict[str, float]:
    """The relation, the action that follows from it, and which way the action was wrong."""
    wanted = action_of(case.reference)
    said = action_of(answer) if answer else None
    out = {"correct": float(answer == case.reference), "action_correct": float(said == wanted),
           f"recall_{case.reference}": float(answer == case.reference)}
    if case.reference == "same":
        out["none_duplicate"] = float(said == "NONE")
    if wanted != "UPDATE":
        out["false_update"] = float(said == "UPDATE")
    if wanted != "DELETE":
        out["false_delete"] = float(said == "DELETE")
    if wanted != "NONE":
        out["over_none"] = float(said == "NONE")
    return out


def records_right(rows: Sequence[ScoredRow]) -> float | None:
    """The share of records all of whose actions (UPDATE, DELETE, NONE) are right."""
    right: dict[str, bool] = {}
    for r in rows:
        right[r.case.record()] = right.get(r.case.record(), True) and r.scores["action_correct"] == 1
    return sum(right.values()) / len(right) if right else None


def all_metrics() -> list[Metric]:
    """Every figure of the card, the primary one first."""
    return [
        Metric("arbitrate_macro_f1", macro_f1, job="arbitrate", about="mean F1 over the eight relations, per stored memory (primary)"),
        proportion("arbitrate_relation_accuracy", "correct", job="arbitrate", about="relation right, per stored memory"),
        Metric("arbitrate_accuracy", records_right, job="arbitrate", about="all actions of a record right (the published figure)"),
        proportion("none_duplicate_rate", "none_duplicate", job="arbitrate", about="duplicates answered with NONE (the published figure)"),
        proportion("false_update_rate", "false_update", better="lower", job="arbitrate", about="a memory changed that should have stayed"),
        proportion("false_delete_rate", "false_delete", better="lower", job="arbitrate", about="a memory deleted that should have stayed"),
        proportion("over_none_rate", "over_none", better="lower", job="arbitrate", about="nothing done where something was due"),
        *(proportion(f"recall_{r}", f"recall_{r}", job="arbitrate", about=f"'{r}' recognised") for r in RELATIONS),
        proportion("memorize_accuracy", "correct", job="memorize", about="SAVE or SKIP right"),
        proportion("memorize_fp_rate", "false_save", better="lower", job="memorize", about="SAVE where SKIP was right"),
        proportion("memorize_fn_rate", "false_skip", better="lower", job="memorize", about="SKIP where SAVE was right"),
        proportion("memorize_kind_accuracy", "kind_correct", job="memorize", about="kind right, of sixteen"),
        proportion("classify_accuracy", "correct", job="classify", about="intent right, of seven"),
    ]
