"""Injected vectors, other objectives and further modules in the shared engine, against plain transformers and plain torch."""

import contextlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from conftest import tiny_model
from scionwood.files import read_jsonl
from scionwood.models import decoder
from scionwood.models.adapters import add_adapter, trainable
from scionwood.models.settings import Adapter
from scionwood.models.trees import TokenTree, to_tensors
from scionwood.training.examples import Example, Examples, add_with_vector, embed_row, row_of, row_vectors
from scionwood.training.loop import Plan, row_loss, train
from scionwood.training.settings import Train
from scionwood.training.trunk import build_trunk, trunk_key

CPU, FP32 = torch.device("cpu"), torch.float32
MARKER, PLACE = 77, 5
CONTEXT = {"device": CPU, "autocast": contextlib.nullcontext}


def some_examples(vectors: int = 3, answers: int = 2, hidden: int = 32, seed: int = 0) -> Examples:
    """One prompt with a marker, ``vectors`` vectors in its place, ``answers`` answers to each."""
    rng = np.random.default_rng(seed)
    tree, items, given = TokenTree(), [], {}
    prompt = rng.integers(100, 8000, 9).tolist()
    prompt[PLACE] = MARKER
    for v in range(vectors):
        value = rng.normal(size=hidden).astype(np.float32)
        for a in range(answers):
            answer = rng.integers(100, 8000, 4 + a).tolist()
            path = add_with_vector(tree, prompt + answer[:-1], PLACE, v)
            given[int(path[PLACE])] = value
            items.append(Example(f"v{v}a{a}", path, np.arange(len(prompt) - 1, len(prompt) - 1 + len(answer)), np.array(answer)))
    return Examples(tree, items, given)


def plan_of(examples, folder, **kw) -> Plan:
    adapter = kw.pop("adapter", {})
    further = {k: kw.pop(k) for k in ("objective", "modules", "shared", "dev") if k in kw}
    settings = {"steps": 6, "batch": 4, "lr": 0.01, "checkpoint_seconds": 0} | kw
    return Plan(examples, Adapter(**({"rank": 2} | adapter)), Train(**settings), 3, "base", folder / "adapter", folder / "cache", **further)


def adapted(family: str = "qwen3", last_layers: int | None = None):
    """A tiny model with an adapter that already does something (B is not zero)."""
    model = add_adapter(tiny_model(family, layers=3), Adapter(rank=2, last_layers=last_layers), 0)
    torch.manual_seed(1)
    for p in trainable(model).values():
        p.data.add_(0.1 * torch.randn_like(p))
    return model


def gradients(model, loss) -> torch.Tensor:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in trainable(model).values()])


def plain_loss(model, examples: Examples, divisor: float):
    """The same loss by transformers' own forward, one example at a time, its vector put in by a hook on the embedding layer."""
    total = 0.0
    for e in examples.items:
        vector = torch.from_numpy(examples.vectors[int(e.path[PLACE])])

        def put(module, inputs, output):
            at = (inputs[0] == MARKER).nonzero()
            assert at.tolist() == [[0, PLACE]]
            return output.index_put(tuple(at.T), vector[None])

        handle = model.get_input_embeddings().register_forward_hook(put)
        logits = model(torch.tensor([[examples.tree.tokens[j] for j in e.path]])).logits[0]
        handle.remove()
        total = total + F.cross_entropy(logits[torch.from_numpy(e.at)].float(), torch.from_numpy(e.labels), reduction="sum")
    return total / divisor


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_value_and_gradient_of_injected_rows_are_those_of_plain_transformers(family, tmp_path):
    examples, model = some_examples(), adapted(family)
    want = plain_loss(model, examples, 7.0)
    wanted = gradients(model, want)
    for shared in (True, False):
        plan = plan_of(examples, tmp_path, shared=shared)
        got = row_loss(model, plan, range(6), 7.0, **CONTEXT)
        assert got.item() == pytest.approx(want.item(), rel=1e-5)
        assert (gradients(model, got) - wanted).norm() < 1e-5 * wanted.norm() > 0


