"""Label scoring against a slow reference: every prompt and prefix alone through the model's own forward."""

import contextlib
import math
from functools import cache

import pytest
import torch

from conftest import tiny_model
from scionwood.errors import UserError
from scionwood.models.adapters import add_adapter, trainable
from scionwood.models.settings import Adapter
from scionwood.systems.label_scoring import LabelScorer
from scionwood.task import Choices, JsonSchema
from system_fakes import Ask, asked

CHOICES = {
    "json": Choices(('{"kind":"plan","mixed":true}', '{"kind":"plan","mixed":false}', '{"kind":"profile","mixed":false}')),
    "prefixes of each other": Choices(("plan", "planet", "plan to go", "plans", "profile")),
    "Chinese": Choices(("住在成都", "住在成都市", "搬走了", "成都")),
    "nothing or something": Choices(("", "SAVE", "SKIP")),
    "one alone": Choices(("SAVE",)),
}


def adapted(family):
    """A model with a LoRA adapter that does something."""
    model = add_adapter(tiny_model(family, layers=2), Adapter(rank=4), seed=1)
    generator = torch.Generator().manual_seed(2)
    for name, p in trainable(model).items():
        if "lora_B" in name:
            p.data = torch.randn(p.shape, generator=generator) * 0.1
    return model.eval()


MODELS = {
    "qwen3": lambda: tiny_model(layers=2),
    "llama": lambda: tiny_model("llama", layers=2),
    "adapter": lambda: adapted("qwen3"),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


def scorer(model, renderer, choices, **kw) -> LabelScorer:
    return LabelScorer("tiny", "base", model, renderer, Ask(choices), contextlib.nullcontext, **kw)


def slow(model, prompt, answers):
    """The greedy answer and the probabilities of all: each prefix alone, a softmax over what may follow it."""

    @cache
    def following(prefix):
        n = len(prefix)
        options = sorted({ids[n] for _, ids in answers if tuple(ids[:n]) == prefix and len(ids) > n})
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *prefix]]), use_cache=False).logits[0, -1].float()
        return dict(zip(options, logits[options].softmax(-1).tolist()))

    probabilities = {text: math.prod(following(tuple(ids[:k]))[ids[k]] for k in range(len(ids))) for text, ids in answers}
    leaves, at = {tuple(ids): text for text, ids in answers}, ()
    while at not in leaves:
        at += (max(following(at), key=following(at).get),)
    return leaves[at], probabilities


@pytest.mark.parametrize("name", CHOICES)
def test_equals_the_slow_reference(name, model, renderer):
    cases, choices = asked()[:4], CHOICES[name]
    system = scorer(model, renderer, choices)
    for case, (text, confidence, probabilities, ms) in zip(cases, system.scores(cases)):
        messages = system.task.messages(case)
        answers = [(t, renderer.render(messages, t).answer) for t in choices.texts]
        want, want_probabilities = slow(model, renderer.render(messages).prompt, answers)
        assert text == want
        assert probabilities == pytest.approx(want_probabilities, abs=1e-5)
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert confidence == probabilities[text]
        assert math.isfinite(ms)


@pytest.mark.parametrize("row_tokens", [1, 60, 200])
def test_the_size_of_a_row_changes_nothing(row_tokens, model, renderer):
    cases = asked()
    for choices in CHOICES.values():
        one = scorer(model, renderer, choices, row_tokens=10_000).scores(cases)
        many = scorer(model, renderer, choices, row_tokens=row_tokens).scores(cases)
        assert [s[0] for s in one] == [s[0] for s in many]
        for a, b in zip(one, many):
            assert a[2] == pytest.approx(b[2], abs=1e-5)


def test_small_rows_are_more_rows(model, renderer, monkeypatch):
    def rows(row_tokens):
        system, passes = scorer(model, renderer, CHOICES["json"], row_tokens=row_tokens), []
        run = system._branch_log_probs
        monkeypatch.setattr(system, "_branch_log_probs", lambda *a: passes.append(1) or run(*a))
        system.predict(asked())
        return len(passes)

    assert rows(10_000) == 1 and rows(1) == len(asked())


def test_the_answers_depend_on_the_case(model, renderer):
    """Else the equalities above would prove little."""
    assert any(len({p.text for p in scorer(model, renderer, c).predict(asked())}) > 1 for c in CHOICES.values())


def test_predictions_come_in_the_order_of_the_cases(model, renderer):
    cases = asked()
    system = scorer(model, renderer, CHOICES["json"])
    forward, backward = system.predict(cases), system.predict(cases[::-1])
    assert [p.case for p in forward] == [c.id for c in cases]
    assert [p.text for p in forward] == [p.text for p in backward[::-1]]
    assert system.predict([]) == []


def test_choices_may_differ_from_case_to_case(model, renderer):
    cases = asked()
    of = {c.id: choices for c, choices in zip(cases, [*CHOICES.values()] * 2)}
    mixed = scorer(model, renderer, lambda case: of[case.id]).predict(cases)
    for case, prediction in zip(cases, mixed):
        [alone] = scorer(model, renderer, of[case.id]).predict([case])
        assert prediction.text == alone.text and prediction.confidence == pytest.approx(alone.confidence, abs=1e-5)


def test_only_choices_can_be_scored(renderer):
    with pytest.raises(TypeError, match="case c0: label scoring needs choices"):
        scorer(tiny_model(layers=1), renderer, JsonSchema({"type": "boolean"})).predict(asked())


def test_a_case_that_is_too_long_is_named(renderer):
    with pytest.raises(UserError, match="case c0: .* more than max_length = 20"):
        scorer(tiny_model(layers=1), renderer, CHOICES["json"], max_length=20).predict(asked())


def test_bf16_does_not_make_likely_answers_equal(renderer):
    """In bf16 neighbouring logits fall together; the decision would then be the order of the choices."""
    base, texts = tiny_model(layers=2), tuple("abcdefghijklmnopqrstuvwxyz0123456789")
    base.lm_head.weight.mul_(8)  # tied: logits of some tens, as trained bases have them, so that bf16 steps are 0.125 wide
    base = base.to(torch.bfloat16)
    autocast = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
    cases = asked()
    got = LabelScorer("tiny", "base", base, renderer, Ask(Choices(texts)), autocast).scores(cases)
    again = LabelScorer("tiny", "base", base, renderer, Ask(Choices(texts[::-1])), autocast).scores(cases)
    assert [g[0] for g in got] == [a[0] for a in again], "the order of the choices decides"
    for _, _, probabilities, _ in got:
        assert len(set(probabilities.values())) == len(texts), "ties"


@pytest.mark.parametrize("answers, message", [
    ([("plan", [1, 2]), ("plan ", [1, 2])], "'plan' and 'plan ' are the same tokens"),
    ([("plan", [1, 2]), ("planet", [1, 2, 3])], "'plan' is the beginning of another one"),
    ([("planet", [1, 2, 3]), ("plan", [1, 2])], "'plan' is the beginning of another one"),
])
def test_answers_that_cannot_be_told_apart_are_an_error(answers, message):
    from scionwood.systems.label_scoring import Branches

    with pytest.raises(UserError, match=message):
        Branches(answers)
