"""A verbalizer (AV) or a reconstructor (AR) trained by the shared engine and by a plain transformers loop: texts/s, memory, same losses.

Both sides train the same LoRA (drawn alike; checked by the first loss) on a randomly initialised model, on the same tokens, by AdamW
with a constant learning rate. The plain side is what one writes first: texts padded in batches of --micro in the order given.

--half av: vectors are injected at the marker of one prompt; plain: by a hook on the embedding layer, with logits at every position
and cross-entropy with the prompt masked by -100. --half ar: words to a vector; plain: the blocks above K, at two thirds of the depth,
and the final norm taken off, no logits, a value head that starts as the identity on the state of the last real token, and the mean
squared error of both vectors at the norm sqrt(d).

Each side runs in a process of its own. Every step takes all texts; the first warms up: its loss is compared, its time is not. Ours
raises glibc's thresholds as every run of `scion` does, and fills its forward passes to the engine's default of tokens.

    python benchmarks/verbalizing.py --half ar --json reconstructing.json
    python benchmarks/verbalizing.py --layers 2 --hidden 64 --vocab 512 --prompt 30 --texts 4        # a smoke test
"""

from __future__ import annotations

import argparse
import os
import re
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
from scionwood.tasks.nla.extract import default_layer
from scionwood.training.settings import Train