def test_plain_packed_shared_and_cached_are_one(tmp_path):
    examples, model = some_examples(), adapted(last_layers=1)
    want = plain_loss(model, examples, 7.0)
    wanted = gradients(model, want)
    trunk = build_trunk(model, examples, 2, tmp_path, "k", CPU, contextlib.nullcontext)
    ways = {"packed": dict(shared=False), "shared": dict(shared=True)}
    for name, kw in ways.items():
        got = row_loss(model, plan_of(examples, tmp_path, **kw), range(6), 7.0, **CONTEXT)
        assert got.item() == pytest.approx(want.item(), rel=1e-5), name
        assert (gradients(model, got) - wanted).norm() < 1e-5 * wanted.norm(), name
    got = row_loss(model, plan_of(examples, tmp_path), range(6), 7.0, trunk=trunk, first=2, **CONTEXT)
    assert got.item() == pytest.approx(want.item(), rel=1e-5)
    assert (gradients(model, got) - wanted).norm() < 1e-5 * wanted.norm()


def test_the_prompt_before_the_marker_is_shared_and_what_follows_is_not():
    examples = some_examples(vectors=3, answers=2)
    paths = [e.path for e in examples.items]
    assert len({tuple(p[:PLACE]) for p in paths}) == 1
    assert len({int(p[PLACE]) for p in paths}) == 3
    assert {examples.tree.tokens[int(p[PLACE])] for p in paths} == {MARKER}
    assert tuple(paths[0][:9]) == tuple(paths[1][:9]), "two answers to one vector share its prompt"
    row, *_ = row_of(examples, range(6))
    places, values = row_vectors(examples, range(6), row)
    assert len(places) == 3 and {v.tobytes() for v in values} == {v.tobytes() for v in examples.vectors.values()}
    assert len(row_vectors(examples, range(6), row_of(examples, range(6), shared=False)[0])[0]) == 6


def test_without_vectors_nothing_changes():
    model, examples = tiny_model(layers=1), some_examples()
    bare = Examples(examples.tree, examples.items)
    row, *_ = row_of(bare, [0, 2])
    ids, *_ = to_tensors(row, CPU)
    assert torch.equal(embed_row(model, bare, [0, 2], row, ids), decoder.embed(model, ids))
    injected = embed_row(model, examples, [0, 2], row, ids)
    places, values = row_vectors(examples, [0, 2], row)
    assert torch.equal(injected[0, places], torch.from_numpy(values))
    others = [i for i in range(ids.shape[1]) if i not in places]
    assert torch.equal(injected[0, others], decoder.embed(model, ids)[0, others])


def test_a_trunk_knows_its_vectors():
    a, b = some_examples(), some_examples()
    assert trunk_key("b", 1, "fp32", a) == trunk_key("b", 1, "fp32", b)
    node = next(iter(b.vectors))
    b.vectors[node] = b.vectors[node] + 1e-3
    keys = {trunk_key("b", 1, "fp32", e) for e in (a, b, Examples(a.tree, a.items))}
    assert len(keys) == 3


def test_training_tells_vectors_apart(tmp_path):
    """Each vector has an answer of its own, the prompts are alike: only the vectors can tell."""
    examples, base = some_examples(vectors=3, answers=1), tiny_model(layers=2)
    base.lm_head.weight.mul_(5)
    for vector in examples.vectors.values():
        vector *= 3
    plan = plan_of(examples, tmp_path, adapter={"rank": 8}, steps=60, batch=3, lr=0.02)
    train(base, plan, CPU, FP32)
    losses = [r["loss"] for r in read_jsonl(plan.folder / "log.jsonl")]
    assert losses[-1] < 0.3 < losses[0]


# -- other objectives, further modules ------------------------------------------------------------------------------------


def head() -> torch.nn.Linear:
    torch.manual_seed(5)
    return torch.nn.Linear(32, 4)


def regression(model, plan, chosen, divisor, *, device, autocast, trunk=None, first=0):
    """Squared error of a value head at the last token of each example, against fixed targets."""
    row, places, *_ = row_of(plan.examples, chosen, plan.shared)
    ids, positions, mask = to_tensors(row, device)
    with autocast():
        h = embed_row(model, plan.examples, chosen, row, ids) if trunk is None else torch.from_numpy(trunk[row.nodes])[None]
        h = decoder.run_layers(model, h, positions, mask, first if trunk is not None else 0, 2)
    said = plan.modules["value_head"](h[0, [p[-1] for p in row.paths]])
    return ((said - torch.ones(4)) ** 2).mean(-1).sum() / divisor


