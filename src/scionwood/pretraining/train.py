"""The pretraining loop: Muon on the body, AdamW on the rest, warm-up-stable-decay, resumable."""

import json
import math
import time
from pathlib import Path

from scionwood import files
from scionwood.errors import UserError
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


def train(model, recipe: Pretraining, folder: Path, report, *, tokens_before: int = 0) -> dict:
    """Train ``model`` on the prepared streams of ``folder``; go on from its checkpoint where there is one.

    Returns what the base card needs: tokens, minutes, the loss over the last steps, passes over each stream.
    Logs one JSON line a step to ``log.jsonl``. A loss that is not finite stops the run with the step named.
    """
    import torch
    import torch.nn.functional as F

    s = recipe.schedule
    device = next(model.parameters()).device
    steps, decay_steps = count_steps(s)
    *stable, decay = all_rows(recipe, folder)
    optimisers = Optimisers(model, s)
    checkpoint = folder / "checkpoint.safetensors"
    start, seconds = 0, 0.0
    if checkpoint.exists():
        progress = load_checkpoint(checkpoint, model, optimisers)
        start, seconds = progress["step"], progress["seconds"]
        report(f"going on from step {start} of {steps} (checkpoint of this folder)")
    model.train()
    begin, saved, losses = time.perf_counter(), time.perf_counter(), []
    with open(folder / "log.jsonl", "a", buffering=1) as log:
        for step in range(start, steps):
            rows, first, per_step = (decay, steps - decay_steps, s.step_tokens // s.decay_row) if step >= steps - decay_steps \
                else (stable[0], 0, s.step_tokens // s.row)
            at = (step - first) * per_step
            micro = max(1, s.micro_tokens // rows.length)
            total = 0.0
            for i in range(0, per_step, micro):
                x = torch.stack([torch.from_numpy(rows.row(at + j)) for j in range(i, min(i + micro, per_step))]).to(device)
                with torch.autocast(device.type, torch.bfloat16):
                    hidden = model.model(input_ids=x, use_cache=False).last_hidden_state
                    logits = model.lm_head(hidden[:, :-1])
                loss = F.cross_entropy(logits.float().flatten(0, 1), x[:, 1:].flatten(), reduction="sum")
                loss = loss / (per_step * (rows.length - 1))
                loss.backward()
                total += loss.item()
            if not math.isfinite(total):
                raise UserError(f"pretraining: the loss is {total} at step {step}; lower schedule.muon_lr and schedule.adam_lr")
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimisers.step(rate(step, steps, decay_steps, s.warmup_steps))
            losses.append(total)
            now = time.perf_counter()
            spent = seconds + now - begin
            log.write(json.dumps({"step": step, "loss": round(total, 4), "seconds": round(spent, 1)}) + "\n")
            report.step(step + 1, steps, total, (step + 1 - start) * s.step_tokens / (now - begin))
            if now - saved > recipe.checkpoint_minutes * 60 or step + 1 == steps:
                save_checkpoint(checkpoint, model, optimisers, {"step": step + 1, "seconds": spent})
                saved = now
    model.eval()
    return {"tokens": steps * s.step_tokens, "steps": steps, "minutes": round((seconds + time.perf_counter() - begin) / 60, 1),
            "tokens_before": tokens_before, "last_loss": round(sum(losses[-50:]) / max(1, len(losses[-50:])), 4), "passes": [r.epochs() for r in (*stable, decay)]}