SEED, SCALE, BEHIND = 0, 150.0, 12  # tokens of the prompt behind the marker: its closing tag and the assistant's header
LEFT, MARKER, RIGHT = 3, 4, 5
ADAPTER, TRAIN = Adapter(), Train(schedule="constant", warmup=0.0)
NAMES = {"plain": "transformers, plain loop", "ours": "scionwood"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--half", choices=("av", "ar"), default="av", help="which of the two is trained (default: %(default)s)")
    add("--layers", type=int, default=8)
    add("--hidden", type=int, default=1024, help="a multiple of 64; heads and intermediate size follow (default: %(default)s)")
    add("--vocab", type=int, default=151_936)
    add("--prompt", type=int, default=90, help="av: tokens of the prompt, the same but for the vector (default: %(default)s)")
    add("--longest", type=int, default=120, help="tokens of the longest text; the shortest has a third of them (default: %(default)s)")
    add("--texts", type=int, default=16, help="texts, each with a vector of its own, all in every step (default: %(default)s)")
    add("--micro", type=int, default=8, help="texts of a forward pass of the plain side (default: %(default)s)")
    add("--steps", type=int, default=3, help="optimiser steps; the first is not timed (default: %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    add("--side", choices=tuple(NAMES), help=argparse.SUPPRESS)  # what a child process is told
    add("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 2 or args.prompt < BEHIND + 4 or args.hidden % 64:
        parser.error(f"--steps: at least 2; --prompt: at least {BEHIND + 4}; --hidden: a multiple of 64")
    return args


def make_cases(args) -> tuple[list[int], list[list[int]], np.ndarray]:
    """The prompt with its marker, the answers, and the vectors."""
    rng = np.random.default_rng(SEED)
    prompt = rng.integers(8, args.vocab, args.prompt).tolist()
    at = args.prompt - BEHIND
    prompt[at - 1 : at + 2] = LEFT, MARKER, RIGHT
    answers = [rng.integers(8, args.vocab, n).tolist() for n in rng.integers(args.longest // 3, args.longest + 1, args.texts)]
    return prompt, answers, rng.normal(size=(args.texts, args.hidden)).astype(np.float32)


def make_words(args) -> tuple:
    """The embedded base's tokenizer, texts of random words (a token each but for the first), and the vectors to lead to."""
    from scionwood.models.loading import load_tokenizer

    tokenizer, rng = load_tokenizer("embedded"), np.random.default_rng(SEED)
    if args.vocab < len(tokenizer):
        raise UserError(f"--vocab {args.vocab}: the reconstructor's texts hold tokens up to {len(tokenizer)}; give at least that")
    known = [t for t in map(tokenizer.decode, range(len(tokenizer))) if re.fullmatch(" [a-z]+", t)]
    words = ["".join(rng.choice(known, n)).strip() for n in rng.integers(args.longest // 3, args.longest + 1, args.texts)]
    return tokenizer, words, rng.normal(size=(args.texts, args.hidden)).astype(np.float32)


def make_model(args, device):
    """A frozen random model, the same in every process."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    heads = args.hidden // 64
    torch.manual_seed(SEED)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=args.vocab, hidden_size=args.hidden, intermediate_size=3 * args.hidden, num_hidden_layers=args.layers,
        num_attention_heads=heads, num_key_value_heads=max(1, heads // 2), head_dim=128, tie_word_embeddings=True,
        max_position_embeddings=40_960, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, attn_implementation="sdpa",
    ))
    return model.requires_grad_(False).to(device)


def ours_av(args, device, settings: Train, folder: Path, **told) -> None:
    import torch

    from scionwood.models.attention import use_tree_attention
    from scionwood.models.trees import TokenTree
    from scionwood.tasks.nla.injection import to_scale
    from scionwood.training.examples import Example, Examples, add_with_vector
    from scionwood.training.loop import Plan, train

    prompt, answers, vectors = make_cases(args)
    at, tree, items, given = prompt.index(MARKER), TokenTree(), [], {}
    for n, (answer, vector) in enumerate(zip(answers, to_scale(vectors, SCALE).numpy())):
        path = add_with_vector(tree, prompt + answer[:-1], at, n)
        given[int(path[at])] = vector
        items.append(Example(f"text {n}", path, np.arange(len(prompt) - 1, len(path)), np.array(answer)))
    plan = Plan(Examples(tree, items, given), ADAPTER, settings, SEED, "random", folder, folder)
    train(use_tree_attention(make_model(args, device)), plan, device, torch.float32, **told)


def ours_ar(args, device, settings: Train, folder: Path, **told) -> None:
    import torch

    from scionwood.tasks.nla.reconstructor import Pairs, train_reconstructor

    tokenizer, words, vectors = make_words(args)
    train_reconstructor(make_model(args, device), tokenizer, Pairs(words, vectors), None, layer=default_layer(args.layers)[0],
                        adapter=ADAPTER, train=settings, seed=SEED, base_hash="random", folder=folder, cache=folder, device=device,
                        dtype=torch.float32, **told)


def ours(args, device, folder: Path, tick) -> list[float]:
    from scionwood.models import machine

    machine.tune_memory()
    losses: list[float] = []
    settings = TRAIN.model_copy(update={"steps": args.steps, "batch": args.texts, "checkpoint_seconds": 1e9})
    (ours_av if args.half == "av" else ours_ar)(args, device, settings, folder, monitors=[lambda e: losses.append(e["loss"])],
                                                on_step=lambda step: tick())
    return losses


def padded(rows: list[list[int]], device, fill: int = 0):
    """Rows of any length as one tensor, filled up on the right."""
    import torch

    width = max(map(len, rows))
    return torch.tensor([r + [fill] * (width - len(r)) for r in rows], device=device)


def plain_av(args, device) -> tuple:
    """What is trained, and the loss of the texts of a slice: their part of the mean over all tokens of the answers."""
    import torch.nn.functional as F

    from scionwood.models.adapters import add_adapter, trainable
    from scionwood.tasks.nla.injection import inject
    from scionwood.tasks.nla.template import Marker

    prompt, answers, vectors = make_cases(args)
    model = add_adapter(make_model(args, device), ADAPTER, SEED).train()
    marker, total = Marker("X", MARKER, LEFT, RIGHT), sum(map(len, answers))

    def loss_of(part: slice):
        rows = [prompt + a for a in answers[part]]
        labels = padded([[-100] * len(prompt) + a for a in answers[part]], device, -100)
        with inject(model, vectors[part], marker, SCALE):
            logits = model(padded(rows, device), attention_mask=padded([[1] * len(r) for r in rows], device), use_cache=False).logits
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum") / total

    return list(trainable(model).values()), loss_of


def plain_ar(args, device) -> tuple:
    """What is trained, and the loss of the texts of a slice: their part of the mean over all texts."""
    import torch
    import torch.nn.functional as F

    from scionwood.models.adapters import add_adapter, trainable
    from scionwood.tasks.nla.template import ar_ids

    tokenizer, words, vectors = make_words(args)
    inputs, wanted = [ar_ids(tokenizer, w) for w in words], torch.from_numpy(vectors).to(device)
    base, layer = make_model(args, device), default_layer(args.layers)[0]
    del base.model.layers[layer + 1 :]
    base.model.norm, base.config.num_hidden_layers = torch.nn.Identity(), layer + 1
    model = add_adapter(base, ADAPTER, SEED).train()
    head = torch.nn.Linear(args.hidden, args.hidden, bias=False, device=device)
    torch.nn.init.eye_(head.weight)

    def loss_of(part: slice):
        rows = inputs[part]
        hidden = model.get_base_model().model(padded(rows, device), attention_mask=padded([[1] * len(r) for r in rows], device),
                                              use_cache=False).last_hidden_state
        read = hidden[torch.arange(len(rows), device=device), torch.tensor([len(r) - 1 for r in rows], device=device)]
        p, v = (args.hidden**0.5 * F.normalize(x, dim=-1) for x in (head(read), wanted[part]))
        return F.mse_loss(p, v) * len(rows) / len(inputs)

    return [*trainable(model).values(), head.weight], loss_of


def plain(args, device, folder: Path, tick) -> list[float]:
    import torch

    weights, loss_of = (plain_av if args.half == "av" else plain_ar)(args, device)
    optimiser, losses = torch.optim.AdamW(weights, lr=TRAIN.lr, weight_decay=TRAIN.weight_decay), []
    for _ in range(args.steps):
        loss_of_step = 0.0
        for lo in range(0, args.texts, args.micro):
            loss = loss_of(slice(lo, lo + args.micro))
            loss.backward()
            loss_of_step += loss.item()
            del loss
        torch.nn.utils.clip_grad_norm_(weights, TRAIN.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(loss_of_step)
        tick()
    return losses


def run_side(args) -> None:
    """What a child process does: train one side and write its figures to ``--out``."""
    import torch

    from scionwood.models import machine
    from scionwood.training.monitors import peak_memory_mb

    machine.limit_threads()
    device, why = machine.choose_device(args.device)
    clock, busy = [], []

    def tick() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()
        clock.append(time.perf_counter())
        busy.append(time.process_time())

    losses = (ours if args.side == "ours" else plain)(args, device, args.out.parent, tick)
    files.write_json(args.out, {"losses": losses, "seconds": np.diff(clock).tolist(), "cpu_seconds": np.diff(busy).tolist(), "device": why,
                                "peak_mb": round(peak_memory_mb()), "threads": torch.get_num_threads()})


def measure(args, side: str) -> dict:
    """Run one side in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="scionwood-bench-") as folder:
        out = Path(folder) / "row.json"
        env = os.environ | {"HF_HUB_OFFLINE": "1"}
        status = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--side", side, "--out", str(out)], env=env,
                                stdout=sys.stderr).returncode
        if status:
            raise UserError(f"{NAMES[side]}: ended with status {status}; see its messages above (-9 is usually a lack of memory: fewer "
                            f"--layers or a smaller --micro)")
        row = files.read_json(out)
        work = args.texts * len(row["seconds"])
        return {"side": side, "name": NAMES[side], "texts_per_s": work / sum(row["seconds"]),
                "texts_per_cpu_s": work / max(sum(row["cpu_seconds"]), 1e-9)} | row


def show(args, rows: list[dict]) -> None:
    what = f"AV, prompt {args.prompt}" if args.half == "av" else f"AR, blocks 0 to {default_layer(args.layers)[0]}"
    print(f"{what}; {args.layers} layers, hidden {args.hidden}, vocabulary {args.vocab}; {args.texts} texts of {args.longest // 3} to "
          f"{args.longest} tokens\nfp32; {rows[0]['device']}; threads: {rows[0]['threads']}\n")
    print(f"{'':28}{'texts/s':>9}{'ratio':>8}{'of a core':>11}{'ratio':>8}{'peak MB':>10}{'ratio':>8}{'loss diff.':>12}")
    for r in rows:
        print(f"{r['name']:28}{r['texts_per_s']:9.3f}{r['speed_ratio']:8.2f}{r['texts_per_cpu_s']:11.3f}{r['cpu_ratio']:8.2f}"
              f"{r['peak_mb']:10,}{r['memory_ratio']:8.2f}{r['loss_difference']:12.1e}")
    print("\nRatios are to the first row; loss diff. is the largest relative difference of a step's loss. 'Of a core' counts the seconds\n"
          "that the processor worked for the process: on a busy machine only that says something. Peak memory is that of the process\n"
          "(on CUDA: of the tensors on the device).")


def main() -> None:
    args = arguments()
    if args.side:
        return run_side(args)
    rows = [measure(args, side) for side in ("plain", "ours")]
    first = rows[0]
    for r in rows:
        r["speed_ratio"], r["cpu_ratio"] = r["texts_per_s"] / first["texts_per_s"], r["texts_per_cpu_s"] / first["texts_per_cpu_s"]
        r["memory_ratio"] = r["peak_mb"] / first["peak_mb"]
        r["loss_difference"] = max(abs(a - b) / abs(b) for a, b in zip(r["losses"], first["losses"], strict=True))
    show(args, rows)
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k not in ("json", "side", "out")}
        files.write_json(args.json, {"settings": settings, "versions": {p: version(p) for p in ("scionwood", "torch", "transformers",
                                                                                                "peft")}, "rows": rows})


if __name__ == "__main__":
    run_script(main)