def value_examples() -> Examples:
    examples = some_examples()
    one = np.zeros(1, dtype=np.int64)
    return Examples(examples.tree, [Example(e.id, e.path, np.array([len(e.path) - 1]), one) for e in examples.items], examples.vectors)


def train_head(folder, **kw):
    from safetensors.torch import load_file

    plan = plan_of(value_examples(), folder, objective=regression, modules={"value_head": head()}, batch=6, **kw.pop("plan", {}))
    facts = train(tiny_model(layers=3), plan, CPU, FP32, **kw)
    return plan, facts, load_file(plan.folder / "best" / "value_head.safetensors")


def test_an_objective_of_ones_own_trains_a_further_module(tmp_path):
    plan, facts, saved = train_head(tmp_path, plan={"steps": 30})
    losses = [r["loss"] for r in read_jsonl(plan.folder / "log.jsonl")]
    assert losses[-1] < 0.2 * losses[0]
    assert saved.keys() == {"weight", "bias"} and not torch.equal(saved["weight"], head().weight)
    assert torch.equal(saved["weight"], plan.modules["value_head"].weight)
    assert facts["trainable"] > 32 * 4 + 4
    assert sorted(p.name for p in (plan.folder / "best").iterdir()) == ["adapter_config.json", "adapter_model.safetensors",
                                                                        "value_head.safetensors"]


def test_the_first_step_is_the_gradient_of_the_objective(tmp_path):
    """Divided by the examples of the step, however the rows are cut."""
    _, _, whole = train_head(tmp_path / "a", plan={"steps": 1, "clip": None})
    _, _, cut = train_head(tmp_path / "b", plan={"steps": 1, "clip": None, "micro_tokens": 16})
    for k in whole:
        assert torch.allclose(whole[k], cut[k], atol=1e-6)


def test_a_cached_trunk_serves_an_objective_too(tmp_path):
    plain, cached = (train_head(tmp_path / str(c), plan={"cache_trunk": c, "adapter": {"last_layers": 2}}) for c in (False, True))
    assert (plain[1]["cached_layers"], cached[1]["cached_layers"]) == (0, 1)
    for k in plain[2]:
        assert torch.allclose(plain[2][k], cached[2][k], atol=1e-5)


class Killed(BaseException):
    pass


def test_modules_are_checkpointed_and_go_on_to_the_same_weights(tmp_path):
    _, _, undisturbed = train_head(tmp_path / "a", plan={"adapter": {"dropout": 0.3}})

    def kill(step):
        if step == 4:
            raise Killed

    with pytest.raises(Killed):
        train_head(tmp_path / "b", plan={"adapter": {"dropout": 0.3}}, on_step=kill)
    _, _, again = train_head(tmp_path / "b", plan={"adapter": {"dropout": 0.3}})
    for k in undisturbed:
        assert torch.equal(undisturbed[k], again[k])


def test_the_best_modules_are_kept_with_the_best_adapter(tmp_path):
    kept, looks = [], iter([0.2, 0.9, 0.1, 0.1, 0.1, 0.1])
    plan = plan_of(value_examples(), tmp_path, objective=regression, modules={"value_head": head()}, batch=6)

    def dev(model):
        assert not plan.modules["value_head"].training
        kept.append(plan.modules["value_head"].weight.detach().clone())
        return next(looks)

    plan.dev = dev
    train(tiny_model(layers=3), plan, CPU, FP32)
    from safetensors.torch import load_file

    assert torch.equal(load_file(plan.folder / "best" / "value_head.safetensors")["weight"], kept[1])


def test_a_loss_that_is_not_finite_names_its_case_by_the_objective(tmp_path):
    from scionwood.errors import UserError

    def broken(model, plan, chosen, divisor, **kw):
        loss = regression(model, plan, chosen, divisor, **kw)
        return loss * float("nan") if any(plan.examples.items[i].id == "v1a0" for i in chosen) else loss

    plan = plan_of(value_examples(), tmp_path, objective=broken, modules={"value_head": head()}, batch=6)
    with pytest.raises(UserError, match="in case v1a0"):
        train(tiny_model(layers=3), plan, CPU, FP32)
