"""The loop: what is seen when, and that killing, cutting and caching change nothing."""

import contextlib
import json
import math

import pytest
import torch
import torch.nn.functional as F

from conftest import tiny_model
from scionwood.errors import UserError
from scionwood.files import read_json, read_jsonl
from scionwood.models import decoder
from scionwood.models.adapters import trainable
from scionwood.models.settings import Adapter
from scionwood.models.trees import to_tensors
from scionwood.training import loop
from scionwood.training.examples import Examples, build, row_of
from scionwood.training.loop import Plan, count_steps, learning_rate, step_examples, train
from scionwood.training.monitors import JsonLines
from scionwood.training.settings import Train
from scionwood.training.trunk import build_trunk, trunk_key

CPU, FP32 = torch.device("cpu"), torch.float32
ANSWERS = ("red", "blue", "green", "a longer answer")


def rows(count: int):
    return [(f"c{i}", [{"role": "system", "content": "Name it."}, {"role": "user", "content": f"thing {i}"}], ANSWERS[i % 4]) for i in range(count)]


@pytest.fixture(scope="module")
def eight(renderer) -> Examples:
    return build(renderer, rows(8), 512)


def plan(examples, folder, adapter=None, dev=None, **kw) -> Plan:
    settings = Train(**({"steps": 6, "batch": 4, "lr": 0.01, "checkpoint_seconds": 0} | kw))
    return Plan(examples, Adapter(**({"rank": 2} | (adapter or {}))), settings, 3, "base", folder / "adapter", folder / "cache", dev=dev)


def run(plan_: Plan, layers=2, **kw) -> dict:
    """Train; returns the facts."""
    return train(tiny_model(layers=layers), plan_, CPU, FP32, **kw)


def weights(plan_: Plan) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(plan_.folder / "best" / "adapter_model.safetensors")


def distance(a: dict, b: dict) -> float:
    """The largest difference of any weight, relative to the largest weight."""
    assert a.keys() == b.keys()
    return max(float((a[k] - b[k]).abs().max()) for k in a) / max(float(v.abs().max()) for v in a.values())


# -- schedule and order ---------------------------------------------------------------------------------------------------


