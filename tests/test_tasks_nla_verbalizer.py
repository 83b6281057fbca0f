"""The verbalizer: trained by the shared engine, read back from its folder, writing in batches as it writes alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from conftest import tiny_model
from nla_models import tiny
from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.models.settings import Adapter
from scionwood.tasks.nla import meta
from scionwood.tasks.nla.injection import inject
from scionwood.tasks.nla.template import av_answer
from scionwood.tasks.nla.verbalizer import Verbalizer, build_examples, train_verbalizer
from scionwood.training.settings import Train

CPU, FP32, SCALE = torch.device("cpu"), torch.float32, 6.0
TEXTS = ["A river.", "好的。", "Nobody mends the wheel.", "A river."]


def vectors(n: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 32)).astype(np.float32) * 40


def sharp(family: str = "qwen3", layers: int = 2, seed: int = 0):
    """A model that is sure of its tokens, so that no near tie is decided by rounding."""
    model = tiny(family, layers, seed)
    if family == "llama":
        model.lm_head.weight.mul_(5)
    return model


def fit(folder, renderer, *, dev=None, steps=12, base=None, **kw):
    settings = Train(steps=steps, batch=4, lr=0.02, checkpoint_seconds=0, dev_every=2)
    return train_verbalizer(base or tiny_model(layers=2), renderer, vectors(), TEXTS, scale=SCALE, adapter=Adapter(rank=8),
                            settings=settings, seed=1,
                            folder=folder / "av", cache=folder / "cache", base="tiny", base_hash="b", device=CPU, dtype=FP32, layer=1,
                            dev=dev, **kw)


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma3"])
def test_the_loss_is_that_of_plain_transformers(family, renderer):
    model = sharp(family)
    av = Verbalizer(model, renderer, SCALE)
    got = av.loss(vectors(), TEXTS)
    for i, (vector, text) in enumerate(zip(vectors(), TEXTS)):
        answer = av_answer(renderer, av.marker, text)
        with inject(model, vector[None], av.marker, SCALE), torch.no_grad():
            logits = model(torch.tensor([av.prompt + answer])).logits[0]
        want = F.cross_entropy(logits[len(av.prompt) - 1 : -1].float(), torch.tensor(answer))
        assert got[i] == pytest.approx(want.item(), rel=1e-4)


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma3"])
def test_batches_write_what_single_rows_write(family, renderer):
    model = sharp(family)
    av = Verbalizer(model, renderer, SCALE)
    for temperature in (1.0, 0.0):
        together = av.verbalize(vectors(), temperature=temperature, tokens=9)
        assert together == [av.verbalize(v[None], temperature=temperature, tokens=9, seeds=[i])[0] for i, v in enumerate(vectors())]
        assert len({s.ids for s in together}) > 1 or (family, temperature) == ("gemma3", 0), "that one always says the same word"
    # transformers' own generation, from the ids and through the hook
    ends = list(av.ends)
    with inject(model, vectors()[:1], av.marker, SCALE):
        out = model.generate(torch.tensor([av.prompt]), max_new_tokens=9, do_sample=False, eos_token_id=ends, pad_token_id=0,
                             suppress_tokens=[av.marker.id])
    written = out[0, len(av.prompt):].tolist()
    assert tuple(t for t in written if t not in ends) == together[0].ids


def test_draws_depend_on_their_own_seed_alone(renderer):
    av = Verbalizer(sharp(), renderer, SCALE)
    same = np.repeat(vectors(1), 6, 0)
    drawn = av.verbalize(same, temperature=1.0, tokens=6, seeds=[1, 2, 3, 4, 5, 1])
    assert drawn[0] == drawn[5] and len({d.ids for d in drawn}) == 5
    assert av.verbalize(same[:2], temperature=1.0, tokens=6, seeds=[3, 5], batch=1) == [drawn[2], drawn[4]]
    with pytest.raises(ValueError, match="1 seeds for 2 vectors"):
        av.verbalize(same[:2], seeds=[1])


def test_the_marker_is_never_written_and_nothing_is_complete_untrained(renderer):
    model = tiny("llama", 1)
    av = Verbalizer(model, renderer, SCALE)
    model.lm_head.weight[av.marker.id] = 100 * model.lm_head.weight.abs().max()
    said = av.verbalize(vectors(), tokens=5)
    assert not any(av.marker.id in s.ids for s in said) and not any(s.complete for s in said)
    assert av.verbalize(np.empty((0, 32))) == []


def test_examples_share_the_prompt_up_to_the_marker(renderer):
    v = vectors()
    v[3] = v[0]
    av = Verbalizer(tiny("qwen3", 1), renderer, SCALE)
    examples = build_examples(renderer, av.marker, list("abcd"), v, TEXTS, SCALE, 512)
    assert len(examples.vectors) == 3, "equal vectors are one node"
    assert all(np.linalg.norm(x) == pytest.approx(SCALE, rel=1e-5) for x in examples.vectors.values())
    assert examples.items[0].path.tolist() == examples.items[3].path.tolist()
    for e, text in zip(examples.items, TEXTS):
        answer = av_answer(renderer, av.marker, text)
        assert e.labels.tolist() == answer and [examples.tree.tokens[i] for i in e.path] == av.prompt + answer[:-1]
    with pytest.raises(UserError, match="case b: .* tokens, more than max_length = 12"):
        build_examples(renderer, av.marker, ["b"], v[:1], TEXTS[:1], SCALE, 12)


def test_training_and_reading_back(renderer, tmp_path):
    facts = fit(tmp_path, renderer, steps=8)
    assert facts["steps"] == 8
    logged = [r["loss"] for r in read_jsonl(tmp_path / "av" / "log.jsonl")]
    assert logged[-1] < logged[0]
    side = meta.read_meta(tmp_path / "av" / "best")
    assert (side.role, side.stage, side.d_model, side.extraction.injection_scale, side.extraction_layer_index) == ("av", "sft", 32, SCALE,
                                                                                                                   1)
    before = Verbalizer(tiny_model(layers=2), renderer, SCALE).loss(vectors(), TEXTS)
    av = Verbalizer.load(tmp_path / "av", tiny_model(layers=2), renderer)
    after = av.loss(vectors(), TEXTS)
    assert after.mean() < before.mean() and av.scale == SCALE
    assert Verbalizer.load(tmp_path / "av" / "best", tiny_model(layers=2), renderer, scale=2.0).scale == 2.0
    # the engine's loss at a step is this one: token by token, not text by text
    again = fit(tmp_path / "b", renderer, steps=1)
    first = read_jsonl(tmp_path / "b" / "av" / "log.jsonl")[0]["loss"]
    counts = np.array([len(av_answer(renderer, av.marker, t)) for t in TEXTS])
    assert again["steps"] == 1 and first == pytest.approx((before * counts).sum() / counts.sum(), rel=1e-4)


def test_the_lowest_loss_on_dev_is_kept(renderer, tmp_path):
    facts = fit(tmp_path, renderer, dev=(vectors(2, seed=9), ["Something else.", "Another thing."]), steps=6)
    looks = [r["dev"] for r in read_jsonl(tmp_path / "av" / "log.jsonl") if "dev" in r]
    assert facts["dev"] == pytest.approx(max(looks), abs=1e-5) and len(looks) >= 2
    av = Verbalizer.load(tmp_path / "av", tiny_model(layers=2), renderer)
    assert -av.loss(vectors(2, seed=9), ["Something else.", "Another thing."]).mean() == pytest.approx(facts["dev"], rel=1e-4)


class Killed(BaseException):
    pass


def test_a_killed_training_goes_on_to_the_same_adapter(renderer, tmp_path):
    from safetensors.torch import load_file

    fit(tmp_path / "a", renderer, steps=4)

    def kill(step):
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        fit(tmp_path / "b", renderer, steps=4, on_step=kill)
    assert not (tmp_path / "b" / "av" / "best").exists()
    fit(tmp_path / "b", renderer, steps=4)
    a, b = (load_file(tmp_path / n / "av" / "best" / "adapter_model.safetensors") for n in "ab")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_what_does_not_belong_together_is_named(renderer, tmp_path):
    fit(tmp_path, renderer, steps=1)
    best = tmp_path / "av" / "best"
    side = meta.read_meta(best)

    def load():
        return Verbalizer.load(best, tiny_model(layers=2), renderer)

    for change, message in ((dict(d_model=64), "reads vectors of 64 numbers, this base has 32"),
                            (dict(role="ar"), "does not describe a verbalizer"),
                            (dict(extraction=meta.Scales()), "injection_scale is missing"),
                            (dict(tokens=side.tokens.model_copy(update={"injection_left_neighbor_id": 5})), "the left neighbour"),
                            (dict(tokens=side.tokens.model_copy(update={"injection_char": "年"})), "does not stand exactly once")):
        meta.write_meta(best, side.model_copy(update=change))
        with pytest.raises(UserError, match=message):
            load()
    (best / "nla_meta.yaml").unlink()
    with pytest.raises(UserError, match="no such file"):
        load()


def test_gemma_is_read_and_injected_but_not_trained(renderer, tmp_path):
    with pytest.raises(UserError, match="model type 'gemma3_text': a verbalizer is trained on models of the types qwen3, llama"):
        fit(tmp_path, renderer, base=tiny("gemma3", 2))


def test_hints_are_trained_along_under_a_prompt_of_their_own(renderer, tmp_path):
    """Texts that are all alike teach nothing about the vectors; the hints do."""
    from scionwood.tasks.nla.template import HINT

    settings = Train(steps=60, batch=8, lr=0.02, checkpoint_seconds=1e9)
    base = sharp("llama")
    train_verbalizer(base, renderer, vectors(), ["A text."] * 4, scale=SCALE, adapter=Adapter(rank=8), settings=settings, seed=1,
                     folder=tmp_path / "av", cache=tmp_path / "cache", base="tiny", base_hash="b", device=CPU, dtype=FP32,
                     hints=["red", "green", "blue", "white"])
    av = Verbalizer.load(tmp_path / "av", sharp("llama"), renderer)
    hinted = Verbalizer(av.model, renderer, SCALE, prompt=HINT)
    own, others = hinted.loss(vectors(), ["red", "green", "blue", "white"]), hinted.loss(vectors(), ["green", "blue", "white", "red"])
    assert (own < others).all() and av.loss(vectors(), ["A text."] * 4).mean() < 1
    assert meta.read_meta(tmp_path / "av" / "best").training["hints"] is True
    with pytest.raises(ValueError):
        build_examples(renderer, av.marker, list("ab"), vectors(), TEXTS, SCALE, 512)
