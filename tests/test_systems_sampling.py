"""Drawing tokens by temperature, and answers under a grammar of the task's own."""

import contextlib
import random
from collections import Counter

import pytest
import torch

from conftest import tiny_model
from scionwood.errors import UserError
from scionwood.evidence.controls import chance_rival
from scionwood.evidence.intervals import Sample
from scionwood.evidence.rows import Entrant, Run, SystemRows, scored_rows
from scionwood.systems.base import OK
from scionwood.systems.json_decoding import JsonDecoder, choose
from scionwood.task import Choices, Grammar, Invalid, Metric
from scionwood.teaching.endpoint import response_format
from system_fakes import Ask, asked

WORDS = Grammar('start: word ("-" word)?\nword: "sun" | "rain" | "snow"\n')
LEGAL = {"sun", "rain", "snow"} | {f"{a}-{b}" for a in ("sun", "rain", "snow") for b in ("sun", "rain", "snow")}


class Weather(Ask):
    """Answers under a grammar are plain text."""

    def parse(self, case, text):
        if isinstance(self.constraint(case), Grammar):
            return text if text in LEGAL else Invalid("no weather")
        return super().parse(case, text)


def system(constraint, model=None, renderer=None, **kw) -> JsonDecoder:
    return JsonDecoder("tiny", "base", model, renderer, Weather(constraint), contextlib.nullcontext, **kw)


def test_drawing_follows_the_softmax_of_the_temperature():
    logits, chance, n = torch.tensor([2.0, 0.0, 1.0, -50.0]), random.Random(0), 4000
    for temperature, allowed in ((1.0, None), (0.5, None), (2.0, [0, 2])):
        options = list(range(4)) if allowed is None else allowed
        wanted = (logits[options] / temperature).softmax(-1).tolist()
        drawn = [choose(logits, allowed, temperature, chance) for _ in range(n)]
        counts = Counter(token for token, _ in drawn)
        assert set(counts) <= set(options) - {3}
        for token, p in zip(options, wanted):
            assert counts[token] / n == pytest.approx(p, abs=0.03)
        if allowed:
            plain = logits[options].log_softmax(-1).tolist()  # the log-probability is not sharpened
            assert all(log_p == pytest.approx(plain[options.index(token)]) for token, log_p in drawn[:20])


def test_at_temperature_zero_nothing_is_drawn():
    logits = torch.tensor([0.0, 3.0, 1.0])
    assert choose(logits, None) == (1, 0.0)
    assert choose(logits, [0, 2])[0] == 2
    assert choose(torch.tensor([0.0, 30.0]), None, 1e-6, random.Random(1)) == (1, 0.0)


@pytest.mark.parametrize("constraint", [WORDS, Choices(("sun", "rain", "sun-rain", "snow-snow")), None], ids=["grammar", "choices", "free"])
def test_every_case_has_a_stream_of_chance_of_its_own(constraint, renderer):
    model, cases = tiny_model(layers=2), asked()[:5]
    once = system(constraint, model, renderer, temperature=1.0, max_new_tokens=12).predict(cases)
    again = system(constraint, model, renderer, temperature=1.0, max_new_tokens=12).predict(cases[::-1])
    assert {p.case: p.text for p in once} == {p.case: p.text for p in again}
    others = [system(constraint, model, renderer, temperature=1.0, max_new_tokens=12, seed=s).predict(cases) for s in range(1, 4)]
    assert any([p.text for p in o] != [p.text for p in once] for o in others)
    if constraint is not None:
        assert all(p.status == OK and 0 < p.confidence <= 1 for p in once)


def test_a_grammar_holds_at_any_temperature(renderer):
    model = tiny_model(layers=2)
    for temperature in (0.0, 1.0, 100.0):
        found = system(WORDS, model, renderer, temperature=temperature).predict(asked())
        assert {p.text for p in found} <= LEGAL and all(p.status == OK for p in found)


def test_a_broken_grammar_is_one_line(renderer):
    with pytest.raises(UserError, match="its grammar cannot be decoded"):
        system(Grammar('start: nothing\n'), tiny_model(layers=2), renderer).predict(asked()[:1])
    with pytest.raises(UserError, match="set it to false"):
        response_format(WORDS)
    assert len(repr(WORDS)) < 100 and repr(WORDS) != repr(Grammar("start: \"a\""))


def test_confidence_reaches_the_metrics():
    task, cases = Ask(None), asked()[:2]
    rows = scored_rows(task, cases, [{"case": cases[0].id, "status": "ok", "answer": "a", "confidence": 0.25},
                                     {"case": cases[1].id, "status": "error"}])
    assert [r.confidence for r in rows] == [0.25, None]


def test_the_task_names_its_chance():
    metric = Metric("m", lambda rows: None)

    def entrant(name: str, value: float) -> Entrant:
        import numpy as np

        return Entrant(name, "rival", [Run(SystemRows(name, "rival", None, [], ""), [], {"m": Sample(value, np.empty(0), 0)})])

    field = [entrant("strong", 0.9), entrant("majority", 0.1), entrant("marginal", 0.2)]
    assert chance_rival(field, metric).name == "majority"
    assert chance_rival(field, metric, "marginal").name == "marginal"
    assert chance_rival(field, metric, "nobody").name == "strong"
