"""The entropy term of the loss: its value and gradient against the closed form, in bf16, in chunks, in trees, and in a training."""

import contextlib
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import tiny_model
from scionwood.files import read_jsonl
from scionwood.models.adapters import add_adapter, trainable
from scionwood.models.settings import Adapter
from scionwood.training import losses
from scionwood.training.examples import build
from scionwood.training.loop import Plan, row_loss, train
from scionwood.training.settings import Train

rows = st.lists(st.lists(st.floats(-60, 60), min_size=5, max_size=5), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(rows, st.floats(0.01, 1))
def test_value_and_gradient_are_the_closed_form(given_rows, weight):
    """d/dz of CE - w H is p - 1[label] + w p (ln p + H)."""
    z = torch.tensor(given_rows, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(len(given_rows)) % 5
    logits = z.float()
    loss = losses.cross_entropy(lambda s: logits[s], len(logits), labels, 1.0, entropy_weight=weight)
    loss.backward()
    with torch.no_grad():
        log_p = z.log_softmax(-1)
        p = log_p.exp()
        h = -(p * log_p).sum(-1, keepdim=True)
        value = (-log_p.gather(1, labels[:, None])[:, 0] - weight * h[:, 0]).sum()
        gradient = p - F.one_hot(labels, 5) + weight * p * (log_p + h)
    assert loss.item() == pytest.approx(value.item(), rel=1e-5, abs=1e-4)
    assert torch.allclose(z.grad, gradient, atol=1e-4)


def test_closed_forms():
    even = torch.zeros(3, 7)
    assert losses.predictive_entropy(even.log_softmax(-1)).tolist() == pytest.approx([math.log(7)] * 3)
    assert losses.predictive_entropy(torch.tensor([[0.0, -math.inf]]).log_softmax(-1)).item() == 0
    # CE - H = 0 for an even prediction at weight 1
    assert losses.cross_entropy(lambda s: even[s], 3, torch.tensor([0, 1, 2]), 3.0, entropy_weight=1.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("logits", [
    [[300.0, -300.0, 0.0]], [[0.0, -math.inf, -math.inf]], [[1e4, -1e4, 3.0]], [[-3e38, 0.0, 1.0]],
], ids=["far apart", "impossible tokens", "huge", "the least of bf16"])
def test_what_breaks_the_plain_formula_in_bf16_does_not_break_ours(logits):
    z = torch.tensor(logits, dtype=torch.bfloat16, requires_grad=True)
    loss = losses.cross_entropy(lambda s: z[s], 1, torch.tensor([0]), 1.0, entropy_weight=0.1)
    loss.backward()
    assert math.isfinite(loss.item()) and torch.isfinite(z.grad).all()
    plain = torch.tensor(logits, dtype=torch.bfloat16, requires_grad=True)
    p = plain.softmax(-1)
    (F.cross_entropy(plain, torch.tensor([0])) + 0.1 * (p * p.log()).sum()).backward()
    assert not torch.isfinite(plain.grad).all(), "this is what the term has to survive"


def test_off_is_exactly_the_loss_without_it():
    torch.manual_seed(0)
    z, labels = torch.randn(9, 30), torch.randint(0, 30, (9,))
    assert losses.cross_entropy(lambda s: z[s], 9, labels, 9.0).item() == (F.cross_entropy(z, labels, reduction="sum") / 9).item()
    assert losses.cross_entropy(lambda s: z[s], 9, labels, 9.0, entropy_weight=0.0).item() == losses.cross_entropy(lambda s: z[s], 9, labels, 9.0).item()
    assert Train().entropy_weight == 0 and Train().watch.every is None


@pytest.mark.parametrize("weighted", [False, True])
def test_chunks_change_nothing(weighted, monkeypatch):
    torch.manual_seed(0)
    labels, weights = torch.randint(0, 30, (20,)), torch.rand(20) if weighted else None
    got = []
    for chunk in (256, 3):
        monkeypatch.setattr(losses, "CHUNK", chunk)
        z = torch.linspace(-3, 3, 600).view(20, 30).clone().requires_grad_()
        loss = losses.cross_entropy(lambda s: z[s] ** 2, 20, labels, 7.0, weights, entropy_weight=0.3)
        loss.backward()
        got.append((loss.item(), z.grad))
    assert got[0][0] == pytest.approx(got[1][0]) and torch.allclose(got[0][1], got[1][1], atol=1e-6)


def test_distillation_with_the_term():
    torch.manual_seed(0)
    student, teacher, labels = torch.randn(6, 11), torch.randn(6, 11), torch.randint(0, 11, (6,))
    without, with_ = (losses.distillation(student, teacher, labels, 2.0, 0.5, 6.0, entropy_weight=w) for w in (0.0, 0.4))
    h = -(student.softmax(-1) * student.log_softmax(-1)).sum(-1)
    assert with_.item() == pytest.approx(without.item() - 0.4 * h.mean().item(), abs=1e-5)


ROWS = [(f"c{i}", [{"role": "user", "content": f"thing {i}"}], ("red", "blue", "a longer answer")[i % 3]) for i in range(6)]


def plan_for(examples, folder, **kw) -> Plan:
    return Plan(examples, Adapter(rank=4), Train(**({"steps": 20, "batch": 6, "lr": 0.02, "dtype": "fp32"} | kw)), 0, "base", folder, folder)


def test_trees_and_plain_rows_agree_on_value_and_gradient(renderer, tmp_path):
    examples = build(renderer, ROWS, 512)
    model = add_adapter(tiny_model(layers=2), Adapter(rank=4), seed=1)
    for name, p in trainable(model).items():
        if "lora_B" in name:
            p.data.normal_(generator=torch.Generator().manual_seed(len(name)), std=0.1)
    got = []
    for shared, groups in ((True, [range(6)]), (False, [range(6)]), (True, [[i] for i in range(6)])):
        plan = plan_for(examples, tmp_path, entropy_weight=0.2)
        plan.shared = shared
        model.zero_grad()
        total = 0.0
        for g in groups:
            loss = row_loss(model, plan, list(g), 10.0, device=torch.device("cpu"), autocast=contextlib.nullcontext)
            loss.backward()
            total += loss.item()
        got.append((total, torch.cat([p.grad.flatten() for p in trainable(model).values()])))
    for value, gradient in got[1:]:
        assert value == pytest.approx(got[0][0], rel=1e-5) and (gradient - got[0][1]).norm() < 1e-4 * got[0][1].norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_training_with_the_term_keeps_more_entropy_and_stays_finite(dtype, renderer, tmp_path):
    examples = build(renderer, ROWS, 512)
    entropies = []
    for weight in (0.0, 0.3):
        folder = tmp_path / str(weight)
        base = tiny_model(layers=2).to(dtype)
        base.lm_head.weight.data.mul_(5)  # so that the tiny model can become sure of a token
        plan = plan_for(examples, folder, entropy_weight=weight)
        train(base, plan, torch.device("cpu"), dtype)
        assert all(math.isfinite(r["loss"]) for r in read_jsonl(folder / "log.jsonl"))
        from scionwood.models import decoder
        from scionwood.models.loading import load_adapter
        from scionwood.models.trees import to_tensors
        from scionwood.training.examples import row_of

        fresh = tiny_model(layers=2).to(dtype)
        fresh.lm_head.weight.data.mul_(5)
        model = load_adapter(fresh, folder / "best")
        row, places, *_ = row_of(examples, range(6))
        ids, positions, mask = to_tensors(row, torch.device("cpu"))
        autocast = contextlib.nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype)
        with torch.no_grad(), autocast:
            hidden = decoder.run_layers(model, decoder.embed(model, ids), positions, mask)
            entropies.append(losses.predictive_entropy(decoder.logits_at(model, hidden, torch.from_numpy(places)).log_softmax(-1)).mean().item())
    assert entropies[1] > entropies[0] + 0.1
