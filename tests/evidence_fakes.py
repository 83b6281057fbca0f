"""A tiny task for the tests of evidence: say whether a number is odd, and name its last digit."""

from scionwood.evidence.figures import SystemRows
from scionwood.task import Case, Metric, ScoredRow, Task, proportion


def macro_recall(rows):
    """Reads answers, not scores, as macro-F1 does."""
    by_label: dict = {}
    for r in rows:
        by_label.setdefault(r.case.reference, []).append(r.answer == r.case.reference)
    return sum(sum(v) / len(v) for v in by_label.values()) / len(by_label) if by_label else None


class Digits(Task):
    name = "digits"
    primary = "parity recall"

    def cases(self, split):
        return [make_case(i) for i in range(80)]

    def messages(self, case):
        return [{"role": "user", "content": str(case.input["n"])}]

    def target(self, case):
        return case.reference

    def constraint(self, case):
        return None

    def parse(self, case, text):
        return text

    def score(self, case, answer):
        return {"correct": float(answer == case.reference)}

    def metrics(self):
        return [
            Metric("parity recall", macro_recall, job="parity"),
            proportion("accuracy", "correct"),
            Metric("mistakes", lambda rows: sum(1 - r.scores["correct"] for r in rows), better="lower"),
            Metric("nothing", lambda rows: None),
        ]


def make_case(i: int) -> Case:
    """80 of them: 20 sources of four, two jobs, one slice, two languages."""
    job = "parity" if i % 2 else "digit"
    n = i * 7 % 100
    reference = ("odd" if n // 10 % 2 else "even") if job == "parity" else str(n % 4)
    return Case(f"c{i}", f"source-{i // 4}", job, {"n": n}, reference, lang="zh" if i < 20 else "en",
                slices=("late",) if i >= 60 else ())


def answers(cases, right, status="ok", wrong="?"):
    """Rows in which the case numbers for which ``right`` holds are answered well."""
    return [{"case": c.id, "answer": c.reference if right(i) else wrong, "status": status, "latency_ms": float(i)}
            for i, c in enumerate(cases)]


def system(name, kind, predictions, seed=None):
    suffix = "" if seed is None else f"-{seed}"
    return SystemRows(name, kind, seed, predictions, f"predictions/{name}{suffix}.jsonl", "0" * 64)


def scored(values, source=lambda i: f"s{i}"):
    """Bare rows with a score "x" each, for the statistics."""
    return [ScoredRow(Case(f"r{i}", source(i), "job", {}, None), None, "ok", {"x": float(v)}) for i, v in enumerate(values)]


def mean_x(rows):
    return sum(r.scores["x"] for r in rows) / len(rows) if rows else None
