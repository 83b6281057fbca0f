"""Scores of one reconstruction, and the figures over many. A row holds all that they need: no model is asked again."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

from scionwood.task import Case, Metric, ScoredRow, proportion

WEB = "web"  # the neutral set; all other categories are the axis set
# A failed answer counts as a vector at right angles to the true one, measured against the widest denominator that there is.
SPREADS = ("spread", "language_spread", "set_spread", "category_spread", "train_spread")
FAILED = {"error": 2.0, **dict.fromkeys(SPREADS, 1.0), "cosine": 0.0, "centred_cosine": 0.0, "hit": 0.0}
KEPT = ("error", *SPREADS, "cosine", "centred_cosine", "loss", "loss_any", "loss_within", "own", "own_any", "own_within")

Rows = Sequence[ScoredRow]


def score(answer: Mapping[str, Any] | None) -> dict[str, float]:
    """The scores of one answer. ``error`` and the spreads are mean squared errors of vectors scaled to the norm sqrt(d), 0 to 4."""
    if answer is None:
        return dict(FAILED)
    out = {k: float(answer[k]) for k in KEPT if answer.get(k) is not None}
    out["hit"] = float(answer["rank"] == 1)
    if answer.get("complete") is not None:
        out["complete"] = float(answer["complete"])
    return out


def explained(rows: Rows, spread: str) -> float | None:
    """1 - sum of errors / sum of spreads; None without rows, or where the spread is nothing."""
    error = total = 0.0
    for r in rows:
        scores = r.scores
        error += scores["error"]
        total += scores[spread]
    return 1 - error / total if total else None


def fve(rows: Rows) -> float | None:
    """The primary metric: what is explained of the spread around the mean of the training vectors."""
    return explained(rows, "spread")


def within_language(rows: Rows) -> float | None:
    """What is explained of the spread around the training mean of the text's own language."""
    return explained(rows, "language_spread")


def within(rows: Rows) -> float | None:
    """What is explained of the spread around the training mean of the text's own category and language."""
    return explained(rows, "category_spread")


def of_set(rows: Rows) -> float | None:
    """What is explained of the spread around the training mean of the set (web, or the seven categories)."""
    return explained(rows, "set_spread")


def train_d(rows: Rows) -> float | None:
    """1 - mean error / D, with D that of the training vectors: the published formula."""
    if not rows or not rows[0].scores["train_spread"]:
        return None
    return 1 - sum(r.scores["error"] for r in rows) / len(rows) / rows[0].scores["train_spread"]


def mean_of(name: str) -> Callable[[Rows], float | None]:
    """The mean of a score over the rows that carry it."""

    def mean(rows: Rows) -> float | None:
        values = [r.scores[name] for r in rows if name in r.scores]
        return sum(values) / len(values) if values else None

    return mean


def gap(other: str, true: str = "loss") -> Callable[[Rows], float | None]:
    """By how much the loss of the true description grows when the vector is another's, "loss_any" or "loss_within"."""

    def difference(rows: Rows) -> float | None:
        values = [r.scores[other] - r.scores[true] for r in rows if other in r.scores]
        return sum(values) / len(values) if values else None

    return difference


def group_of(case: Case) -> str:
    """Category and language: the finest group whose training mean errors are held against."""
    return f"{case.reference['category']}/{case.lang}"


def is_english(row: ScoredRow) -> bool:
    """Keeps the English texts."""
    return row.case.lang == "en"


def is_web(row: ScoredRow) -> bool:
    """Keeps the neutral web texts."""
    return row.case.reference["category"] == WEB


def is_axis(row: ScoredRow) -> bool:
    """Keeps the texts of the seven categories."""
    return not is_web(row)


def lead_metrics() -> list[Metric]:
    """The figures of a verbalizer whose descriptions begin with language and category."""
    return [
        Metric("own_loss_gap", gap("own_any", "own"), about="as loss_gap, over the description's own tokens alone, its lead left out"),
        Metric("own_loss_gap_within", gap("own_within", "own"), about="as loss_gap_within, over the description's own tokens alone"),
        proportion("language_named", "language_named", about="how often the lead names the text's language"),
        proportion("category_named", "category_named", about="how often the lead names the text's category"),
    ]


def all_metrics(lead: bool = False) -> list[Metric]:
    """Every figure of the task, the primary one first."""
    return [
        Metric("round_trip_fve", fve, about="fraction of variance explained: 1 less the summed squared error of the vector that follows "
               "from the words, over that of the training mean. All vectors are scaled to the norm √d first; the mean is fixed on the "
               "training vectors"),
        Metric("within_language_fve", within_language, about="the same, over the error of the training mean of the text's own language: "
               "what the words say beyond that"),
        Metric("fve_english", within_language, rows=is_english, about="the same, for the English texts alone"),
        Metric("within_category_fve", within,
               about="the same, over the error of the training mean of the text's own category and language"),
        Metric("fve_train_d", train_d, about="1 less the mean squared error over D, the spread of the training vectors around their mean: "
               "the published formula"),
        Metric("fve_axis", of_set, rows=is_axis,
               about="as the primary metric, for the seven categories alone, around their own training mean"),
        Metric("fve_web", of_set, rows=is_web, about="as the primary metric, for the web texts alone, around their own training mean"),
        proportion("choice_1_of_10", "hit", about="how often the vector is nearest to the true one among ten of the same category and "
                   "language; a guess hits 0.1"),
        Metric("centred_cosine", mean_of("centred_cosine"), about="mean cosine of both vectors, each less the training mean"),
        Metric("cosine", mean_of("cosine"), about="mean cosine of both vectors as they are; the shared mean alone makes it high"),
        Metric("loss_gap", gap("loss_any"), about="nats per token by which the true description is less likely when the vector is that of "
               "another text"),
        Metric("loss_gap_within", gap("loss_within"), about="the same, when it is that of another text of the same category and language"),
        Metric("av_loss", mean_of("loss"), better="lower", about="nats per token of the true description, given its vector"),
        proportion("complete", "complete", about="how often the description came to its end"),
        *(lead_metrics() if lead else []),
    ]
