"""A task in a few lines, for the tests of systems that run a model."""

import json

from scionwood.task import Case, Choices, Invalid, Task


class Ask(Task):
    """Every case is a user text under one shared system text; ``constraint`` is the same for all, or a function of the case."""

    name, primary = "ask", "right"

    def __init__(self, constraint, system="You sort notes. Answer with one of the words that you were taught."):
        self.rule, self.system = constraint, system

    def cases(self, split):
        return []

    def messages(self, case):
        return [{"role": "system", "content": self.system}, {"role": "user", "content": case.input["text"]}]

    def target(self, case):
        return case.reference

    def constraint(self, case):
        return self.rule(case) if callable(self.rule) else self.rule

    def parse(self, case, text):
        rule = self.constraint(case)
        if rule is None:
            return text
        if isinstance(rule, Choices):
            return text if text in rule.texts else Invalid("not a choice")
        try:
            return json.loads(text)
        except ValueError:
            return Invalid("not JSON")

    def score(self, case, answer):
        return {"right": float(answer == case.reference)}

    def metrics(self):
        return []


TEXTS = ("the kettle is on", "the dog is called Fen", "the dog is called Fern", "她住在成都", "", "Dinner at eight on Friday?",
         "the dog is gone", "e\u0301te\u0301 in Menton")  # prefixes of each other, another script, nothing at all, not NFC


def asked(*texts):
    """Cases of the given texts, or of the stock ones."""
    return [Case(f"c{i}", f"s{i}", "ask", {"text": t}, None) for i, t in enumerate(texts or TEXTS)]
