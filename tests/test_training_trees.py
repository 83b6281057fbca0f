"""plain == packed == shared prefix == cached trunk, on values and on gradients."""

import contextlib
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from conftest import tiny_model
from scionwood.models.adapters import add_adapter, trainable
from scionwood.models.settings import Adapter
from scionwood.training.examples import Examples, answer_weights, build, micro_batches, row_of
from scionwood.training.loop import Plan, row_loss
from scionwood.training.settings import Train
from scionwood.training.trunk import build_trunk, trunk_key

ROWS = [  # two prompt prefixes, a repeated prompt with two answers, and one case alone
    ("a", [{"role": "system", "content": "You sort notes."}, {"role": "user", "content": "the kettle is on"}], '{"k":"transient"}'),
    ("b", [{"role": "system", "content": "You sort notes."}, {"role": "user", "content": "the dog is called Fen"}], '{"k":"profile"}'),
    ("c", [{"role": "system", "content": "You sort notes."}, {"role": "user", "content": "the dog is called Fen"}], '{"k":"plan"}'),
    ("d", [{"role": "system", "content": "Compare."}, {"role": "user", "content": "new: 住在成都\nstored: lives in Chengdu"}], '{"r":"same"}'),
    ("e", [{"role": "user", "content": "hello"}], "hi there"),
]


def plain_loss(model, examples: Examples) -> torch.Tensor:
    """Every case alone through the model's own forward: no tree, no mask of ours."""
    total, count = 0.0, 0
    for e in examples.items:
        ids = torch.tensor([[examples.tree.tokens[i] for i in e.path]])
        logits = model(input_ids=ids, use_cache=False).logits[0].float()
        total = total + e.weight * F.cross_entropy(logits[e.at], torch.from_numpy(e.labels), reduction="sum")
        count += e.weight * len(e.labels)
    return total / count


def make(family="qwen3", last=None):
    model = add_adapter(tiny_model(family), Adapter(rank=4, last_layers=last), seed=1)
    g = torch.Generator().manual_seed(2)
    for name, p in trainable(model).items():  # LoRA's B starts at zero, which would hide the gradient of A
        if "lora_B" in name:
            p.data = torch.randn(p.shape, generator=g) * 0.1
    return model


def gradients(model, loss) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in trainable(model).values()])


def plan_for(examples, tmp_path, recompute=False, **kw) -> Plan:
    return Plan(examples, Adapter(), Train(recompute=recompute), 0, "base", tmp_path, tmp_path, **kw)


def tree_loss(model, examples, tmp_path, groups, trunk=None, first=0, **kw):
    divisor = float(sum(e.weight * len(e.labels) for e in examples.items))
    context = {"device": torch.device("cpu"), "autocast": contextlib.nullcontext, "trunk": trunk, "first": first}
    return sum(row_loss(model, plan_for(examples, tmp_path, **kw), g, divisor, **context) for g in groups)


@pytest.mark.parametrize("family, balance", [("qwen3", 0.0), ("llama", 0.0), ("qwen3", 0.7)])
def test_all_layouts_agree(family, balance, renderer, tmp_path):
    again = ("f", [{"role": "user", "content": "the lamp is on"}], '{"k":"transient"}')  # one answer is more frequent than the others
    examples = build(renderer, [*ROWS, again], 512, balance)
    model = make(family, last=2)
    everything = list(range(len(examples.items)))
    want = plain_loss(model, examples)
    want_gradient = gradients(model, want)
    trunk = build_trunk(model, examples, 2, tmp_path, trunk_key("x", 2, "fp32", examples), torch.device("cpu"), contextlib.nullcontext)
    layouts = {
        "packed": lambda: tree_loss(model, examples, tmp_path, [everything], shared=False),
        "shared prefix": lambda: tree_loss(model, examples, tmp_path, [everything]),
        "micro-batches": lambda: tree_loss(model, examples, tmp_path, micro_batches(examples, everything, 40)),
        "recomputed": lambda: tree_loss(model, examples, tmp_path, [everything], recompute=True),
        "cached trunk": lambda: tree_loss(model, examples, tmp_path, [everything], trunk=trunk, first=2),
    }
    for name, loss_of in layouts.items():
        loss = loss_of()
        assert abs(loss.item() - want.item()) < 1e-5 * want.item(), name
        gradient = gradients(model, loss)
        assert (gradient - want_gradient).norm() < 1e-5 * want_gradient.norm(), name


