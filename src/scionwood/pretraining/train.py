"""The pretraining loop: Muon on the body, AdamW on the rest, warm-up-stable-decay, resumable."""

import contextlib
import functools
import json
import math
import time
from pathlib import Path

from scionwood import files
from scionwood.errors import UserError
from scionwood.models import machine
from scionwood.pretraining.settings import Pretraining, Schedule
from scionwood.pretraining.streams import Rows, scaled


def build(shape, tokenizer, seed: int):
    """A Qwen3-architecture model with random weights."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    return Qwen3ForCausalLM(Qwen3Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.positions,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        attention_bias=False,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        use_cache=True,
    ))


def rate(step: int, steps: int, decay_steps: int, warmup: int) -> float:
    """The factor on the learning rates at ``step`` of ``steps``: linear warm-up, then 1, then linear to zero."""
    left = steps - step
    return min((step + 1) / max(warmup, 1), 1.0, left / max(decay_steps, 1))


class Optimisers:
    """Muon for the 2-D weights of the body, AdamW for embeddings, head and norms."""

    def __init__(self, model, s: Schedule):
        import torch

        def is_body(name, p):
            return p.ndim == 2 and "embed" not in name and "lm_head" not in name

        named = list(model.named_parameters())
        body = [p for n, p in named if is_body(n, p)]
        tables = [p for n, p in named if p.ndim == 2 and not is_body(n, p)]
        norms = [p for n, p in named if p.ndim != 2]
        self.all = [
            torch.optim.Muon(body, lr=s.muon_lr, weight_decay=s.weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [{"params": tables, "weight_decay": 0.0}, {"params": norms, "weight_decay": 0.0}], lr=s.adam_lr, betas=(0.9, 0.95)
            ),
        ]
        self.base = [s.muon_lr, s.adam_lr]

    def step(self, factor: float) -> None:
        for opt, lr in zip(self.all, self.base):
            for group in opt.param_groups:
                group["lr"] = lr * factor
            opt.step()
            opt.zero_grad(set_to_none=True)

    def tensors(self) -> dict:
        """Every state tensor under a flat name, for safetensors."""
        return {f"opt{i}.{k}.{name}": t for i, opt in enumerate(self.all)
                for k, state in opt.state_dict()["state"].items() for name, t in state.items()}

    def load(self, tensors: dict) -> None:
        for i, opt in enumerate(self.all):
            state: dict = {}
            for key, t in tensors.items():
                which, k, name = key.split(".", 2)
                if which == f"opt{i}":
                    state.setdefault(int(k), {})[name] = t
            opt.load_state_dict({"state": state, "param_groups": opt.state_dict()["param_groups"]})


def save_checkpoint(path: Path, model, optimisers: Optimisers, progress: dict) -> None:
    """Weights, optimiser states and progress in one safetensors file."""
    weights = {f"model.{n}": p.detach().contiguous() for n, p in model.named_parameters()}
    files.write_tensors(path, weights | optimisers.tensors(), {"progress": json.dumps(progress)})


def load_checkpoint(path: Path, model, optimisers: Optimisers) -> dict:
    """Put a checkpoint back into model and optimisers; returns the progress."""
    import torch
    from safetensors import safe_open

    with safe_open(path, "pt") as f:
        progress = json.loads(f.metadata()["progress"])
        tensors = {k: f.get_tensor(k) for k in f.keys()}
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(tensors.pop(f"model.{n}"))
    optimisers.load(tensors)
    return progress


def count_steps(s: Schedule) -> tuple[int, int]:
    """(steps in all, steps of the decay)."""
    steps = max(1, s.tokens // s.step_tokens)
    return steps, max(1, round(steps * s.decay))


def all_rows(recipe: Pretraining, folder: Path) -> list[Rows]:
    """The rows of the stable part, where there is one, and of the decay, in the order of training."""
    s = recipe.schedule
    steps, decay_steps = count_steps(s)
    parts = [(recipe.mix, s.row, steps - decay_steps, s.seed), (recipe.decay_mix, s.decay_row, decay_steps, s.seed + 1)]
    return [Rows(folder / "streams", scaled(mix), row, n * (s.step_tokens // row), seed) for mix, row, n, seed in parts if n]


def steps_done(folder: Path) -> int:
    """How many steps the checkpoint of a run holds; 0 where there is none."""
    from safetensors import safe_open

    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, "pt") as f:
        return json.loads(f.metadata()["progress"])["step"]


def cut_log(path: Path, start: int) -> list[float]:
    """Take out of a log what a killed run did after its last checkpoint (those steps come again); returns the losses that stay."""
    kept: dict[int, dict] = {}
    for line in path.read_text("utf-8").split("\n") if path.exists() else []:
        with contextlib.suppress(ValueError):  # the last line of a killed run may be half a line
            row = json.loads(line)
            if row["step"] < start:
                kept[row["step"]] = row
    files.write_text(path, "".join(json.dumps(kept[step]) + "\n" for step in sorted(kept)))
    return [kept[step]["loss"] for step in sorted(kept)]


def describe(device) -> str:
    """The machine as it is used: a GPU that stands idle does not count."""
    import torch

    if device.type == "cpu" and torch.cuda.is_available():
        return f"{torch.get_num_threads()} threads of a CPU"
    return machine.describe()


def answer_weights(x, think_end: int, turn_end: int, weight: float):
    """``weight`` for the tokens of an answer (after ``</think>`` up to its turn end), 1 for all others; same shape as ``x``.

    An answer is a few tokens among many: unweighted, they are too small a part of the gradient to be learnt from early on.
    """
    import torch

    places = torch.arange(x.shape[1], device=x.device).expand_as(x)
    begun = torch.where(x == think_end, places, -1).cummax(1).values
    ended = torch.where(x == turn_end, places, -1).cummax(1).values
    ended_before = torch.cat([torch.full_like(ended[:, :1], -1), ended[:, :-1]], 1)  # the turn end itself still belongs to the answer
    inside = (begun > ended_before) & (x != think_end)
    return torch.where(inside, weight, 1.0)


def row_losses(model, rows: Rows, first: int, count: int, micro_tokens: int, weigh, autocast):
    """Yield (loss to go back through, loss to log) of each forward pass over ``count`` rows from row ``first`` on.

    The first ones sum to the mean over all tokens of the rows, weighted by ``weigh``, however the rows are cut into passes; the
    second ones to the plain mean in nats per token.
    """
    import torch
    import torch.nn.functional as F

    ids = torch.stack([torch.from_numpy(rows.row(first + j)) for j in range(count)]).to(next(model.parameters()).device)
    weights = weigh(ids)[:, 1:]
    whole, micro = weights.sum(), max(1, micro_tokens // rows.length)
    for x, w in zip(ids.split(micro), weights.split(micro)):
        with autocast():
            hidden = model.model(input_ids=x, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[:, :-1])
        losses = F.cross_entropy(logits.float().flatten(0, 1), x[:, 1:].flatten(), reduction="none")
        yield (losses * w.flatten()).sum() / whole, losses.detach().sum() / weights.numel()


def train(model, recipe: Pretraining, folder: Path, report, *, think_end: int = -1, turn_end: int = -1, tokens_before: int = 0) -> dict:
    """Train ``model`` on the prepared streams of ``folder``; go on from its checkpoint where there is one.

    Returns what the base card needs: tokens, minutes, the loss over the last steps, passes over each stream. The minutes are
    those of the steps that count: what a killed run did after its last checkpoint is done again and not counted twice. Logs
    one JSON line a step to ``log.jsonl``. A loss or gradient that is not finite stops the run with the step named.
    """
    import torch

    s = recipe.schedule
    device = next(model.parameters()).device
    steps, decay_steps = count_steps(s)
    *stable, decay = all_rows(recipe, folder)
    optimisers = Optimisers(model, s)
    checkpoint = folder / "checkpoint.safetensors"
    dtype, why = machine.choose_dtype(recipe.dtype, device)
    progress = {"step": 0, "seconds": 0.0, "dtype": "fp32" if dtype == torch.float32 else "bf16", "machines": []}
    if checkpoint.exists():
        # a checkpoint without "dtype" is of a version that always used bf16
        progress |= {"dtype": "bf16"} | load_checkpoint(checkpoint, model, optimisers)
        report(f"going on from step {progress['step']} of {steps} (checkpoint of this folder)")
        why = f"dtype: {progress['dtype']} (as this run began)"
    report(why)
    start, seconds = progress["step"], progress["seconds"]
    if start < steps:
        progress["machines"] = list(dict.fromkeys([*progress["machines"], describe(device)]))
    autocast = contextlib.nullcontext if progress["dtype"] == "fp32" else lambda: torch.autocast(device.type, torch.bfloat16)
    weigh = functools.partial(answer_weights, think_end=think_end, turn_end=turn_end, weight=s.answer_weight)
    losses = cut_log(folder / "log.jsonl", start)
    model.train()
    begin = saved = time.perf_counter()
    with open(folder / "log.jsonl", "a", buffering=1, encoding="utf-8") as log:
        for step in range(start, steps):
            rows, first = (decay, steps - decay_steps) if step >= steps - decay_steps else (stable[0], 0)
            per_step = s.step_tokens // rows.length
            total = 0.0
            try:
                for loss, plain in row_losses(model, rows, (step - first) * per_step, per_step, s.micro_tokens, weigh, autocast):
                    loss.backward()
                    total += plain.item()
            except torch.OutOfMemoryError:
                raise UserError(f"pretraining: too little memory on {device}; lower schedule.micro_tokens = {s.micro_tokens}") from None
            length = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
            if not math.isfinite(total + length):
                raise UserError(f"pretraining: the loss is {total} and its gradient {length} at step {step}; lower schedule.muon_lr and "
                                "schedule.adam_lr, and begin anew with another --out")
            optimisers.step(rate(step, steps, decay_steps, s.warmup_steps))
            losses.append(total)
            now = time.perf_counter()
            progress |= {"step": step + 1, "seconds": seconds + now - begin}
            log.write(json.dumps({"step": step, "loss": round(total, 4), "seconds": round(progress["seconds"], 1)}) + "\n")
            report.step(step + 1, steps, total, (step + 1 - start) * s.step_tokens / (now - begin))
            if now - saved > recipe.checkpoint_minutes * 60 or step + 1 == steps:
                save_checkpoint(checkpoint, model, optimisers, progress)
                saved = now
    model.eval()
    last = losses[-50:]
    return {"tokens": steps * s.step_tokens, "steps": steps, "minutes": round(progress["seconds"] / 60, 1), "tokens_before": tokens_before,
            "last_loss": round(sum(last) / len(last), 4) if last else None, "passes": [r.epochs() for r in (*stable, decay)],
            "dtype": progress["dtype"], "machine": " and then ".join(progress["machines"]) or describe(device)}
