"""Extraction: which layer it is, what padding may not change, and that killing it changes nothing."""

import numpy as np
import pytest
import torch

from nla_models import gemma_tokenizer, tiny
from scionwood.errors import UserError
from scionwood.tasks.nla import extract as module
from scionwood.tasks.nla.extract import batches, default_layer, drawn_positions, drop_above, extract, extract_to, own_tokens, states
from scionwood.tasks.nla.vectors import read_vectors

FAMILIES = ("qwen3", "llama", "gemma3")
TEXTS = ["The mill stands still.", "Nobody mends the wheel, and the river goes past it as it always did, brown and slow.", "好的，谢谢你。", "A",
         "Two words"]


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_k_is_hidden_states_k_plus_1(family):
    model = tiny(family)
    ids = torch.randint(0, 8000, (2, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = model(ids, output_hidden_states=True).hidden_states
    assert len(hidden) == 5
    for k in range(3):
        assert torch.allclose(states(model, ids, k), hidden[k + 1], atol=1e-5), k
        assert not torch.allclose(states(model, ids, k), hidden[k], atol=1e-2), k
    # the last entry has gone through the final norm; the block's output has not
    assert torch.allclose(model.model.norm(states(model, ids, 3)), hidden[4], atol=1e-4)
    assert not torch.allclose(states(model, ids, 3), hidden[4], atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_above_are_not_run(family):
    model, run = tiny(family), []
    for i, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(lambda m, a, i=i: run.append(i))
    model.lm_head.register_forward_pre_hook(lambda m, a: run.append("head"))
    states(model, torch.arange(5)[None], 1)
    assert run == [0, 1]
    assert not model.model.layers[1]._forward_hooks, "no hook is left"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("positions", ["last", "mean"])
def test_batches_and_padding_change_nothing(family, positions, renderer):
    model = tiny(family)
    together = extract(model, renderer, TEXTS, 2, positions=positions, batch_tokens=4096)
    alone = extract(model, renderer, TEXTS, 2, positions=positions, batch_tokens=1)
    assert together.values.shape == (5, 32) and together.values.dtype == np.float32
    assert np.allclose(together.values, alone.values, atol=1e-4)
    assert len({v.round(3).tobytes() for v in together.values}) == 5


def test_the_last_token_is_that_of_the_prompt(renderer):
    model, text = tiny("qwen3"), TEXTS[1]
    ids = renderer.render([{"role": "user", "content": text}]).prompt
    got = extract(model, renderer, [text], 1)
    with torch.no_grad():
        want = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0, -1]
    assert np.allclose(got.values[0], want.numpy(), atol=1e-5)
    assert got.positions.tolist() == [len(ids) - 1] and got.texts == [text] and got.layer == 1
    assert got.meta.extraction.norm == "none"


@pytest.mark.parametrize("bos", [False, True])
def test_the_mean_is_over_the_texts_own_tokens(bos, renderer):
    from scionwood.models.prompts import Renderer

    renderer = Renderer(gemma_tokenizer(" ".join(TEXTS))) if bos else renderer
    for text in TEXTS:
        ids, own = own_tokens(renderer, text)
        assert ids == renderer.render([{"role": "user", "content": text}]).prompt
        assert renderer.tokenizer.decode([ids[i] for i in own]).strip() == text and own == list(range(own[0], own[-1] + 1))
    model = tiny("qwen3")
    ids, own = own_tokens(renderer, TEXTS[1])
    with torch.no_grad():
        want = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0, own].mean(0)
    assert np.allclose(extract(model, renderer, [TEXTS[1]], 1, positions="mean").values[0], want.numpy(), atol=1e-5)


def test_drawn_positions_are_those_of_the_bare_text(tokenizer):
    model, text = tiny("llama"), TEXTS[1] * 4
    got = extract(model, tokenizer, [text, "short"], 1, ids=["d1", "d2"], positions=3, start=5, seed=7)
    ids = tokenizer.encode(text)
    assert got.ids == ["d1"] * 3 and sorted(set(got.positions)) == got.positions.tolist() and got.positions[0] >= 5
    with torch.no_grad():
        hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0]
    assert np.allclose(got.values, hidden[got.positions].numpy(), atol=1e-4)
    assert [t for t in got.texts] == [tokenizer.decode(ids[: p + 1]) for p in got.positions]
    assert drawn_positions(ids, set(), 3, 5, 7, "d1") == got.positions.tolist() != drawn_positions(ids, set(), 3, 5, 8, "d1")


