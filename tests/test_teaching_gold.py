"""The gold filter keeps only what agrees with the reference, says why it refuses the rest, and counts all of it."""

import json

from scionwood.task import Case, Invalid, Task
from scionwood.teaching.gold import keep


class Colours(Task):
    """A task whose answers can be spelt in several ways."""

    name, primary = "colours", "accuracy"

    def cases(self, split):
        return [Case(f"c{i}", f"s{i}", "sky" if i < 4 else "sea", {"n": i}, {"colour": "blue"}) for i in range(7)]

    def messages(self, case):
        return [{"role": "user", "content": f"Colour of {case.id}?"}]

    def target(self, case):
        return json.dumps(case.reference, separators=(",", ":"))

    def constraint(self, case):
        return None

    def parse(self, case, text):
        try:
            return {"colour": json.loads(text)["colour"].lower()}
        except (ValueError, LookupError, TypeError):
            return Invalid("no JSON with a colour")

    def score(self, case, answer):
        return {"accuracy": float(answer == case.reference)}

    def metrics(self):
        return []

    def label(self, case, answer):
        return answer["colour"]


def row(text, status="ok", reason=""):
    return {"text": text, "status": status, "reason": reason}


def test_verdicts_reasons_counts_and_agreement():
    task = Colours()
    answers = {
        "c0": row('{"colour":"blue"}'),
        "c1": row('{ "colour": "BLUE" }'),
        "c2": row('{"colour":"green"}'),
        "c3": row("It is blue."),
        "c4": row("", "timeout", "no answer within 5 s"),
        "c5": row('{"colour":"blue"}', "error", "cut off at max_tokens = 8"),
    }
    kept = keep(task, task.cases("train"), answers)

    assert [r["case"] for r in kept.accepted] == ["c0", "c1"]
    assert {r["text"] for r in kept.accepted} == {'{"colour":"blue"}'}, "one spelling, whatever the teacher wrote"
    assert kept.accepted[1]["said"] == '{ "colour": "BLUE" }'
    assert {r["case"]: r["reason"] for r in kept.refused} == {
        "c2": "differs from gold: said {'colour': 'green'}, gold {'colour': 'blue'}",
        "c3": "unparseable: no JSON with a colour",
        "c4": "timeout",
        "c5": "no answer: cut off at max_tokens = 8",
        "c6": "no answer",
    }
    assert kept.refused[1]["text"] == "It is blue."
    assert kept.counts == {
        "sky": {"asked": 4, "accepted": 2, "differs": 1, "unparseable": 1, "timeout": 0, "no answer": 0},
        "sea": {"asked": 3, "accepted": 0, "differs": 0, "unparseable": 0, "timeout": 1, "no answer": 2},
    }
    assert kept.agreement == {"sky": 0.5, "sea": 0.0}, "failures are inside the denominator"
