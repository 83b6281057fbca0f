"""Reinforcement: what is paid, whose gradient it is, and that killing it changes nothing."""

import contextlib
import math

import numpy as np
import pytest
import torch

from conftest import tiny_model
from nla_models import tiny
from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.models import decoder
from scionwood.models.settings import Adapter
from scionwood.tasks.nla import meta
from scionwood.tasks.nla.injection import inject
from scionwood.tasks.nla.reconstructor import Pairs, Reconstructor, train_reconstructor
from scionwood.tasks.nla.reinforce import START, as_started, learn, player_step, reinforce, step_rows
from scionwood.tasks.nla.rewards import UNFINISHED, advantages, scored
from scionwood.tasks.nla.settings import Reinforce
from scionwood.tasks.nla.verbalizer import Said, Verbalizer, train_verbalizer
from scionwood.training.settings import Train

CPU, FP32 = torch.device("cpu"), torch.float32
TEXTS = ["A river.", "Nobody.", "The mill.", "Red."]
VALUES = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32) * 20


def base():
    model = tiny_model("llama", layers=2)
    model.lm_head.weight.mul_(5)
    return model


@pytest.fixture(scope="module")
def trained(renderer, tmp_path_factory):
    """A verbalizer and a reconstructor that know four texts well."""
    folder = tmp_path_factory.mktemp("sft")
    common = dict(seed=0, base_hash="b", cache=folder / "cache", device=CPU, dtype=FP32, adapter=Adapter(rank=8))
    train_verbalizer(base(), renderer, VALUES, TEXTS, scale=6.0, settings=Train(steps=110, batch=4, lr=0.02), folder=folder / "av",
                     base="tiny", layer=0, **common)
    train_reconstructor(base(), renderer.tokenizer, Pairs(TEXTS, VALUES), None, layer=0, train=Train(steps=10, batch=4, lr=0.01),
                        folder=folder / "ar", **common)
    return folder


def go(trained, folder, renderer, **kw):
    settings = Reinforce(**({"steps": 3, "batch": 2, "samples": 4, "kl": 0.05, "av_lr": 1e-3, "ar_lr": 1e-3} | kw.pop("settings", {})))
    return reinforce(base(), renderer, VALUES, **({"av": trained / "av", "ar": trained / "ar", "layer": 0, "settings": settings, "seed": 1,
                                                   "av_out": folder / "av",
                     "ar_out": folder / "ar", "device": CPU, "dtype": FP32, "tokens": 24, "checkpoint_seconds": 0} | kw))


# -- rewards --------------------------------------------------------------------------------------------------------------


def test_unfinished_explanations_get_a_fixed_reward():
    said = [Said("a", True), Said("b", False), Said("", True), Said("c", True)]
    asked = []

    def rebuild(texts):
        asked.extend(texts)
        return np.array([[3.0, 0.0], [0.0, 5.0]])

    true = np.array([[1.0, 0.0]] * 4)
    reward, error = scored(said, true, rebuild, "mse")
    assert asked == ["a", "c"] and np.isnan(error[[1, 2]]).all()
    assert reward == pytest.approx([0.0, UNFINISHED, UNFINISHED, -2.0])
    logged, _ = scored(said, true, lambda t: rebuild(t), "log")
    assert logged[3] == pytest.approx(-math.log(2)) and logged[0] > 5


def test_advantages_are_normalised_within_their_group():
    got = advantages(np.array([-1.0, -2.0, -3.0, -7.0, -7.0, -7.0]), 3)
    assert got[:3] == pytest.approx([1.224745, 0, -1.224745], abs=1e-5) and got[3:].tolist() == [0, 0, 0]


def test_every_vector_is_explained_once_an_epoch():
    rows = np.concatenate([step_rows(5, 2, 3, s) for s in range(5)])
    assert sorted(rows[:5]) == [0, 1, 2, 3, 4] == sorted(rows[5:10])
    assert len(step_rows(3, 8, 0, 0)) == 3


# -- the gradient ---------------------------------------------------------------------------------------------------------


def players(trained, renderer):
    model = base()
    judge = Reconstructor.load(trained / "ar" / "best", model, renderer.tokenizer, 0)
    player = Verbalizer.load(trained / "av", model, renderer)
    player.model.load_adapter(str(trained / "av" / "best"), adapter_name=START)
    return player, judge


def test_the_gradient_is_that_of_the_plain_loss(trained, renderer):
    player, judge = players(trained, renderer)
    weights = {n: p for n, p in learn(player, judge, frozen=False).items() if n.startswith("av.")}
    with torch.no_grad():
        for i, p in enumerate(weights.values()):
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    values, gains = VALUES[[0, 0, 1]], np.array([1.0, -0.5, 0.25])
    said = player.verbalize(values, temperature=1.0, tokens=9, seeds=[1, 2, 3])
    held = player_step(player, said, values, gains, 0.3, CPU, contextlib.nullcontext)
    got = torch.cat([p.grad.flatten() for p in weights.values()])

    for p in weights.values():
        p.grad = None
    cost = apart = total = 0.0
    for s, v, gain in zip(said, values, gains):
        answer = [*s.ids, *([] if s.end is None else [s.end])]
        row, at = torch.tensor([player.prompt + answer]), slice(len(player.prompt) - 1, -1)

        def log_p():
            with inject(player.model, v[None], player.marker, player.scale):
                logits = player.model(row).logits[0, at].clone()
            logits[:, player.marker.id] = -1e9
            return logits.log_softmax(-1)

        with as_started(player.model, list(weights.values())):
            q = log_p()
        p = log_p()
        cost = cost - gain * p[range(len(answer)), answer].sum()
        apart, total = apart + (p.exp() * (p - q)).sum(), total + len(answer)
    ((cost + 0.3 * apart) / total).backward()
    want = torch.cat([p.grad.flatten() for p in weights.values()])
    assert held == pytest.approx(float(apart.detach()) / total, rel=1e-3) and held > 0
    assert (got - want).norm() < 1e-4 * want.norm() > 0


