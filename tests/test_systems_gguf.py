"""A GGUF file as a system: the decisions of the label scorer and the decoder, with failures inside the rows."""

import json

import pytest
from engine_fakes import write_tiny
from tiny_flow import TinyTask

from scionwood.errors import UserError
from scionwood.models.light import LightTokenizer
from scionwood.models.llamacpp import LlamaCpp
from scionwood.models.loading import embedded_folder
from scionwood.models.prompts import Renderer
from scionwood.systems.base import INVALID, OK
from scionwood.systems.gguf import GgufSystem, branches_of, decide
from scionwood.systems.json_decoding import JsonDecoder
from scionwood.systems.label_scoring import LabelScorer
from scionwood.task import Choices, Grammar, Invalid, JsonSchema

pytest.importorskip("xllamacpp")
MANY = tuple(f'{{"place":"{p}","mixed":{m}}}' for p in ("mill", "tower", "milk", "住在", "住所") for m in ("true", "false"))
SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
          "required": ["colour", "n"], "additionalProperties": False}


class Asked(TinyTask):
    """The tiny task under any constraint; every text is an answer."""

    def __init__(self, rule):
        self.rule = rule

    def constraint(self, case):
        return self.rule

    def parse(self, case, text):
        return text if text else Invalid("empty")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tokenizer):
    return write_tiny(tmp_path_factory.mktemp("gguf"), tokenizer)


@pytest.fixture(scope="module")
def engine(tiny):
    with LlamaCpp(tiny[1], context=512, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def light():
    return Renderer(LightTokenizer(embedded_folder()))


def no_autocast():
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize("texts", [("red", "blue"), MANY])
def test_choices_are_decided_as_the_label_scorer_does(texts, tiny, engine, light, renderer):
    task = Asked(Choices(texts))
    cases = task.cases("test")
    ours = GgufSystem("gguf:f32", "export", engine, light, task).predict(cases)
    theirs = LabelScorer("adapter", "adapter", tiny[0], renderer, task, no_autocast).predict(cases)
    assert [p.case for p in ours] == [c.id for c in cases]
    assert [p.text for p in ours] == [p.text for p in theirs] and {p.status for p in ours} == {OK}
    assert [p.confidence for p in ours] == pytest.approx([p.confidence for p in theirs], abs=0.01)
    assert all(p.latency_ms > 0 for p in ours) and len({p.text for p in ours}) > 1


def test_one_request_per_branch_on_the_way(engine, light):
    asked = []

    class Counting:
        def branch(self, prompt, options, deadline=None):
            asked.append(len(options))
            return engine.branch(prompt, options, deadline=deadline)

    messages = [{"role": "user", "content": "a"}]
    text, p = decide(Counting(), light.render(messages).prompt, branches_of(light, messages, MANY))
    assert text in MANY and 0 < p <= 1 and 2 <= len(asked) <= 4
    assert decide(Counting(), [5], branches_of(light, messages, ("only",))) == ("only", 1.0)


@pytest.mark.parametrize("rule", [JsonSchema(SCHEMA), Grammar('start: ("ab" | "ba") /[0-9]{3}/')])
def test_texts_under_a_rule(rule, engine, light):
    task = Asked(rule)
    for p in GgufSystem("gguf:f32", "export", engine, light, task).predict(task.cases("test")[:6]):
        assert p.status == OK and p.confidence is None
        if isinstance(rule, JsonSchema):
            value = json.loads(p.text)
            assert p.text == json.dumps(value, separators=(",", ":")) and value["colour"] in ("red", "blue")
        else:
            assert len(p.text) == 5 and p.text[2:].isdigit()


def test_what_is_not_finished_is_invalid(engine, light):
    for rule in (None, JsonSchema({"type": "string", "minLength": 40, "maxLength": 50})):
        task = Asked(rule)
        for p in GgufSystem("gguf:f32", "export", engine, light, task, max_new_tokens=4).predict(task.cases("test")[:3]):
            assert (p.status, p.reason, p.answer) == (INVALID, "cut at 4 tokens", None)


def test_free_text_ends_at_the_first_control_token(engine, light, tokenizer):
    system = GgufSystem("gguf:f32", "export", engine, light, Asked(None))
    done = engine.generate([7] * 20, max_tokens=8)
    end = tokenizer.convert_tokens_to_ids("<|im_start|>")
    from dataclasses import replace

    assert system.free_text(done) == (done.text, False)
    assert system.free_text(replace(done, tokens=[*tokenizer.encode("été 住"), end, 5])) == ("été 住", True)


def test_a_case_that_is_too_long_names_itself(engine, light):
    task = Asked(Choices(("red", "blue")))
    with pytest.raises(UserError, match=r"case test-36: \d+ tokens, more than max_length = 10"):
        GgufSystem("gguf:f32", "export", engine, light, task, max_length=10).predict(task.cases("test"))


def test_free_text_is_the_decoders_own(tiny, engine, light, renderer):
    """Up to the first near tie: a random model has many, so what is compared is the beginning."""
    task = Asked(None)
    cases = task.cases("test")[:4]
    ours = GgufSystem("gguf:f32", "export", engine, light, task, max_new_tokens=3).predict(cases)
    theirs = JsonDecoder("adapter", "adapter", tiny[0], renderer, task, no_autocast, max_new_tokens=3).predict(cases)
    assert sum(a.text.rstrip("\ufffd") == b.text.rstrip("\ufffd") for a, b in zip(ours, theirs)) >= 3
