"""The training loop: tree batches, loss at supervised positions, checkpoints that a kill cannot break."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Sequence

from scionwood import files
from scionwood.errors import UserError
from scionwood.models import decoder
from scionwood.models.adapters import add_adapter, frozen_layers, trainable
from scionwood.models.settings import Adapter
from scionwood.models.trees import to_tensors
from scionwood.training import losses
from scionwood.training.examples import Examples, embed_row, micro_batches, row_of, shuffle
from scionwood.training.monitors import JsonLines, Monitor, peak_memory_mb
from scionwood.training.settings import Train
from scionwood.training.trunk import build_trunk, trunk_key


@dataclass
class Plan:
    """What a training needs besides the model: all that determines its result."""

    examples: Examples
    adapter: Adapter
    train: Train
    seed: int
    base_hash: str
    folder: Path
    cache: Path
    dev: Callable[[object], float] | None = None  # model -> dev metric, higher is better
    teacher: object | None = None  # a local model whose logits are distilled
    temperature: float = 1.0
    weight: float = 0.0
    # model, step, the look at step 0 -> figures, asked every train.watch.every steps; "stop" among them, a reason, ends the training
    watch: Callable[[object, int, dict | None], dict] | None = None
    shared: bool = True  # False packs every case on its own: the reference that the tree is checked against
    # another loss of a row, called as row_loss is and divided in the same way; None: cross-entropy at the supervised tokens
    objective: Callable | None = None
    modules: dict[str, object] = field(default_factory=dict)  # name -> further torch.nn.Module to train: NAME.safetensors beside the adapter


def autocast_for(device, dtype):
    """A context in which matrix products run in ``dtype``; nothing to do for fp32."""
    import torch

    if dtype == torch.float32:
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, dtype)


def learning_rate(step: int, steps: int, t: Train) -> float:
    """The factor at ``step``: linear warm-up over a share of the steps, then cosine to zero or constant."""
    warm = round(t.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if t.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def batch_size(plan: Plan) -> int:
    """Examples of one step: ``train.batch``, or all of them where there are fewer."""
    return min(plan.train.batch, len(plan.examples.items))


def step_examples(plan: Plan, step: int) -> list[int]:
    """Which examples make up a step. Epochs follow one another in one stream; the last batch of an epoch is not dropped."""
    n, b = len(plan.examples.items), batch_size(plan)
    out: list[int] = []
    at = step * b
    while len(out) < b:
        epoch, offset = divmod(at + len(out), n)
        order = shuffle(n, plan.seed, epoch)
        out.extend(int(i) for i in order[offset : offset + b - len(out)])
    return out


def count_steps(plan: Plan) -> int:
    """How many optimiser steps a plan takes."""
    if plan.train.steps:
        return plan.train.steps
    return max(1, math.ceil(plan.train.epochs * len(plan.examples.items) / batch_size(plan)))


def row_loss(model, plan: Plan, chosen: Sequence[int], divisor: float, *, device, autocast, trunk=None, first: int = 0):
    """The loss of one row of examples: the sum over its supervised tokens over ``divisor``."""
    import torch

    row, places, labels, weights = row_of(plan.examples, chosen, plan.shared)
    ids, positions, mask = to_tensors(row, device)
    places, labels, weights = (torch.from_numpy(a).to(device) for a in (places, labels, weights))
    with autocast():
        if trunk is None:
            hidden = embed_row(model, plan.examples, chosen, row, ids)
        else:
            hidden = torch.from_numpy(trunk[row.nodes])[None].to(device)
        hidden = decoder.run_layers(model, hidden, positions, mask, first if trunk is not None else 0,
                                    recompute=plan.train.recompute)
        if plan.teacher is None:
            return losses.cross_entropy(lambda s: decoder.logits_at(model, hidden, places[s]), len(places), labels, divisor, weights,
                                        plan.train.entropy_weight)
        with torch.no_grad():
            told = decoder.run_layers(plan.teacher, embed_row(plan.teacher, plan.examples, chosen, row, ids), positions, mask)
            soft = decoder.logits_at(plan.teacher, told, places)
        return losses.distillation(decoder.logits_at(model, hidden, places), soft, labels, plan.temperature, plan.weight, divisor, weights,
                                   plan.train.entropy_weight)


def blame(model, plan: Plan, chosen: Sequence[int], **kw) -> str:
    """The id of the first case of a row whose own loss is not finite, for the error message."""
    import torch

    with torch.no_grad():
        for i in chosen:
            if not math.isfinite((plan.objective or row_loss)(model, plan, [i], 1.0, **kw).item()):
                return plan.examples.items[i].id
    return plan.examples.items[chosen[0]].id


def train(base, plan: Plan, device, dtype, monitors: Sequence[Monitor] = (), on_step: Callable[[int], None] | None = None) -> dict:
    """Train a fresh adapter on ``base`` and leave the best one in ``plan.folder`` in PEFT format.

    Goes on from the checkpoint in ``plan.folder`` where there is one, to the same final weights as an undisturbed run: data
    order and dropout depend on seed and step alone. Returns facts about the training; raises UserError on a loss that is
    not finite, naming the case that caused it.
    """
    import torch

    t = plan.train
    if not plan.examples.items:
        raise UserError("training: there is no case to train on; look at what the task's gate and the teacher leave over")
    first = frozen_layers(base, plan.adapter)
    autocast = autocast_for(device, dtype)
    model = add_adapter(base, plan.adapter, plan.seed)
    weights = trainable(model) | module_weights(plan.modules, device)
    optimiser = torch.optim.AdamW(weights.values(), lr=t.lr, weight_decay=t.weight_decay)
    steps = count_steps(plan)
    trunk = None
    # a cached trunk is read again only from the second pass on; for less than one epoch it would be work for nothing
    if first and t.cache_trunk and plan.shared and steps * batch_size(plan) > len(plan.examples.items):
        key = trunk_key(plan.base_hash, first, str(dtype), plan.examples)
        trunk = build_trunk(model, plan.examples, first, plan.cache, key, device, autocast)

    restore_adapter(plan.folder / "best")
    state = Checkpoint(plan.folder / "checkpoint.safetensors")
    progress = state.load(weights, optimiser) or {"step": 0, "seconds": 0.0, "tokens": 0, "best": None, "best_step": 0, "bad_looks": 0}
    log = JsonLines(plan.folder / "log.jsonl", progress["step"] or -1)  # without a checkpoint, the look at step 0 comes again too
    look_every = max(1, round(t.dev_every * len(plan.examples.items) / batch_size(plan)))
    context = {"device": device, "autocast": autocast, "trunk": trunk, "first": first}
    began, saved, earlier = time.perf_counter(), time.perf_counter(), progress["seconds"]

    def switch(training: bool) -> None:
        for module in (model, *plan.modules.values()):
            module.train(training)

    def tell(event: dict) -> None:
        for m in (log, *monitors):
            m(event)

    def look(step: int) -> bool:
        """Watch the model; return whether that ends the training. Without a dev split, the last model that was well is kept."""
        switch(False)
        figures = plan.watch(model, step, progress.get("watched"))
        tell({"step": step} | figures)
        progress.setdefault("watched", figures)
        if figures.get("stop"):
            progress["stop"] = figures["stop"]
        elif step and not plan.dev:
            progress["best_step"] = step
            save_adapter(model, plan.folder / "best", plan.modules)
        return "stop" in progress

    watching = bool(plan.watch and t.watch.every)
    if watching and "watched" not in progress:
        look(0)
    # killed after its last look: it must not go on
    stopped = "stop" in progress or (bool(t.patience) and progress["bad_looks"] >= t.patience)
    for step in range(progress["step"], progress["step"] if stopped else steps):
        torch.manual_seed(hash((plan.seed, step)) & 0x7FFFFFFF)  # dropout: the same on resume
        switch(True)
        chosen = step_examples(plan, step)
        divisor = float(sum(plan.examples.items[i].weight * len(plan.examples.items[i].labels) for i in chosen))
        total, tokens = 0.0, 0
        for group in micro_batches(plan.examples, chosen, t.micro_tokens):
            loss = (plan.objective or row_loss)(model, plan, group, divisor, **context)
            loss.backward()
            value = loss.item()
            if not math.isfinite(value):
                raise UserError(f"training: the loss became {value} at step {step + 1} in case {blame(model, plan, group, **context)}; "
                                "look at that case with 'scion show', or lower train.lr")
            total += value
            tokens += sum(len(plan.examples.items[i].path) for i in group)
        if t.clip:
            torch.nn.utils.clip_grad_norm_(weights.values(), t.clip)
        for g in optimiser.param_groups:
            g["lr"] = t.lr * learning_rate(step, steps, t)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        progress["step"], progress["tokens"] = step + 1, progress["tokens"] + tokens
        progress["seconds"] = earlier + time.perf_counter() - began
        tell({"step": step + 1, "loss": round(total, 5), "lr": g["lr"], "seconds": round(progress["seconds"], 2),
              "tokens_per_s": round(progress["tokens"] / max(progress["seconds"], 1e-9)), "memory_mb": round(peak_memory_mb())})
        last = step + 1 == steps
        if plan.dev and ((step + 1) % look_every == 0 or last):
            switch(False)
            value = plan.dev(model)
            tell({"step": step + 1, "dev": round(value, 5)})
            if progress["best"] is None or value > progress["best"]:
                progress |= {"best": value, "best_step": step + 1, "bad_looks": 0}
                save_adapter(model, plan.folder / "best", plan.modules)
            else:
                progress["bad_looks"] += 1
                stopped = bool(t.patience) and progress["bad_looks"] >= t.patience
        if watching and ((step + 1) % t.watch.every == 0 or last):
            stopped = look(step + 1) or stopped
        if on_step:
            on_step(step + 1)
        if last or stopped or time.perf_counter() - saved >= t.checkpoint_seconds:
            state.save(weights, optimiser, progress)
            saved = time.perf_counter()
        if stopped:
            break
    log.file.close()
    switch(False)
    if not plan.dev and not ("stop" in progress and progress["best_step"]):
        save_adapter(model, plan.folder / "best", plan.modules)
    return {"steps": progress["step"], "planned_steps": steps, "stopped_early": stopped, "best_step": (progress["best_step"] if plan.dev or "stop" in progress else 0) or progress["step"],
            "dev": progress["best"], "seconds": round(progress["seconds"], 1), "tokens": progress["tokens"],
            "peak_memory_mb": round(peak_memory_mb()), "trainable": sum(p.numel() for p in weights.values()),
            "cached_layers": first if trunk is not None else 0} | ({"stop": progress["stop"]} if "stop" in progress else {})


def module_weights(modules: dict, device) -> dict:
    """``{"module.NAME.parameter": parameter}`` of the further modules of a plan, moved to the device in float32."""
    return {f"module.{name}.{n}": p for name, module in modules.items() for n, p in module.to(device).float().named_parameters()}


def save_adapter(model, folder: Path, modules: dict | None = None) -> None:
    """Write the adapter in PEFT format, and each further module as NAME.safetensors, so that the folder is whole or not there."""
    import shutil

    part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old.part")
    shutil.rmtree(part, ignore_errors=True)
    # "auto" would ask the hub whether the base's embeddings were resized
    model.save_pretrained(part, safe_serialization=True, save_embedding_layers=False)
    (part / "README.md").unlink(missing_ok=True)  # PEFT's empty card; ours is the run's README
    for name, module in (modules or {}).items():
        files.write_tensors(part / f"{name}.safetensors", {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()})
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore_adapter(folder: Path) -> None:
    """Clear up what a kill in ``save_adapter`` left; between its two renames the adapter had no name: it gets it back."""
    import shutil

    part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old.part")
    if old.exists() and not folder.exists():
        old.rename(folder)
    for rest in (part, old):
        shutil.rmtree(rest, ignore_errors=True)


class Checkpoint:
    """Adapter weights, Adam's moments and the progress in one safetensors file."""

    def __init__(self, path: Path):
        self.path = path

    def save(self, weights: dict, optimiser, progress: dict) -> None:
        tensors = {f"w.{n}": p.detach().cpu().contiguous() for n, p in weights.items()}
        for i, state in optimiser.state_dict()["state"].items():
            tensors |= {f"o.{i}.{k}": v.cpu() for k, v in state.items()}
        files.write_tensors(self.path, tensors, {"progress": json.dumps(progress)})

    def load(self, weights: dict, optimiser) -> dict | None:
        import torch
        from safetensors import SafetensorError, safe_open

        if not self.path.exists():
            return None
        state: dict[int, dict] = {}
        try:
            with safe_open(self.path, "pt") as f, torch.no_grad():
                progress = json.loads(f.metadata()["progress"])
                for key in f.keys():
                    kind, rest = key.split(".", 1)
                    if kind == "w":
                        weights[rest].copy_(f.get_tensor(key))
                    else:
                        i, name = rest.split(".", 1)
                        state.setdefault(int(i), {})[name] = f.get_tensor(key)
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as e:
            raise UserError(f"{self.path}: not a checkpoint of this training ({e}); remove it to train from the beginning") from None
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        return progress
