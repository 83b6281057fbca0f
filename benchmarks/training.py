"""Our training loop against TRL's SFTTrainer: cases per second, peak memory and the losses of both, in one run.

Both train the same LoRA (same modules, rank, scale and drawn weights; checked) on a randomly initialised model of the
Qwen3-0.6B shape, on exactly the same tokens and labels (checked), with AdamW, a constant learning rate and the same
clipping. Every optimiser step takes all cases. Each side runs in a process of its own, one after the other, so that the
peak memory is that side's alone. The first step warms up: its loss is compared, its time is not.

TRL keeps its defaults wherever they leave the task as it is: micro-batches of 8, activation checkpointing, fused AdamW,
logits at supervised positions only. Ours does what ``scion train`` does, its settings of glibc's malloc included. All cases
are equally long, so that TRL computes no padding.

    python benchmarks/training.py --no-checkpointing --json training.json
    python benchmarks/training.py --layers 2 --hidden 64 --vocab 512 --prefix 60 --own 20      # a smoke test
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from scionwood import files
from scionwood.errors import UserError, run_script
from scionwood.models.settings import Adapter
from scionwood.training.settings import Train

# The parent imports no torch: a process starts with its parent's peak memory as its own.

SEED = 0
ADAPTER = Adapter()
TRAIN = Train(schedule="constant", warmup=0.0, recompute=True)  # recomputed activations are TRL's default, so they are ours here
NAMES = {"trl": "TRL SFTTrainer, its defaults", "trl-plain": "TRL, no checkpointing", "ours": "scionwood"}
TOO_BIG = 77  # the exit status of a side that ran out of memory


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--layers", type=int, default=28)
    add("--hidden", type=int, default=1024, help="a multiple of 64; heads and intermediate size follow (default: %(default)s)")
    add("--vocab", type=int, default=151_936)
    add("--prefix", type=int, default=600, help="prompt tokens that all cases share (default: %(default)s)")
    add("--own", type=int, default=90, help="tokens of a case's own, about a third of them supervised (default: %(default)s)")
    add("--cases", type=int, default=16, help="cases, all of them in every optimiser step (default: %(default)s)")
    add("--steps", type=int, default=3, help="optimiser steps; the first is not timed (default: %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    add("--dtype", choices=("fp32", "bf16"), default="fp32", help="bf16 is autocast on both sides (default: %(default)s)")
    add("--trl-micro", type=int, default=8, help="TRL's micro-batch, halved where it does not fit (default: %(default)s)")
    add("--ours-micro-tokens", type=int, default=TRAIN.micro_tokens, help="our train.micro_tokens (default: %(default)s)")
    add("--no-checkpointing", action="store_true", help="one more row: TRL without activation checkpointing")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    add("--side", choices=tuple(NAMES), help=argparse.SUPPRESS)  # what a child process is told
    add("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 2:
        parser.error("--steps: at least 2 are needed, since the first is not timed")
    if args.own < 6 or args.hidden % 64:
        parser.error("--own: at least 6 tokens; --hidden: a multiple of 64")
    return args


# -- what both sides share ----------------------------------------------------------------------------------------------------


def make_cases(args) -> list[tuple[list[int], list[int]]]:
    """Random ``(prompt, answer)`` token ids: a common beginning, then each case's own tokens."""
    rng = np.random.default_rng(SEED)
    prefix, third, spread = rng.integers(args.vocab, size=args.prefix).tolist(), args.own // 3, args.own // 18
    cases = []
    for _ in range(args.cases):
        own, answer = rng.integers(args.vocab, size=args.own).tolist(), int(rng.integers(third - spread, third + spread + 1))
        cases.append((prefix + own[:-answer], own[-answer:]))
    return cases


def make_model(args, device):
    """A frozen random model in fp32, the same in every process."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    heads = args.hidden // 64
    torch.manual_seed(SEED)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=args.vocab, hidden_size=args.hidden, intermediate_size=3 * args.hidden, num_hidden_layers=args.layers,
        num_attention_heads=heads, num_key_value_heads=max(1, heads // 2), head_dim=128, tie_word_embeddings=True,
        max_position_embeddings=40_960, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, attn_implementation="sdpa",
    ))
    model.requires_grad_(False)
    return model.to(device)


def fingerprint(*arrays) -> str:
    """A hash of the contents of arrays or lists of integers."""
    h = hashlib.sha256()
    for a in arrays:
        h.update(np.ascontiguousarray(a).tobytes())
    return h.hexdigest()[:16]


def drawn_weights(model) -> str:
    """The fingerprint of LoRA's A. B starts at zero, which keeps A as it was drawn until the second step."""
    from scionwood.models.adapters import trainable

    return fingerprint(*(p.detach().float().cpu().numpy() for n, p in trainable(model).items() if "lora_A" in n))


