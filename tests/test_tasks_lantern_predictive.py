"""Predictive entropy, surprisal and branching factor against a plain forward pass, and what must not change them."""

import math

import numpy as np
import pytest
import torch

from conftest import tiny_model
from scionwood.errors import UserError
from scionwood.tasks.lantern.measures import kinds, predictive
from scionwood.tasks.lantern.measures.predictive import Reader, branching, token_figures

IDS = [int(x) for x in np.random.RandomState(0).randint(0, 8000, 90)]


@pytest.fixture(scope="module")
def model():
    return tiny_model(layers=2)


def plain(model, ids) -> tuple[np.ndarray, np.ndarray]:
    """One forward pass over all ids in double precision from the logits on."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
    p = logits.softmax(-1).numpy()
    h = -(p * np.log(p)).sum(-1)[:-1]
    return h, -np.log(p[np.arange(len(ids) - 1), ids[1:]])


def test_it_is_a_plain_forward_pass(model):
    h, s = token_figures(model, IDS)
    assert len(h) == len(s) == len(IDS) - 1
    expected_h, expected_s = plain(model, IDS)
    assert h == pytest.approx(expected_h, abs=2e-4) and s == pytest.approx(expected_s, abs=2e-4)
    assert (h >= 0).all() and (h <= math.log(8192)).all()


def test_chunks_change_nothing(model, monkeypatch):
    whole = token_figures(model, IDS)
    monkeypatch.setattr(predictive, "CHUNK", 7)
    assert np.allclose(token_figures(model, IDS), whole, atol=1e-5)


@pytest.mark.parametrize("begin", [1, 5, 40, 89, 90])
def test_only_the_tokens_from_begin_on_are_measured(begin, model):
    h, s = token_figures(model, IDS, begin)
    whole = token_figures(model, IDS)
    assert np.allclose(h, whole[0][begin - 1 :], atol=1e-5) and len(s) == len(IDS) - begin


def test_windows_give_each_token_at_least_half_a_window(model):
    """Each token is measured once, and as in a window of its own that begins half a window or more before it."""
    h, s = token_figures(model, IDS, context=32)
    assert len(h) == len(IDS) - 1
    assert np.allclose(h[:31], token_figures(model, IDS[:32])[0], atol=1e-4)
    for begin in range(32, len(IDS), 16):
        window = token_figures(model, IDS[begin - 16 : begin + 16])
        assert np.allclose(h[begin - 1 : begin + 15], window[0][15:], atol=1e-4) and np.allclose(s[begin - 1 : begin + 15], window[1][15:], atol=1e-4)


def test_closed_forms():
    """A model without weights knows nothing: ln V; one that is sure of a token has no entropy, and infinite logits do no harm."""
    even = tiny_model(layers=1)
    torch.nn.init.zeros_(even.lm_head.weight)
    h, s = token_figures(even, IDS[:20])
    assert h == pytest.approx(math.log(8192), rel=1e-6) and s == pytest.approx(math.log(8192), rel=1e-6)

    class Sure(torch.nn.Module):
        def forward(self, hidden):
            out = torch.full((*hidden.shape[:-1], 8192), -math.inf)
            out[..., 7] = 0.0
            return out

    even.lm_head = Sure()
    h, s = token_figures(even, [3, 7, 7, 7])
    assert h.tolist() == [0, 0, 0] == s.tolist()


def test_a_text_beside_ordinary_prose(model, tokenizer):
    reader = Reader(model, tokenizer, "tiny")
    text = "The river runs past the mill, and the mill has stood still for years."
    figures = reader.measure(text)
    m = figures.measures
    assert list(m) == ["predictive entropy", "surprisal", "branching factor"]
    n = len(tokenizer.encode(text)) - 1
    assert m["predictive entropy"].n == n == len(figures.entropies) and m["predictive entropy"].value == pytest.approx(figures.entropies.mean())
    assert m["branching factor"].value == pytest.approx(math.exp(m["predictive entropy"].value))
    assert m["branching factor"].low == pytest.approx(math.exp(m["predictive entropy"].low))
    assert m["surprisal"].ordinary.length == n and m["surprisal"].low < m["surprisal"].value < m["surprisal"].high
    passages = [reader.read(r["text"])[0][:n].mean() for r in predictive.read_jsonl(predictive.PROSE) if r["lang"] == "en"]
    assert m["predictive entropy"].ordinary.mean == pytest.approx(np.mean(passages))
    assert len(passages) >= 12
    with pytest.raises(TypeError):
        m["predictive entropy"] - m["surprisal"]
    with pytest.raises(UserError, match="rests on"):
        m["surprisal"] - Reader(model, tokenizer, "other").measure(text).measures["surprisal"]
    with pytest.raises(TypeError):
        branching(m["surprisal"])
    assert reader.measure("").measures["surprisal"].why == "needs two tokens"


def test_an_answer_is_measured_under_the_chat_template_and_alone(model, tokenizer, renderer):
    reader = Reader(model, tokenizer, "tiny")
    text = "Because the wheel is broken."
    ids, begin = reader.ids(text, "Why does the mill stand still?")
    rendered = renderer.render([{"role": "user", "content": "Why does the mill stand still?"}], text)
    assert ids[:begin] == rendered.prompt and tokenizer.decode(ids[begin:]) == text
    assert rendered.answer[: len(ids) - begin] == ids[begin:] and len(rendered.answer) > len(ids) - begin  # the turn end is not measured
    h, _ = plain(model, ids)
    m = reader.measure(text, "Why does the mill stand still?").measures["predictive entropy"]
    assert m.value == pytest.approx(h[begin - 1 :].mean(), abs=1e-3) and "chat template" in m.basis
    with pytest.raises(UserError, match="more than the 1024"):
        reader.measure("word " * 1100, "Why?")


def test_kinds_of_models_figures():
    assert {k.NAME for k in kinds.MODEL} == {"predictive entropy", "surprisal", "branching factor"}
