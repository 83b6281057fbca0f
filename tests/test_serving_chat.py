"""Chat with the embedded base behind a real socket: what is drawn under a temperature, the same seed, turns that do not end, bad values."""

import math
from collections import Counter

import httpx
import pytest

from serving_export import write_export
from serving_live import live, until
from scionwood.models.prompts import Renderer
from scionwood.models.sampling import Drawing
from scionwood.serving.artifact import read_artifact
from scionwood.serving.client import Client, ServerError
from scionwood.serving.model import GgufModel
from scionwood.serving.settings import Serving
from scionwood.task import load_task

pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (pip install 'scionwood[serve]')")
ASK = [{"role": "user", "content": "hello there"}]


@pytest.fixture(scope="module")
def model():
    import torch

    from scionwood.models.loading import load_model

    return load_model("embedded", "cpu", torch.float32)


@pytest.fixture(scope="module")
def served(model, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    artifact, task = read_artifact(write_export(folder / "run", model, tokenizer, kinds=("f32",))), load_task("cerebellum")
    settings = {"threads": 1, "context": 1000, "max_tokens": 300}
    with live(folder, task, open_model=lambda: GgufModel(artifact, task, Serving(**settings), 3), **settings) as server:
        until(server.sidecar.is_ready, 60)
        yield server


@pytest.fixture
def scion(served):
    with Client(served.url, retries=0) as client:
        yield client


def text(reply):
    return reply["choices"][0]["message"]["content"]


def exact(model, tokenizer, temperature, min_p=0.0, top_p=1.0):
    """The probability of each text that the first token may be, computed from the model's logits step by step."""
    import torch

    with torch.no_grad():
        prompt = Renderer(tokenizer).render(ASK).prompt
        p = (model(torch.tensor([prompt])).logits[0, -1].double() / temperature).softmax(-1)
    ranked = sorted(((v, t) for t, v in enumerate(p.tolist()) if v >= min_p * float(p.max())), reverse=True)
    whole, held, kept = sum(v for v, _ in ranked), 0.0, {}
    for v, t in ranked:
        if held >= top_p:
            break
        held += v / whole
        kept[t] = v
    out = Counter()
    for t, v in kept.items():
        out[tokenizer.decode([t], skip_special_tokens=True)] += v / sum(kept.values())
    return out


@pytest.mark.parametrize("sampling", [{"temperature": 1.0}, {"temperature": 1.5, "min_p": 0.02}, {"temperature": 1.2, "top_p": 0.7},
                                      {"temperature": 2.0, "top_p": 0.6, "min_p": 0.005}])
def test_tokens_come_as_often_as_the_distribution_says(scion, model, tokenizer, sampling):
    wanted, n = exact(model, tokenizer, **sampling), 250
    count = Counter(text(scion.chat(ASK, max_tokens=1, seed=seed, **sampling)) for seed in range(n))
    top = [t for t, _ in wanted.most_common(12) if "\ufffd" not in t][:6]  # half a character alone is no text
    assert wanted[top[0]] > 0.02
    for t in top:
        assert abs(count[t] / n - wanted[t]) < 4.5 * math.sqrt(wanted[t] * (1 - wanted[t]) / n) + 0.003
    if len(sampling) > 1:  # nothing that the filters take away, but for ties at the edge
        assert len(wanted) < 2000 < len(exact(model, tokenizer, sampling["temperature"]))
        assert sum(c for t, c in count.items() if t and t not in wanted) <= 0.01 * n


def test_the_same_seed_gives_the_same_text_whatever_came_between(scion, served):
    drawn = {"temperature": 1.5, "max_tokens": 30}
    first = {seed: scion.chat(ASK, seed=seed, **drawn) for seed in range(5)}
    assert len({text(r) for r in first.values()}) == 5
    for seed, reply in first.items():
        scion.classify("where is my key?", deadline_ms=20_000)
        scion.chat([{"role": "user", "content": "hello Fen" * seed}], max_tokens=4)
        again = scion.chat(ASK, seed=seed, **drawn)
        assert (text(again), again["usage"]) == (text(reply), reply["usage"])
        assert again["system_fingerprint"] == served.sidecar.model.rev == scion.models()["data"][0]["model_rev"]
    assert len({text(scion.chat(ASK, **drawn)) for _ in range(3)}) == 3  # without a seed each has a chance of its own


def test_it_is_greedy_unless_asked(scion):
    greedy = text(scion.chat(ASK, max_tokens=20))
    for more in ({"temperature": 0}, {"temperature": 0.0, "seed": 4, "top_p": 0.3, "min_p": 0.2}, {"temperature": 1e-300, "seed": 1},
                 {"temperature": 1e-40, "seed": 1}, {"temperature": 2, "min_p": 1, "seed": 2},
                 {"temperature": 2, "top_p": 1e-9, "seed": 3}):
        assert text(scion.chat(ASK, max_tokens=20, **more)) == greedy, more


def test_a_turn_that_may_not_end_comes_to_its_length(scion, served, tokenizer):
    controls = served.sidecar.model.system.controls
    for more in ({"temperature": 1.0, "min_p": 0.02, "seed": 1}, {}):
        reply = scion.chat(ASK, max_tokens=300, **more)
        assert reply["choices"][0]["finish_reason"] == "stop" and reply["usage"]["completion_tokens"] < 300
        reply = scion.chat(ASK, max_tokens=300, ignore_eos=True, **more)
        assert reply["choices"][0]["finish_reason"] == "length" and reply["usage"]["completion_tokens"] == 300
        assert not any(tokenizer.decode([c]) in text(reply) for c in controls)


def test_characters_of_several_tokens_are_whole_when_the_turn_ends(scion, served, tokenizer):
    """llama.cpp streams only the last token of such a character, so a text cannot be put together from tokens."""
    seen = 0
    for seed in range(24):
        asked = [{"role": "user", "content": "鹳鸶鹮鹭"}]
        reply = scion.chat(asked, temperature=1.3, seed=seed, max_tokens=30)
        ids = served.sidecar.model.engine.generate(Renderer(tokenizer).render(asked).prompt, max_tokens=30, anew=True,
                                                   drawing=Drawing(1.3, seed=seed)).tokens
        if reply["choices"][0]["finish_reason"] == "stop":
            assert text(reply) == tokenizer.decode(ids, skip_special_tokens=True) and reply["usage"]["completion_tokens"] == len(ids)
            seen += any("\ufffd" in tokenizer.decode([t]) for t in ids)
    assert seen > 2


def test_drawn_json_keeps_to_its_schema(scion):
    schema = {"type": "json_schema", "json_schema": {"name": "c", "schema": {"enum": ["red", "blue"]}}}
    said = Counter(text(scion.chat(ASK, response_format=schema, temperature=2.0, seed=s)) for s in range(24))
    assert set(said) == {'"red"', '"blue"'}


@pytest.mark.parametrize("more, says", [
    ({"temperature": 2.1}, "'temperature': Input should be less than or equal to 2"),
    ({"temperature": -0.1}, "'temperature': Input should be greater than or equal to 0"),
    ({"temperature": "0.5"}, "'temperature': Input should be a valid number"), ({"temperature": True}, "'temperature'"),
    ({"top_p": 0}, "'top_p': Input should be greater than 0"), ({"top_p": 1.01}, "'top_p'"),
    ({"min_p": 1.5}, "'min_p': Input should be less than or equal to 1"), ({"min_p": -1}, "'min_p'"),
    ({"seed": -1}, "'seed': Input should be greater than or equal to 0"), ({"seed": 2**32 - 1}, "'seed'"), ({"seed": 0.5}, "'seed'"),
    ({"ignore_eos": 1}, "'ignore_eos'"), ({"ignore_eos": True, "response_format": {"type": "json_object"}}, "leave out one of the two"),
    ({"n": 2, "temperature": 1}, "'n'"), ({"tpo_p": 0.5}, "unknown key 'tpo_p'; did you mean 'top_p'"),
])
def test_bad_values_are_one_line(scion, more, says):
    with pytest.raises(ServerError) as e:
        scion.chat(ASK, **more)
    assert e.value.status == 422 and says in e.value.message and "\n" not in e.value.message


def test_the_document_tells_the_bounds(served):
    known = httpx.get(f"{served.url}/openapi.json").json()["components"]["schemas"]
    number = {k: f["anyOf"][0] for k, f in known["ChatRequest"]["properties"].items() if k in ("temperature", "top_p", "min_p", "seed")}
    assert number == {"temperature": {"type": "number", "minimum": 0, "maximum": 2},
                      "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                      "min_p": {"type": "number", "minimum": 0, "maximum": 1},
                      "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 2}}
    assert {"system_fingerprint"} <= set(known["ChatResponse"]["required"])