def test_the_learning_rate_rises_and_falls():
    t = Train(warmup=0.1, schedule="cosine")
    rates = [learning_rate(s, 100, t) for s in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1 and all(a > b for a, b in zip(rates[10:], rates[11:]))
    assert rates[55] == pytest.approx(0.5) and 0 < rates[-1] < 0.001
    flat = [learning_rate(s, 100, Train(warmup=0.1, schedule="constant")) for s in range(100)]
    assert flat[:10] == rates[:10] and set(flat[9:]) == {1.0}
    for steps in (1, 2, 3):
        assert all(0 < learning_rate(s, steps, Train(warmup=0.9)) <= 1 for s in range(steps))
    assert learning_rate(0, 100, Train(warmup=0)) == 1


def test_the_learning_rate_arrives_in_the_log(eight, tmp_path):
    p = plan(eight, tmp_path, warmup=0.5)
    run(p)
    assert [r["lr"] for r in read_jsonl(p.folder / "log.jsonl")] == pytest.approx([0.01 * learning_rate(s, 6, p.train) for s in range(6)])


@pytest.mark.parametrize("n, batch", [(8, 4), (8, 3), (7, 4), (5, 5), (3, 8), (1, 4)])
def test_every_example_is_seen_once_per_epoch(n, batch, eight, tmp_path):
    epochs = 4
    p = plan(Examples(eight.tree, eight.items[:n]), tmp_path, steps=None, batch=batch, epochs=epochs)
    steps = [step_examples(p, s) for s in range(count_steps(p))]
    size = min(n, batch)
    assert all(len(s) == size for s in steps), "no short batch, none dropped"
    seen = [i for s in steps for i in s]
    assert epochs * n <= len(seen) < epochs * n + size
    for epoch in range(epochs):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == list(range(n)), f"epoch {epoch}"
    if n > 4:
        assert seen[:n] != seen[n : 2 * n], "another order in each epoch"


def test_steps_may_be_less_than_an_epoch(eight, tmp_path):
    p = plan(eight, tmp_path, steps=1, batch=3, adapter={"last_layers": 1})
    facts = run(p)
    assert (facts["steps"], facts["cached_layers"]) == (1, 0)  # a cache would never be read again
    assert not p.cache.exists()


def test_no_cases_are_an_error(eight, tmp_path):
    with pytest.raises(UserError, match="no case to train on"):
        run(plan(Examples(eight.tree, []), tmp_path))


# -- what must not change the result --------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [1.0, None])
def test_micro_batches_do_not_change_the_weights(clip, eight, tmp_path):
    whole, cut = (plan(eight, tmp_path / str(m), micro_tokens=m, batch=8, clip=clip) for m in (4096, 16))
    for p in (whole, cut):
        run(p)
    assert distance(weights(whole), weights(cut)) < 1e-3


def test_a_gradient_is_the_same_however_it_is_cut(eight, tmp_path, monkeypatch):
    """Adam hides a factor on the gradient, so the gradients themselves are compared as well."""
    got = {}
    real = torch.optim.AdamW.step

    def step(self, *args, **kw):
        got.setdefault(limit, torch.cat([p.grad.flatten() for g in self.param_groups for p in g["params"]]))
        return real(self, *args, **kw)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    for limit in (4096, 16):
        run(plan(eight, tmp_path / str(limit), micro_tokens=limit, batch=7, steps=1, clip=None))
    assert (got[4096] - got[16]).norm() < 1e-5 * got[4096].norm() > 0


def test_a_cached_trunk_does_not_change_the_weights(eight, tmp_path):
    cached, plain = (plan(eight, tmp_path / str(c), cache_trunk=c, adapter={"last_layers": 1}) for c in (True, False))
    assert [run(p, layers=3)["cached_layers"] for p in (cached, plain)] == [2, 0]
    assert distance(weights(cached), weights(plain)) < 1e-3
    names = list(weights(plain))
    assert all(".layers.2." in name for name in names)


def test_overfitting_eight_cases(eight, tmp_path):
    p = plan(eight, tmp_path, adapter={"rank": 8}, steps=60, batch=8, lr=0.02)
    base = tiny_model(layers=2)
    base.lm_head.weight.mul_(5)  # 32 random numbers for each of 8192 tokens: as they are, no state is sure of one of them
    train(base, p, CPU, FP32)
    losses = [r["loss"] for r in read_jsonl(p.folder / "log.jsonl")]
    assert len(losses) == 60 and losses[0] > 1 and losses[-1] < 0.05


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at, every", [(1, 0), (4, 0), (4, 1e9)])
def test_a_stopped_training_goes_on_to_the_same_weights_with_dropout(at, every, eight, tmp_path):
    """``every``: a checkpoint at each step, or none before the end, so that it starts anew over what lies there."""
    adapter = {"dropout": 0.3, "last_layers": 1}
    undisturbed, killed = (plan(eight, tmp_path / n, adapter=adapter, checkpoint_seconds=every) for n in "ab")
    facts = run(undisturbed)

    def kill(step):
        if step == at:
            raise Killed

    # on_step comes before the checkpoint of its step: what that step did is lost
    with pytest.raises(Killed):
        run(killed, on_step=kill)
    again = run(killed)
    assert distance(weights(undisturbed), weights(killed)) == 0
    assert {k: facts[k] for k in ("steps", "tokens", "best_step")} == {k: again[k] for k in ("steps", "tokens", "best_step")}
    logs = [[(r["step"], r["loss"]) for r in read_jsonl(p.folder / "log.jsonl")] for p in (undisturbed, killed)]
    assert logs[0] == logs[1] and [s for s, _ in logs[1]] == [1, 2, 3, 4, 5, 6]


def test_dropout_differs_from_step_to_step_and_seed_to_seed(eight, tmp_path):
    plans = [plan(eight, tmp_path / str(s), adapter={"dropout": 0.5}, steps=2, batch=8) for s in range(2)]
    plans[1].seed = 4
    for p in plans:
        run(p)
    assert distance(weights(plans[0]), weights(plans[1])) > 0.01


# -- the dev split --------------------------------------------------------------------------------------------------------


def looks(values):
    """A dev metric that gives the values one after another."""
    left = iter(values)
    return lambda model: next(left)


def test_early_stop_stops_and_keeps_the_best(eight, tmp_path):
    p = plan(eight, tmp_path / "a", dev=looks([0.1, 0.5, 0.4, 0.5, 9]), steps=20, batch=8, patience=2)
    facts = run(p)
    assert (facts["steps"], facts["planned_steps"], facts["stopped_early"], facts["best_step"], facts["dev"]) == (4, 20, True, 2, 0.5)
    best = plan(eight, tmp_path / "b", dev=looks([0.1, 0.5]), steps=20, batch=8)
    with pytest.raises(StopIteration):
        run(best)  # ends after its second look
    assert distance(weights(p), weights(best)) == 0


def test_a_training_killed_after_its_last_look_does_not_go_on(eight, tmp_path):
    p = plan(eight, tmp_path, dev=looks([0.5, 0.4, 0.3]), steps=20, batch=8, patience=2)
    first = run(p)  # its checkpoint lies there as if the process had been killed before the stage was recorded
    kept = weights(p)
    p.dev = looks([9.0] * 20)
    again = run(p)
    for key in ("steps", "stopped_early", "best_step", "dev"):
        assert again[key] == first[key], key
    assert distance(kept, weights(p)) == 0


def test_the_lower_the_better_is_a_matter_of_sign(eight, tmp_path):
    p = plan(eight, tmp_path, dev=looks([-0.9, -0.2, -0.4]), steps=3, batch=8)
    assert (run(p)["best_step"], run(p)["dev"]) == (2, -0.2)


def test_the_adapter_has_its_name_back_after_a_kill_between_two_renames(eight, tmp_path):
    p = plan(eight, tmp_path, dev=looks([0.5, 0.4, 0.3]), steps=3, batch=8)
    run(p)
    kept = weights(p)
    (p.folder / "best").rename(p.folder / ".best.old.part")
    (p.folder / ".best.part").mkdir()
    run(p)
    assert distance(kept, weights(p)) == 0
    assert sorted(f.name for f in p.folder.iterdir()) == ["best", "checkpoint.safetensors", "log.jsonl"]


# -- files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rslora", [False, True])
def test_the_adapter_says_what_it_is(rslora, eight, tmp_path):
    adapter = dict(rank=3, alpha=7, dropout=0.1, targets=("q_proj", "down_proj"), last_layers=2, rslora=rslora)
    p = plan(eight, tmp_path, adapter=adapter, steps=1)
    run(p, layers=4)
    config = read_json(p.folder / "best" / "adapter_config.json")
    assert (config["r"], config["lora_alpha"], config["lora_dropout"], config["use_rslora"]) == (3, 7, 0.1, rslora)
    assert sorted(config["target_modules"]) == ["down_proj", "q_proj"] and config["layers_to_transform"] == [2, 3]
    assert {k.split(".layers.")[1].split(".")[0] for k in weights(p)} == {"2", "3"}
    assert sorted(f.name for f in (p.folder / "best").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_rslora_scales_by_the_square_root_of_the_rank(eight, tmp_path):
    from scionwood.models.adapters import add_adapter

    for rslora, scale in ((False, 8 / 4), (True, 8 / 2)):
        model = add_adapter(tiny_model(layers=1), Adapter(rank=4, alpha=8, rslora=rslora), 0)
        assert {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")} == {scale}


def test_a_checkpoint_of_something_else_is_named(eight, tmp_path):
    p = plan(eight, tmp_path, steps=2)
    run(p)
    path = p.folder / "checkpoint.safetensors"
    for spoil in (lambda: path.write_bytes(path.read_bytes()[:200]), lambda: run(plan(eight, tmp_path, steps=2, adapter={"rank": 3}))):
        with pytest.raises(UserError, match="checkpoint.safetensors: not a checkpoint of this training .*; remove it"):
            spoil()
            run(p)


def test_the_log_drops_what_comes_after_the_checkpoint(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 1}\n{"step": 2, "loss": 2}\n{"step": 2, "dev": 0.5}\n{"step": 3, "loss": 3}\n{"st', "utf-8")
    log = JsonLines(path, 2)
    log({"step": 3, "loss": 4})
    assert read_jsonl(path) == [{"step": 1, "loss": 1}, {"step": 2, "loss": 2}, {"step": 2, "dev": 0.5}, {"step": 3, "loss": 4}]
    JsonLines(path)
    assert path.read_text() == ""


def test_only_one_trunk_is_kept(eight, renderer, tmp_path):
    other = build(renderer, rows(3), 512)
    for examples in (eight, other):
        key = trunk_key("b", 1, "fp32", examples)
        trunk = build_trunk(tiny_model(layers=2), examples, 1, tmp_path, key, CPU, contextlib.nullcontext)
        assert trunk.shape == (len(examples.tree), 32)
        assert [p.name for p in tmp_path.iterdir()] == [f"{key}.f32"]


def test_a_trunk_that_does_not_fit_the_disk_is_an_error(eight, tmp_path, monkeypatch):
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="the cached trunk needs .* GB .*cache_trunk = false"):
        run(plan(eight, tmp_path, adapter={"last_layers": 1}))


# -- distillation ---------------------------------------------------------------------------------------------------------


def kl(model, teacher, examples) -> float:
    """Mean KL(teacher || model) over the supervised positions."""
    row, places, *_ = row_of(examples, range(len(examples.items)))
    ids, positions, mask = to_tensors(row, CPU)
    with torch.no_grad():
        theirs, ours = (decoder.logits_at(m, decoder.run_layers(m, decoder.embed(m, ids), positions, mask), torch.from_numpy(places)).log_softmax(-1)
                        for m in (teacher, model))
    return F.kl_div(ours, theirs, log_target=True, reduction="batchmean").item()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_distillation_comes_nearer_to_the_teacher(temperature, eight, tmp_path):
    from scionwood.models.loading import load_adapter

    teacher = tiny_model(layers=2)  # the same embeddings: an adapter cannot learn others
    torch.manual_seed(1)
    for w in teacher.model.layers.parameters():
        w.add_(torch.randn_like(w) * 0.1)
    p = plan(eight, tmp_path, adapter={"rank": 8}, steps=25, batch=8, lr=0.01)
    p.teacher, p.temperature, p.weight = teacher, temperature, 1.0
    run(p)
    before, after = kl(tiny_model(layers=2), teacher, eight), kl(load_adapter(tiny_model(layers=2), p.folder / "best"), teacher, eight)
    assert after < 0.6 * before
    logged = [r["loss"] for r in read_jsonl(p.folder / "log.jsonl")]
    assert logged[-1] < logged[0]


def test_a_teacher_with_a_padded_vocabulary_distils(eight, tmp_path):
    p = plan(eight, tmp_path, steps=1)
    p.teacher, p.weight = tiny_model(layers=1, vocab=8300), 0.5
    assert math.isfinite(read_jsonl(run(p) and p.folder / "log.jsonl")[0]["loss"])


# -- bf16 -----------------------------------------------------------------------------------------------------------------


def test_bf16_weights_train_a_float32_adapter(eight, tmp_path):
    p = plan(eight, tmp_path, adapter={"last_layers": 1, "dropout": 0.1})
    train(tiny_model(layers=2).to(torch.bfloat16), p, CPU, torch.bfloat16)
    assert {w.dtype for w in weights(p).values()} == {torch.float32}
    model = tiny_model(layers=2).to(torch.bfloat16)
    row, *_ = row_of(eight, [0, 1])
    ids, positions, mask = to_tensors(row, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        assert decoder.run_layers(model, decoder.embed(model, ids), positions, mask).dtype == torch.float32


def test_the_seed_of_a_step_is_the_same_in_every_process():
    import subprocess
    import sys

    code = "print(hash((3, 5)) & 0x7FFFFFFF)"
    said = {subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": s}, capture_output=True, text=True).stdout for s in ("0", "1", "77")}
    assert said == {f"{hash((3, 5)) & 0x7FFFFFFF}\n"}
