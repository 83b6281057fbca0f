"""Our extraction of activations against a plain forward with output_hidden_states=True: tokens per second, peak memory, same values.

Both read the same random texts (token ids of uneven length) with the same randomly initialised model of the Qwen3-0.6B shape, and
keep the output of block K, at two thirds of the depth, at each text's last token. The plain side is what one writes first: texts
sorted by length and padded in batches of --batch, the whole causal LM, hidden_states[K + 1]. Each side runs in a process of its
own, one after the other, so that the peak memory is that side's alone. A first short batch warms up and is not timed.

    python benchmarks/extracting.py --json extracting.json
    python benchmarks/extracting.py --layers 6 --hidden 64 --vocab 512 --texts 8 --longest 40        # a smoke test
"""

from __future__ import annotations

import argparse
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

# The parent imports no torch: a process starts with its parent's peak memory as its own.

SEED = 0
NAMES = {"plain": "transformers, output_hidden_states=True", "ours": "scionwood"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--layers", type=int, default=28)
    add("--hidden", type=int, default=1024, help="a multiple of 64; heads and intermediate size follow (default: %(default)s)")
    add("--vocab", type=int, default=151_936)
    add("--texts", type=int, default=32, help="(default: %(default)s)")
    add("--longest", type=int, default=512, help="tokens of the longest text; the shortest has half of them (default: %(default)s)")
    add("--batch", type=int, default=16, help="texts of one batch of the plain side (default: %(default)s)")
    add("--batch-tokens", type=int, default=2048, help="our batch_tokens (default: %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    add("--dtype", choices=("fp32", "bf16"), default="fp32", help="number format of the weights (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    add("--side", choices=tuple(NAMES), help=argparse.SUPPRESS)  # what a child process is told
    add("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hidden % 64 or args.longest < 4 or args.texts < 1 or args.layers < 2:
        parser.error("--hidden: a multiple of 64; --longest: at least 4; --texts: at least 1; --layers: at least 2")
    return args


def make_texts(args) -> list[list[int]]:
    """Random token ids of uneven length."""
    rng = np.random.default_rng(SEED)
    return [rng.integers(args.vocab, size=n).tolist() for n in rng.integers(args.longest // 2, args.longest + 1, args.texts)]


def make_model(args, device, dtype):
    """A frozen random model, the same in every process."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    heads = args.hidden // 64
    torch.manual_seed(SEED)
    torch.set_default_dtype(dtype)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=args.vocab, hidden_size=args.hidden, intermediate_size=3 * args.hidden, num_hidden_layers=args.layers,
        num_attention_heads=heads, num_key_value_heads=max(1, heads // 2), head_dim=128, tie_word_embeddings=True,
        max_position_embeddings=40_960, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, attn_implementation="sdpa",
    ))
    torch.set_default_dtype(torch.float32)
    return model.requires_grad_(False).eval().to(device)


def plain(args, model, texts: list[list[int]], layer: int, device) -> np.ndarray:
    import torch

    out = np.empty((len(texts), args.hidden), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for lo in range(0, len(order), args.batch):
        chosen = order[lo : lo + args.batch]
        width = max(len(texts[i]) for i in chosen)
        ids = torch.tensor([texts[i] + [0] * (width - len(texts[i])) for i in chosen], device=device)
        mask = torch.tensor([[1] * len(texts[i]) + [0] * (width - len(texts[i])) for i in chosen], device=device)
        with torch.no_grad():
            hidden = model(ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states[layer + 1]
        for n, i in enumerate(chosen):
            out[i] = hidden[n, len(texts[i]) - 1].float().cpu().numpy()
        del hidden
    return out


def ours(args, model, texts: list[list[int]], layer: int, device) -> np.ndarray:
    from scionwood.tasks.nla.extract import Read, drop_above, read_all

    drop_above(model, layer)  # as `scion nla extract` does
    reads = [Read(str(i), ids, [len(ids) - 1]) for i, ids in enumerate(texts)]
    return read_all(model, reads, layer, args.batch_tokens, None, "", lambda line: None)


def run_side(args) -> None:
    """What a child process does: extract once and write its figures and vectors beside ``--out``."""
    import torch

    from scionwood.models import machine
    from scionwood.tasks.nla.extract import default_layer
    from scionwood.training.monitors import peak_memory_mb

    machine.limit_threads()
    device, why = machine.choose_device(args.device)
    model, texts = make_model(args, device, machine.choose_dtype(args.dtype, device)[0]), make_texts(args)
    layer, _ = default_layer(args.layers)
    extract = ours if args.side == "ours" else plain
    extract(args, model, [t[:8] for t in texts[:1]], layer, device)
    loaded = peak_memory_mb()
    begin, cpu = time.perf_counter(), time.process_time()
    values = extract(args, model, texts, layer, device)
    seconds, busy = time.perf_counter() - begin, time.process_time() - cpu
    np.save(args.out.with_suffix(".npy"), values)
    files.write_json(args.out, {"seconds": seconds, "cpu_seconds": busy, "loaded_mb": round(loaded), "peak_mb": round(peak_memory_mb()),
                                "layer": layer,
                                "tokens": sum(map(len, texts)), "device": why, "threads": torch.get_num_threads()})


def measure(side: str) -> tuple[dict, np.ndarray]:
    """Run one side in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="scionwood-bench-") as folder:
        out = Path(folder) / "row.json"
        env = os.environ | {"HF_HUB_OFFLINE": "1"}
        status = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--side", side, "--out", str(out)], env=env,
                                stdout=sys.stderr).returncode
        if status:
            raise UserError(f"{NAMES[side]}: ended with status {status}; see its messages above (-9 is usually a lack of memory: fewer "
                            f"--layers or a smaller --batch)")
        return {"side": side, "name": NAMES[side]} | files.read_json(out), np.load(out.with_suffix(".npy"))


def show(args, rows: list[dict]) -> None:
    first = rows[0]
    print(f"{args.layers} layers, hidden {args.hidden}, vocabulary {args.vocab}; {args.texts} texts, {first['tokens']:,} tokens, block "
          f"{first['layer']}\n"
          f"{args.dtype}; {first['device']}; threads: {first['threads']}\n")
    print(f"{'':42}{'tokens/s':>10}{'ratio':>8}{'of a core':>11}{'ratio':>8}{'peak MB':>10}{'ratio':>8}{'on top':>9}{'ratio':>8}")
    for r in rows:
        print(f"{r['name']:42}{r['tokens_per_s']:10.1f}{r['speed_ratio']:8.2f}{r['tokens_per_cpu_s']:11.1f}{r['cpu_ratio']:8.2f}"
              f"{r['peak_mb']:10,}{r['memory_ratio']:8.2f}{r['on_top_mb']:9,}{r['on_top_ratio']:8.2f}")
    print(f"\nLargest difference of a vector, relative to its norm: {rows[1]['difference']:.1e}")
    print("Ratios are to the first row. Tokens are those of the texts, without padding; 'of a core' are tokens per second that the\n"
          "processor worked for the process: on a busy machine only that says something. Peak memory is that of the process (on CUDA:\n"
          "of the tensors on the device), the model's weights included; 'on top' is what came on top of the loaded model.")


def main() -> None:
    args = arguments()
    if args.side:
        return run_side(args)
    (first, want), (second, got) = measure("plain"), measure("ours")
    rows = [first, second]
    for r in rows:
        r["tokens_per_s"], r["tokens_per_cpu_s"] = r["tokens"] / r["seconds"], r["tokens"] / max(r["cpu_seconds"], 1e-9)
        r["on_top_mb"] = r["peak_mb"] - r["loaded_mb"]
        r["speed_ratio"], r["cpu_ratio"] = r["tokens_per_s"] / first["tokens_per_s"], r["tokens_per_cpu_s"] / first["tokens_per_cpu_s"]
        r["memory_ratio"], r["on_top_ratio"] = r["peak_mb"] / first["peak_mb"], r["on_top_mb"] / max(first["on_top_mb"], 1)
    second["difference"] = float((np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)).max())
    show(args, rows)
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k not in ("json", "side", "out")}
        files.write_json(args.json, {"settings": settings, "versions": {p: version(p) for p in ("scionwood", "torch", "transformers")},
                                     "rows": rows})


if __name__ == "__main__":
    run_script(main)
