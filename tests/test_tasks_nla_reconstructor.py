"""The reconstructor: where it is cut, what it reads, and that the shared engine trains what plain torch would."""

import contextlib

import numpy as np
import pytest
import torch

from conftest import tiny_model
from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.models.adapters import add_adapter, trainable
from scionwood.models.settings import Adapter
from scionwood.tasks.nla import fve, reconstructor, template
from scionwood.tasks.nla.cutting import cut, states
from scionwood.tasks.nla.reconstructor import HEAD, Pairs, Reconstructor, build_examples, identity_head, objective, places, read_head, span
from scionwood.training.loop import Plan
from scionwood.training.settings import Train

CPU, FP32 = torch.device("cpu"), torch.float32
FAMILIES = ("qwen3", "llama", "gemma3")
WORDS = ["A tram that never comes.", "Rain.", "Somebody counts the stairs of a lighthouse, twice, and gets two numbers; the keeper laughs.",
         "Quarrel about a kettle", "An apology in Chinese, addressed to a landlord", "Nobody answers the letter."]


def model_of(family: str, layers: int = 4):
    if family != "gemma3":
        return tiny_model(family, layers)
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(vocab_size=8192, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
                              num_key_value_heads=2, head_dim=8, max_position_embeddings=1024, sliding_window=16, initializer_range=0.2,
                              layer_types=["sliding_attention", "full_attention"] * (layers // 2), query_pre_attn_scalar=8)
    return Gemma3ForCausalLM(config).requires_grad_(False).eval()


def some_pairs(seed: int = 0, n: int = len(WORDS)) -> Pairs:
    values = np.random.default_rng(seed).normal(size=(n, 32)).astype(np.float32) + 1
    return Pairs(WORDS[:n], values, [f"w{i}" for i in range(n)])


def train(base, tokenizer, folder, pairs=None, dev=None, **kw):
    further = {k: kw.pop(k) for k in ("loss", "reading", "on_step", "layer") if k in kw}
    settings = Train(**({"steps": 8, "batch": 4, "lr": 0.01, "warmup": 0, "checkpoint_seconds": 0} | kw))
    return reconstructor.train_reconstructor(
        base, tokenizer, pairs or some_pairs(), dev, **({"layer": 1} | further), adapter=Adapter(rank=4), train=settings, seed=3,
        base_hash="b", folder=folder / "ar", cache=folder / "cache", device=CPU, dtype=FP32)


# -- cutting --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 2])
def test_an_untrained_reconstructor_gives_the_output_of_block_k(family, layer, tokenizer):
    """Block K's output is hidden_states[K + 1], before the final norm, at the input's last token."""
    model = model_of(family)
    got = Reconstructor(model, tokenizer, layer).reconstruct(WORDS)
    for text, vector in zip(WORDS, got):
        with torch.no_grad():
            out = model(torch.tensor([template.ar_ids(tokenizer, text)]), output_hidden_states=True)
        assert np.allclose(vector, out.hidden_states[layer + 1][0, -1], rtol=1e-4, atol=1e-4 * np.abs(vector).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_shares_its_weights_and_leaves_the_base_alone(family):
    model = model_of(family)
    before = {n: id(m) for n, m in model.named_modules()}
    lower = cut(model, 1)
    assert len(lower.model.layers) == lower.config.num_hidden_layers == 2 and isinstance(lower.model.norm, torch.nn.Identity)
    mine = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in lower.parameters()} <= mine
    assert {n: id(m) for n, m in model.named_modules()} == before and model.config.num_hidden_layers == 4
    if family == "gemma3":
        assert lower.config.layer_types == ["sliding_attention", "full_attention"] and len(model.config.layer_types) == 4


def test_adapters_of_the_base_stay_behind(tokenizer):
    """A verbalizer's adapter on the same base must not reach the reconstructor."""
    want = Reconstructor(tiny_model(), tokenizer, 2).reconstruct(WORDS)
    wrapped = add_adapter(tiny_model(), Adapter(rank=2), 0)
    for p in trainable(wrapped).values():
        p.data.normal_()
    for given in (wrapped, wrapped.get_base_model()):
        again = Reconstructor(given, tokenizer, 2)
        assert np.array_equal(again.reconstruct(WORDS), want)
        add_adapter(again.model, Adapter(rank=2), 1)  # as on a plain base
    assert trainable(wrapped)


def test_a_layer_that_is_not_there():
    with pytest.raises(UserError, match="layer 4: this base has blocks 0 to 3"):
        cut(tiny_model(), 4)
    with pytest.raises(UserError, match="layer -1"):
        cut(tiny_model(), -1)


# -- reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reading", ["last", "mean"])
def test_the_batch_does_not_matter(family, reading, tokenizer):
    ar = Reconstructor(model_of(family), tokenizer, 2, reading=reading)
    together = ar.reconstruct(WORDS)
    assert together.dtype == np.float32 and together.shape == (len(WORDS), 32)
    for i, text in enumerate(WORDS):
        assert np.allclose(ar.reconstruct([text])[0], together[i], rtol=1e-4, atol=1e-4 * np.abs(together[i]).max())
    assert np.allclose(ar.reconstruct(WORDS, batch=2), together, rtol=1e-4, atol=1e-3)
    assert ar.reconstruct([]).shape == (0, 32)


def test_weights_in_bf16_are_read_as_they_are(tokenizer):
    want = Reconstructor(tiny_model(), tokenizer, 2).reconstruct(WORDS)
    got = Reconstructor(tiny_model().to(torch.bfloat16), tokenizer, 2).reconstruct(WORDS)
    assert 0 < fve.errors(got, want).max() < 0.02


def test_the_mean_is_over_the_words_alone(tokenizer):
    for text in WORDS:
        ids = template.ar_ids(tokenizer, text)
        lo, hi = span(tokenizer, ids)
        assert tokenizer.decode(ids[lo:hi]).strip(" <>") in text + "<" and len(ids[lo:hi]) >= len(tokenizer.encode(text)) - 2
    lo, hi = span(tokenizer, template.ar_ids(tokenizer, ""))
    assert hi - lo == 1  # of no words there is still something to read
    model = tiny_model()
    ids = template.ar_ids(tokenizer, WORDS[2])
    lo, hi = span(tokenizer, ids)
    with torch.no_grad():
        want = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0, lo:hi].mean(0)
    assert np.allclose(Reconstructor(model, tokenizer, 1, reading="mean").reconstruct([WORDS[2]])[0], want, atol=1e-4)


# -- the loss -------------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_error_that_is_measured():
    rng = np.random.default_rng(0)
    p, w = rng.normal(size=(2, 5, 12))
    t = [torch.from_numpy(x) for x in (p, w)]
    assert reconstructor.row_error(*t, "normalised").numpy() == pytest.approx(fve.errors(p, w))
    assert reconstructor.row_error(*t, "raw").numpy() == pytest.approx(((p - w) ** 2).mean(1))
    assert torch.isfinite(reconstructor.row_error(torch.zeros(1, 4), torch.ones(1, 4), "normalised")).all()


def adapted(family):
    model = add_adapter(cut(model_of(family), 1), Adapter(rank=2), 0)
    torch.manual_seed(1)
    for p in trainable(model).values():
        p.data.add_(0.1 * torch.randn_like(p))
    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reading", ["last", "mean"])
def test_value_and_gradient_are_those_of_a_plain_loop(family, reading, tokenizer, tmp_path):
    """The engine's tree rows (and, for families that it cannot walk, padded rows) against one input at a time."""
    pairs, model, head = some_pairs(), adapted(family), identity_head(32)
    examples = build_examples(tokenizer, pairs, 512)
    rows = [template.ar_ids(tokenizer, w) for w in pairs.words]
    spans = [places(tokenizer, r, reading) for r in rows]
    weights = [*trainable(model).values(), head.weight]

    def gradient(loss):
        for w in weights:
            w.grad = None
        loss.backward()
        return torch.cat([w.grad.flatten() for w in weights])

    total = 0.0
    for ids, (lo, hi), value in zip(rows, spans, pairs.values):
        hidden = states(model, [ids], contextlib.nullcontext)
        said = torch.nn.functional.normalize(head(hidden[0, lo:hi].mean(0)), dim=0)
        total = total + 2 * (1 - said @ torch.nn.functional.normalize(torch.from_numpy(value), dim=0))
    wanted = gradient(total / 6)
    for shared in (True, False):
        plan = Plan(examples, Adapter(rank=2), Train(), 0, "b", tmp_path, tmp_path, modules={HEAD: head}, shared=shared,
                    objective=objective(pairs.values, spans, "normalised"))
        order = [4, 0, 5, 2, 1, 3]
        loss = plan.objective(model, plan, order, 6.0, device=CPU, autocast=contextlib.nullcontext)
        assert loss.item() == pytest.approx(total.item() / 6, rel=1e-4)
        assert (gradient(loss) - wanted).norm() < 1e-3 * wanted.norm() > 0


# -- training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_training_learns_and_loads_again(family, tokenizer, tmp_path):
    base, pairs = model_of(family), some_pairs()
    before = Reconstructor(base, tokenizer, 1).reconstruct(WORDS)
    facts = train(base, tokenizer, tmp_path, pairs, pairs, steps=40)
    assert np.array_equal(Reconstructor(base, tokenizer, 1).reconstruct(WORDS), before), "the base is as it was"
    losses = [r["loss"] for r in read_jsonl(tmp_path / "ar" / "log.jsonl") if "loss" in r]
    assert losses[-1] < 0.5 * losses[0]
    files = ["adapter_config.json", "adapter_model.safetensors", f"{HEAD}.safetensors"]
    assert sorted(p.name for p in (tmp_path / "ar" / "best").iterdir()) == files
    loaded = Reconstructor.load(tmp_path / "ar" / "best", base, tokenizer, 1)
    error = fve.errors(loaded.reconstruct(WORDS), pairs.values)
    assert fve.fve(error, fve.fit_spread(pairs.values).strict) == pytest.approx(facts["dev"], abs=1e-3)
    assert error.mean() < fve.errors(before, pairs.values).mean()


def test_a_killed_training_goes_on_to_the_same_end(tokenizer, tmp_path):
    class Killed(Exception):
        pass

    def kill(step):
        if step == 3:
            raise Killed

    for folder, on_step in ((tmp_path / "whole", None), (tmp_path / "killed", kill)):
        with contextlib.suppress(Killed):
            train(tiny_model(), tokenizer, folder, on_step=on_step)
    train(tiny_model(), tokenizer, tmp_path / "killed")
    a, b = (Reconstructor.load(tmp_path / f / "ar" / "best", tiny_model(), tokenizer, 1).reconstruct(WORDS) for f in ("whole", "killed"))
    assert np.allclose(a, b, atol=1e-6)


def test_cached_lower_blocks_change_nothing(tokenizer, tmp_path):
    got = []
    for name, cached in (("with", True), ("without", False)):
        settings = Train(steps=6, batch=6, lr=0.01, cache_trunk=cached, checkpoint_seconds=0)
        reconstructor.train_reconstructor(
            tiny_model(), tokenizer, some_pairs(), None, layer=2, adapter=Adapter(rank=2, last_layers=1), train=settings, seed=1,
            base_hash="b", folder=tmp_path / name, cache=tmp_path / "cache", device=CPU, dtype=FP32)
        got.append(Reconstructor.load(tmp_path / name / "best", tiny_model(), tokenizer, 2).reconstruct(WORDS))
    assert list((tmp_path / "cache").glob("*.f32"))
    assert np.allclose(*got, rtol=1e-3, atol=1e-4)


def test_raw_vectors_are_met_in_length_too(tokenizer, tmp_path):
    pairs = Pairs(WORDS, 5 * some_pairs().values)
    train(tiny_model(), tokenizer, tmp_path, pairs, loss="raw", steps=150, lr=0.03, batch=6, clip=None)
    said = Reconstructor.load(tmp_path / "ar" / "best", tiny_model(), tokenizer, 1).reconstruct(WORDS)
    assert np.linalg.norm(said, axis=1) == pytest.approx(np.linalg.norm(pairs.values, axis=1), rel=0.3)


def test_what_cannot_be_trained(tokenizer, tmp_path):
    with pytest.raises(UserError, match="no text"):
        train(tiny_model(), tokenizer, tmp_path, Pairs([], np.empty((0, 32), np.float32)))
    with pytest.raises(UserError, match="case w2: .* tokens, more than max_length = 30"):
        train(tiny_model(), tokenizer, tmp_path, max_length=30)


def test_a_head_that_does_not_fit(tokenizer, tmp_path):
    from scionwood.files import write_tensors

    path = tmp_path / f"{HEAD}.safetensors"
    with pytest.raises(UserError, match="no such file"):
        read_head(path, 32)
    path.write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be read"):
        read_head(path, 32)
    write_tensors(path, {"weight": torch.eye(16)})
    with pytest.raises(UserError, match=r"expected weight \(32, 32\)"):
        read_head(path, 32)
    write_tensors(path, {"weight": 2 * torch.eye(32)})
    assert torch.equal(read_head(path, 32).weight, 2 * torch.eye(32))