def test_shared_tokens_are_computed_once(renderer):
    examples = build(renderer, ROWS, 512)
    shared, *_ = row_of(examples, range(len(ROWS)))
    packed, *_ = row_of(examples, range(len(ROWS)), shared=False)
    assert len(packed.nodes) == sum(len(e.path) for e in examples.items)
    assert len(shared.nodes) == len(examples.tree) < len(packed.nodes)


def test_micro_batches_keep_every_example_and_the_limit(renderer):
    examples = build(renderer, ROWS, 512)
    groups = micro_batches(examples, range(len(ROWS)), 60)
    assert sorted(i for g in groups for i in g) == list(range(len(ROWS)))
    for g in groups:
        assert len(g) == 1 or len({n for i in g for n in examples.items[i].path.tolist()}) <= 60


def test_turn_end_is_supervised_and_prompt_is_not(renderer, tokenizer):
    examples = build(renderer, ROWS, 512)
    for e, (_, messages, answer) in zip(examples.items, ROWS):
        assert e.labels[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
        assert tokenizer.decode(e.labels[:-1]) == answer
        assert len(e.at) == len(e.labels) and e.at[0] == len(renderer.render(messages).prompt) - 1


def test_a_case_that_is_too_long_is_named(renderer):
    from scionwood.errors import UserError

    with pytest.raises(UserError, match="case d: .* tokens, more than max_length = 30"):
        build(renderer, ROWS[3:4], 30)


def test_chunked_loss_equals_the_whole(renderer, tmp_path, monkeypatch):
    from scionwood.training import losses

    examples = build(renderer, ROWS, 512)
    model = make()
    whole = gradients(model, tree_loss(model, examples, tmp_path, [range(len(ROWS))]))
    monkeypatch.setattr(losses, "CHUNK", 7)
    parts = gradients(model, tree_loss(model, examples, tmp_path, [range(len(ROWS))]))
    assert (whole - parts).norm() < 1e-5 * whole.norm()


def test_rare_answers_weigh_more():
    assert answer_weights(["a", "a", "a", "b"], 0) == [1, 1, 1, 1]
    for balance in (0.5, 1.0):
        *many, one = answer_weights(["a", "a", "a", "b"], balance)
        assert sum(many) + one == pytest.approx(4) and one / many[0] == pytest.approx(3**balance)
    assert 3 * many[0] == pytest.approx(one)  # at 1, each answer weighs the same in all
    assert answer_weights([], 0.5) == []


def test_distillation_weighs_cases_too(renderer, tmp_path):
    examples, teacher = build(renderer, ROWS, 512, 0.0), tiny_model(seed=9)
    light = Examples(examples.tree, [replace(e, weight=1e-9 if e.id != "d" else 1.0) for e in examples.items])
    model, kw = make(), {"teacher": teacher, "weight": 0.5}
    alone = row_loss(model, plan_for(examples, tmp_path, **kw), [3], len(examples.items[3].labels), device=torch.device("cpu"),
                     autocast=contextlib.nullcontext)
    assert tree_loss(model, light, tmp_path, [range(len(ROWS))], **kw).item() == pytest.approx(alone.item(), rel=1e-5)


def test_distillation_with_weight_zero_is_cross_entropy(renderer, tmp_path):
    examples = build(renderer, ROWS, 512)
    model, teacher = make(), tiny_model(seed=9)
    everything = [range(len(ROWS))]
    plain = tree_loss(model, examples, tmp_path, everything).item()
    mixed = tree_loss(model, examples, tmp_path, everything, teacher=teacher, weight=0.0).item()
    assert abs(plain - mixed) < 1e-6 * plain
    itself = tree_loss(model, examples, tmp_path, everything, teacher=model, weight=1.0).item()
    assert abs(itself) < 1e-5  # KL of a model to itself