class Clock:
    """Notes when each optimiser step ended, once the device has done all its work."""

    def __init__(self, device):
        self.device, self.at = device, [time.perf_counter()]

    def tick(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.at.append(time.perf_counter())

    def seconds(self) -> list[float]:
        return np.diff(self.at).round(4).tolist()


# -- the two sides --------------------------------------------------------------------------------------------------------------


def ours(args, device, dtype, folder: Path) -> dict:
    from scionwood.models import machine
    from scionwood.models.attention import use_tree_attention
    from scionwood.models.trees import TokenTree
    from scionwood.training.examples import Examples, supervised
    from scionwood.training.loop import Plan, train

    machine.tune_memory(lean=TRAIN.recompute)
    tree = TokenTree()
    items = [supervised(tree, f"case {i}", prompt, answer) for i, (prompt, answer) in enumerate(make_cases(args))]
    # no checkpoint between the steps that are timed; TRL writes none either
    settings = {"steps": args.steps, "batch": args.cases, "micro_tokens": args.ours_micro_tokens, "checkpoint_seconds": 1e9}
    plan = Plan(Examples(tree, items), ADAPTER, TRAIN.model_copy(update=settings), SEED, "random", folder, folder)
    model, clock, losses, drawn = use_tree_attention(make_model(args, device)), Clock(device), [], []

    def monitor(event: dict) -> None:
        losses.append(event["loss"])

    def on_step(step: int) -> None:
        clock.tick()
        if step == 1:
            drawn.append(drawn_weights(model))  # PEFT puts the adapter into the model itself

    facts = train(model, plan, device, dtype, [monitor], on_step)
    seen = []
    for e in items:  # back from the tree, in the form that TRL is given
        ids = [tree.tokens[n] for n in e.path] + [int(e.labels[-1])]
        labels = np.full(len(ids), -100)
        labels[e.at + 1] = e.labels
        seen += [ids, labels]
    return {"losses": losses, "seconds": clock.seconds(), "data": fingerprint(*seen), "drawn": drawn[0],
            "trainable": facts["trainable"], "micro_batch": f"{args.ours_micro_tokens} tokens"}


def trl(args, device, dtype, folder: Path, checkpointing: bool) -> dict:
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from scionwood.models.adapters import add_adapter
    from scionwood.models.loading import embedded_folder

    rows = [{"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer} for prompt, answer in make_cases(args)]
    micro = min(args.trl_micro, args.cases)
    config = SFTConfig(
        output_dir=str(folder), seed=SEED, use_cpu=device.type == "cpu", bf16=dtype == torch.bfloat16, max_steps=args.steps,
        per_device_train_batch_size=micro, gradient_accumulation_steps=-(-args.cases // micro),
        max_length=max(1024, args.prefix + args.own),  # TRL's default is 1024; nothing may be cut
        learning_rate=TRAIN.lr, lr_scheduler_type=TRAIN.schedule, weight_decay=TRAIN.weight_decay, max_grad_norm=TRAIN.clip,
        logging_steps=1, save_strategy="no", report_to="none",
        **({} if checkpointing else {"gradient_checkpointing": False}),
    )
    model = add_adapter(make_model(args, device), ADAPTER, SEED)
    drawn, losses, clock = drawn_weights(model), [], Clock(device)

    class Watch(TrainerCallback):
        def on_step_end(self, *_, **__):
            clock.tick()

        def on_log(self, *_, logs: dict, **__):
            if "loss" in logs:
                losses.append(logs["loss"])

    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())  # TRL wants one for its padding token, which is never used
    trainer = SFTTrainer(model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[Watch()])
    trainer.train()
    seen = [part for row in trainer.train_dataset for part in (row["input_ids"], row["labels"])]
    return {"losses": losses, "seconds": clock.seconds(), "data": fingerprint(*seen), "drawn": drawn,
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad), "micro_batch": f"{micro} cases"}


def run_side(args) -> None:
    """What a child process does: train one side and write its figures to ``--out``."""
    import torch

    from scionwood.models import machine
    from scionwood.training.monitors import peak_memory_mb

    machine.limit_threads()
    device, why = machine.choose_device(args.device)
    dtype = machine.choose_dtype(args.dtype, device)[0]
    try:
        if args.side == "ours":
            row = ours(args, device, dtype, args.out.parent)
        else:
            row = trl(args, device, dtype, args.out.parent, checkpointing=args.side == "trl")
    except RuntimeError as e:  # torch.OutOfMemoryError is one
        if isinstance(e, torch.OutOfMemoryError) or "can't allocate memory" in str(e):
            sys.exit(TOO_BIG)
        raise
    files.write_json(args.out, row | {"peak_mb": round(peak_memory_mb()), "device": why, "threads": torch.get_num_threads()})


# -- the comparison --------------------------------------------------------------------------------------------------------------


def measure(args, side: str) -> dict:
    """Run one side in a process of its own. TRL's micro-batch is halved until it fits the memory."""
    env = os.environ | {"HF_HUB_OFFLINE": "1"} | ({"CUDA_VISIBLE_DEVICES": ""} if args.device == "cpu" else {})
    micro = args.trl_micro
    while True:
        with tempfile.TemporaryDirectory(prefix="scionwood-bench-") as folder:
            out = Path(folder) / "row.json"
            command = [sys.executable, __file__, *sys.argv[1:], "--trl-micro", str(micro), "--side", side, "--out", str(out)]
            child = subprocess.Popen(command, env=env, stdout=sys.stderr)
            offer_to_oom_killer(child.pid)
            status = child.wait()
            if status == 0:
                row = files.read_json(out)
                timed = row["seconds"][1:]
                return {"side": side, "name": NAMES[side], "cases_per_s": args.cases * len(timed) / sum(timed)} | row
        if status not in (TOO_BIG, -9):
            raise UserError(f"{NAMES[side]}: ended with status {status}; see its messages above")
        if side == "ours" or micro == 1:
            raise UserError(f"{NAMES[side]}: out of memory; try fewer --layers or a smaller --ours-micro-tokens")
        micro //= 2
        print(f"{NAMES[side]}: out of memory, trying again with micro-batches of {micro}", file=sys.stderr)


def offer_to_oom_killer(pid: int) -> None:
    """Where Linux runs out of memory, it shall end this child rather than a stranger's process."""
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    except OSError:
        pass


def largest_difference(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) / abs(y) for x, y in zip(a, b, strict=True))


def compare(rows: list[dict]) -> None:
    """Add each row's ratios to TRL's defaults and the difference of its losses; sides that differ in the task are an error."""
    first = rows[0]
    for row in rows:
        for what in ("data", "drawn", "trainable"):
            if row[what] != first[what]:
                raise UserError(f"{row['name']}: another task than that of {first['name']} ({what}: {row[what]}, {first[what]})")
        row["speed_ratio"] = row["cases_per_s"] / first["cases_per_s"]
        row["memory_ratio"] = row["peak_mb"] / first["peak_mb"]
        row["loss_difference"] = largest_difference(row["losses"], first["losses"])


def show(args, rows: list[dict]) -> None:
    print(f"{args.layers} layers, hidden {args.hidden}, vocabulary {args.vocab}; "
          f"{args.cases} cases of {args.prefix} common and {args.own} own tokens\n"
          f"{args.dtype}; {rows[0]['device']}; threads: {rows[0]['threads']}")
    print(f"LoRA rank {ADAPTER.rank} on {len(ADAPTER.targets)} modules, {rows[0]['trainable']:,} weights; "
          "same tokens, labels and drawn weights on all sides (checked)\n")
    print(f"{'':30}{'micro-batch':>13}{'cases/s':>10}{'ratio':>8}{'peak MB':>10}{'ratio':>8}{'loss diff.':>12}")
    for r in rows:
        print(f"{r['name']:30}{r['micro_batch']:>13}{r['cases_per_s']:10.3f}{r['speed_ratio']:8.2f}"
              f"{r['peak_mb']:10,}{r['memory_ratio']:8.2f}{r['loss_difference']:12.1e}")
    print(f"\n{'step':40}" + "".join(f"{n:>11}" for n in range(1, args.steps + 1)))
    for r in rows:
        print(f"{r['name'] + ', loss':40}" + "".join(f"{x:11.5f}" for x in r["losses"]))
        print(f"{r['name'] + ', seconds':40}" + "".join(f"{x:11.3f}" for x in r["seconds"]))
    print("\nRatios are to the first row; loss diff. is the largest relative difference of a step's loss to the first row's.\n"
          "Both recompute activations in the backward pass (TRL's default): less memory, more time.\n"
          "Speed is that of the steps after the first, whose seconds include setting up. Peak memory is that of the process\n"
          "(on CUDA: of the tensors on the device).")


def main() -> None:
    args = arguments()
    if args.side:
        return run_side(args)
    rows = [measure(args, side) for side in ("trl", *(["trl-plain"] if args.no_checkpointing else []), "ours")]
    compare(rows)
    show(args, rows)
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k not in ("json", "side", "out")}
        versions = {p: version(p) for p in ("scionwood", "torch", "transformers", "peft", "trl")}
        files.write_json(args.json, {"settings": settings, "versions": versions, "rows": rows})


if __name__ == "__main__":
    run_script(main)