def test_at_the_start_there_is_no_divergence_and_only_the_player_learns(trained, renderer):
    player, judge = players(trained, renderer)
    weights = learn(player, judge, frozen=False)
    said = player.verbalize(VALUES[:1], tokens=9)
    assert player_step(player, said, VALUES[:1], np.array([1.0]), 1.0, CPU, contextlib.nullcontext) == pytest.approx(0, abs=1e-6)
    grown = {n for n, p in weights.items() if p.grad is not None and p.grad.abs().sum() > 0}
    assert grown and all(n.startswith("av.") for n in grown)
    assert not any(p.grad is not None for n, p in player.model.named_parameters() if f".{START}." in n or "lora_" not in n)
    assert decoder.parts(player.model)[0].embed_tokens.weight.requires_grad is False


# -- the loop -------------------------------------------------------------------------------------------------------------


def test_it_leaves_both_adapters_and_says_what_it_did(trained, renderer, tmp_path):
    facts = go(trained, tmp_path, renderer, dev=VALUES[:2])
    assert facts["steps"] == 3 and facts["vectors"] == 4 and {"before", "after"} <= facts.keys()
    rows = read_jsonl(tmp_path / "av" / "log.jsonl")
    assert [r["step"] for r in rows] == [1, 2, 3] and all(r["whole"] > 0 for r in rows)
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-5) and rows[-1]["kl"] > 0
    side = meta.read_meta(tmp_path / "av" / "best")
    assert (side.stage, side.parent_checkpoints, side.extraction.injection_scale) == ("rl", ["av"], 6.0)
    assert sorted(p.name for p in (tmp_path / "av" / "best").iterdir()) == ["adapter_config.json", "adapter_model.safetensors",
                                                                            "nla_meta.yaml"]
    again, model = Verbalizer.load(tmp_path / "av", base(), renderer), base()
    judge = Reconstructor.load(tmp_path / "ar" / "best", model, renderer.tokenizer, 0)
    assert np.isfinite(judge.reconstruct([s.text for s in again.verbalize(VALUES, tokens=24)])).all()


def test_it_makes_rewarded_words_likelier(trained, renderer):
    """Paid for one token, whatever the vector: the verbalizer comes to say it more often."""
    player, judge = players(trained, renderer)
    weights = learn(player, judge, frozen=True)
    optimiser = torch.optim.AdamW(weights.values(), lr=3e-3)
    same = np.repeat(VALUES[:1], 12, 0)

    def draws(name):
        return player.verbalize(same, temperature=2.0, tokens=6, seeds=[f"{name}/{i}" for i in range(12)])

    first = [s.ids for s in draws("first")]
    paid = min(sorted({t for ids in first for t in ids}), key=lambda t: abs(sum(t in ids for ids in first) - 4))  # in a third of them
    shares = []
    for step in range(10):
        said = draws(step)
        reward = np.array([float(paid in s.ids) for s in said])
        shares.append(reward.mean())
        player_step(player, said, same, advantages(reward, 12), 0.0, CPU, contextlib.nullcontext)
        optimiser.step()
        optimiser.zero_grad()
    assert 0 < shares[0] < 1 and np.mean(shares[-3:]) > np.mean(shares[:3]) + 0.2


class Killed(BaseException):
    pass


def test_a_killed_run_goes_on_to_the_same_adapters(trained, renderer, tmp_path):
    from safetensors.torch import load_file

    go(trained, tmp_path / "a", renderer, dev=VALUES[:2])

    def kill(step):
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        go(trained, tmp_path / "b", renderer, dev=VALUES[:2], on_step=kill)
    facts = go(trained, tmp_path / "b", renderer, dev=VALUES[:2])
    assert "before" in facts
    for name in ("av/best/adapter_model.safetensors", "ar/best/adapter_model.safetensors", "ar/best/value_head.safetensors"):
        one, two = (load_file(tmp_path / n / name) for n in "ab")
        assert all(torch.equal(one[k], two[k]) for k in one), name
    assert [r["step"] for r in read_jsonl(tmp_path / "b" / "av" / "log.jsonl")] == [1, 2, 3]


def test_a_frozen_judge_does_not_learn(trained, renderer, tmp_path):
    from safetensors.torch import load_file

    go(trained, tmp_path, renderer, settings={"ar_lr": 0.0, "steps": 2})
    start, end = (load_file(f / "ar" / "best" / "value_head.safetensors") for f in (trained, tmp_path))
    assert torch.equal(start["weight"], end["weight"])
    go(trained, tmp_path / "live", renderer, settings={"steps": 2})
    assert not torch.equal(start["weight"], load_file(tmp_path / "live" / "ar" / "best" / "value_head.safetensors")["weight"])


def test_what_cannot_be_reinforced_is_named(trained, renderer, tmp_path):
    with pytest.raises(UserError, match="model type 'gemma3_text': reinforcement runs on models of the types"):
        reinforce(tiny("gemma3", 2), renderer, VALUES, av=trained / "av", ar=trained / "ar", layer=0, settings=Reinforce(), seed=0,
                  av_out=tmp_path, ar_out=tmp_path, device=CPU, dtype=FP32)
    with pytest.raises(UserError, match="no vector to explain"):
        reinforce(base(), renderer, VALUES[:0], av=trained / "av", ar=trained / "ar", layer=0, settings=Reinforce(), seed=0,
                  av_out=tmp_path,
                  ar_out=tmp_path, device=CPU, dtype=FP32)