def test_special_tokens_are_never_drawn():
    assert drawn_positions([9, 1, 2, 9, 3], {9}, 9, 1, 0, "d") == [1, 2, 4]
    assert drawn_positions([9, 1], {1}, 2, 1, 0, "d") == []


def test_batches_hold_every_text_once_and_keep_their_limit():
    lengths = np.random.default_rng(0).integers(1, 90, 200).tolist()
    out = batches(lengths, 300)
    assert sorted(i for b in out for i in b) == list(range(200))
    assert all(max(lengths[i] for i in b) * len(b) <= 300 for b in out) and len(out) < 60
    assert batches([500, 400], 300) == [[0], [1]]


def test_two_thirds_of_the_depth():
    for layers, k in ((28, 18), (36, 24), (62, 41), (6, 4), (1, 0), (2, 1)):
        got, reason = default_layer(layers)
        assert got == k and str(k) in reason and "two thirds" in reason


class Killed(BaseException):
    pass


def test_a_killed_extraction_goes_on(renderer, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART_TOKENS", 30)
    model, calls, real = tiny("qwen3"), [], module.states
    want = extract(model, renderer, TEXTS, 2)

    def counted(model, ids, layer):
        calls.append(ids.shape)
        if len(calls) == 3:
            raise Killed
        return real(model, ids, layer)

    monkeypatch.setattr(module, "states", counted)
    path = tmp_path / "v.parquet"
    with pytest.raises(Killed):
        extract_to(path, model, renderer, TEXTS, 2)
    assert not path.exists() and len(list((tmp_path / ".v.parquet.parts").iterdir())) == 2
    extract_to(path, model, renderer, TEXTS, 2)
    assert len(calls) == 4, "two of three parts were not computed again"
    assert np.array_equal(read_vectors(path).values, want.values)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.parquet", "v.parquet.nla_meta.yaml"]


def test_parts_of_other_settings_are_not_taken(renderer, tmp_path):
    model = tiny("qwen3")
    a = extract(model, renderer, TEXTS, 1, work=tmp_path)
    b = extract(model, renderer, TEXTS, 2, work=tmp_path)
    c = extract(model, renderer, TEXTS, 2, positions="mean", work=tmp_path)
    assert not np.allclose(a.values, b.values) and not np.allclose(b.values, c.values) and len(list(tmp_path.iterdir())) == 3


def test_norms_and_outliers_are_told(renderer):
    said = []
    model = tiny("qwen3")
    extract(model, renderer, TEXTS, 1, echo=said.append)
    assert "norms: median" in said[-1] and "outliers" not in " ".join(said)
    length = max(len(renderer.render([{"role": "user", "content": t}]).prompt) for t in TEXTS)
    model.model.layers[1].register_forward_hook(lambda m, a, out: out * (50 if out.shape[1] == length else 1))
    extract(model, renderer, TEXTS, 1, echo=said.append, batch_tokens=1)
    assert "1 outliers" in said[-1] and "text-1" in said[-1]


@pytest.mark.parametrize("kw, message", [
    (dict(layer=4), "layer 4: this base has the blocks 0 to 3"),
    (dict(layer=-1), "layer -1"),
    (dict(positions="first"), "positions = 'first': 'last', 'mean', or how many"),
    (dict(positions=0), "positions = 0"),
    (dict(positions=2), "no text has a token from position 50 on"),
    (dict(max_tokens=8), "text text-0: .* tokens, more than 8"),
    (dict(texts=[]), "there is no text"),
    (dict(texts=["a", "b"], ids=["x", "x"]), "an id of its own"),
    (dict(texts=[""], positions="mean"), "text text-0: is empty"),
])
def test_what_cannot_be_read_is_named(kw, message, renderer):
    kw = {"layer": 1, "texts": TEXTS} | kw
    with pytest.raises(UserError, match=message):
        extract(tiny("qwen3"), renderer, kw.pop("texts"), kw.pop("layer"), **kw)


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_above_are_freed_and_change_nothing(family):
    model, rows = tiny(family), torch.arange(18).view(2, 9)
    before, weights = states(model, rows, 1).clone(), sum(p.numel() for p in model.parameters())
    drop_above(model, 1)
    assert torch.equal(states(model, rows, 1), before) and sum(p.numel() for p in model.parameters()) < weights
    with pytest.raises(UserError, match="layer 2"):
        drop_above(model, 2)
