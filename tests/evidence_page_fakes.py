"""Figures and context of a made-up run, for the tests of the card and the report."""

from evidence_fakes import Digits, answers, system

from scionwood.evidence.figures import compute
from scionwood.recipe import Recipe

TASK = Digits()
CASES = TASK.cases("test")


def make_figures(right=lambda k: k % 10, base=lambda k: k % 4 == 0, rival=lambda k: k % 2, leak=False, seeds=(0, 1), cases=CASES):
    """An adapter that answers cases 2k and 2k + 1 where ``right(k)`` holds (nearly: each seed misses others), a base, two rivals
    and a control; the cases of the two jobs alternate."""
    def by_pair(answered):
        return lambda i: answered(i // 2)

    systems = [system("base", "base", answers(cases, by_pair(base))),
               system("majority", "rival", answers(cases, by_pair(rival))),
               system("always|none", "rival", answers(cases, lambda i: False, status="timeout"))]
    systems += [system("adapter", "adapter", answers(cases, lambda i, s=s: right(i // 2) and i % 17 != s), s) for s in seeds]
    systems += [system("shuffled-labels", "control", answers(cases, by_pair(lambda k: leak or k % 5 == 0)), seeds[0])]
    return compute(TASK, cases, systems)


def make_context(seeds=(0, 1), **recipe):
    names = [*(f"adapter-{s}" for s in seeds), "shuffled-labels"]
    r = Recipe(**{"name": "digits", "task": "digits", "base": "Qwen/Qwen3-0.6B", "train": {"seeds": seeds},
                  "teacher": {"kind": "local", "model": "/home/someone/models/teacher"}} | recipe)
    facts = {"steps": 40, "planned_steps": 48, "stopped_early": True, "best_step": 30, "dev": .8125, "seconds": 12.5,
             "tokens": 123456, "peak_memory_mb": 1812, "trainable": 9961472, "cached_layers": 0}
    log = [{"step": i, "loss": round(2 / i, 5), "lr": .001} for i in range(1, 41)]
    log += [{"step": i, "dev": i / 50} for i in (10, 20, 30)]
    counts = {"asked": 60, "accepted": 50, "differs": 7, "unparseable": 1, "timeout": 1, "no answer": 1}
    return {
        "recipe": r.model_dump(mode="json"),
        "task": {"name": "digits", "summary": "say whether a number is odd", "primary": TASK.primary, "metrics": {}},
        "rivals": {"majority": "the most frequent answer"},
        "prepare": {"sources": {"train": 30, "dev": 6, "test": 20}, "cases": {"train": 120, "dev": 24, "test": 80},
                    "pairs": 14400, "threshold": .8, "highest": {"similarity": .416667, "cases": ["c1", "c2"]}},
        "teach": {"teacher": "local", "accepted": 100, "refused": 20, "agreement": {"parity": .9, "digit": .766667},
                  "counts": {"parity": counts, "digit": counts}},
        "training": {n: facts for n in names},
        "logs": {n: log for n in names},
    }
