"""Deciding on exported GGUF files in llama.cpp: by the labels' probabilities, and by writing the answer.

Each file of a run decides the same test cases three ways: label scoring (one request for each branching point on the way),
writing under a grammar of the legal answers, and writing freely, as a first script does. Each way is timed cold (nothing of the
prompt is in the cache) and warm (what all prompts of a job begin with is). Ways and temperatures take turns case by case, so
that what else the machine does falls on all alike. With a run, answers are compared with those that its adapter gave in
predictions/, over all test cases. --random measures a random model of a larger shape instead: its times, not its answers.

    python benchmarks/exporting.py --run runs/cerebellum --json exporting.json
    python benchmarks/exporting.py --random 1024,6,151936 --cases 20
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Callable, Sequence

from scionwood import files
from scionwood.errors import UserError, run_script
from scionwood.models.light import LightTokenizer
from scionwood.models.llamacpp import LlamaCpp, default_threads
from scionwood.models.prompts import Renderer
from scionwood.models.slots import common_length
from scionwood.systems.gguf import branches_of, decide
from scionwood.task import Case, Task, load_task

SPARE_TOKENS = 16  # that free writing may take beyond the longest legal answer
WAYS = ("label scoring", "writing, legal answers only", "writing, free")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
STRANGER = [0, 1]  # a prompt that shares nothing with a case


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--run", type=Path, metavar="FOLDER", help="a finished run of cerebellum with exports ([export] to in its recipe)")
    add("--random", metavar="WIDTH,LAYERS,VOCABULARY", help="a random Qwen3 of this shape in q8_0, with the embedded base's tokenizer")
    add("--cases", type=int, metavar="N", help="N test cases are timed, spread over all jobs (default: all)")
    add("--threads", type=int, metavar="N", default=default_threads(), help="(default: %(default)s)")
    add("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: this process's own time, for a machine that does other work as well")
    add("--device", choices=("cpu",), default="cpu", help=argparse.SUPPRESS)
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    args = parser.parse_args()
    if (args.run is None) == (args.random is None):
        parser.error("name either --run or --random")
    return args


class Deciding:
    """The three ways on one engine, which has one slot: the last prompt is what its cache holds."""

    def __init__(self, engine: LlamaCpp, renderer: Renderer, task: Task, cases: Sequence[Case], clock: Callable[[], float]):
        self.engine, self.task, self.clock = engine, task, clock
        self.cases = [c for c in cases if task.gate(c) is None]
        self.prompts = {c.id: renderer.render(task.messages(c)).prompt for c in self.cases}
        self.branches = {}
        for c in self.cases:
            texts = task.constraint(c).texts
            if texts not in self.branches:
                self.branches[texts] = branches_of(renderer, task.messages(c), texts)
        by_job = {job: [self.prompts[c.id] for c in group]
                  for job, group in itertools.groupby(sorted(self.cases, key=lambda c: c.job), lambda c: c.job)}
        self.stems = {job: prompts[0][: min(common_length(prompts[0], p) for p in prompts)] for job, prompts in by_job.items()}
        self.limit = max(len(ids) for b in self.branches.values() for ids in b.leaf) + SPARE_TOKENS

    def answer(self, case: Case, way: str) -> str:
        """What one way answers; what writing did not finish is empty."""
        texts, prompt = self.task.constraint(case).texts, self.prompts[case.id]
        if way == WAYS[0]:
            return decide(self.engine, prompt, self.branches[texts])[0]
        lark = f"start: {' | '.join(json.dumps(t, ensure_ascii=False) for t in texts)}" if way == WAYS[1] else None
        done = self.engine.generate(prompt, max_tokens=self.limit, lark=lark)
        return done.text if done.finish_reason == "stop" else ""

    def timed(self, case: Case, way: str, warm: bool) -> tuple[str, float]:
        """The answer and its milliseconds, with the cache as asked for."""
        self.engine.generate(STRANGER, max_tokens=1)
        if warm:
            self.engine.generate(self.stems[case.job], max_tokens=1)
        start = self.clock()
        text = self.answer(case, way)
        return text, (self.clock() - start) * 1000


def measure(deciding: Deciding, cases: Sequence[Case], progress: Callable) -> list[dict]:
    """One row per way: milliseconds cold and warm, the ratio to label scoring, equal answers."""
    times: dict = {(way, warm): [] for way in WAYS for warm in (False, True)}
    texts: dict = {way: [] for way in WAYS}
    for case in progress(cases):
        for way in WAYS:
            for warm in (False, True):
                text, ms = deciding.timed(case, way, warm)
                times[way, warm].append(ms)
            texts[way].append(text)
    scored = {warm: median(times[WAYS[0], warm]) for warm in (False, True)}
    return [{"way": way, "cold_ms": spread_of(times[way, False]), "warm_ms": spread_of(times[way, True]),
             "cold_ratio": median(times[way, False]) / scored[False], "warm_ratio": median(times[way, True]) / scored[True],
             "equal": sum(a == b for a, b in zip(texts[way], texts[WAYS[0]])), "unfinished": texts[way].count("")} for way in WAYS]


def spread_of(ms: Sequence[float]) -> dict[str, float]:
    import numpy as np

    return dict(zip(("p50", "p95", "p99"), map(float, np.percentile(ms, [50, 95, 99]))))


def agreement(run: Path, name: str) -> dict:
    """What the run recorded: equal answers of a file and its adapter, and the paired verdict."""
    return next(e for e in files.read_json(run / "figures.json")["exports"] if e["system"] == name)


def exported(run: Path) -> dict[str, Path]:
    """The measured GGUF files of a run, by the name of their system."""
    names = [e["system"] for e in files.read_json(run / "figures.json").get("exports", [])]
    if not names:
        raise UserError(f"{run}: measured no exports; run its recipe with --set 'export.to=[\"gguf:f16\",\"gguf:q8_0\"]'")
    return {n: run / files.read_json(run / "stages" / f"prove-{n.replace(':', '-')}.json")["facts"]["file"] for n in names}


def random_file(shape: str, folder: Path) -> Path:
    """A random model with 16 query and 8 key heads of width / 16, as q8_0."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    from scionwood.export.gguf import write_gguf
    from scionwood.models.loading import embedded_folder

    width, layers, vocabulary = map(int, shape.split(","))
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, num_attention_heads=16,
                                         num_key_value_heads=8, head_dim=max(32, width // 8), vocab_size=vocabulary,
                                         max_position_embeddings=4096, tie_word_embeddings=True))
    return write_gguf(model, AutoTokenizer.from_pretrained(embedded_folder()), folder / "random-q8_0.gguf", "q8_0", {"name": "random"})


def show(name: str, size: float, rows: list[dict], compared: dict | None) -> None:
    print(f"\n{name} ({size:.1f} MB)")
    print(f"{'':30}{'cold p50':>10}{'p95':>8}{'ratio':>7}{'warm p50':>11}{'p95':>8}{'ratio':>7}{'equal':>8}{'unfinished':>12}")
    for r in rows:
        print(f"{r['way']:30}{r['cold_ms']['p50']:10.1f}{r['cold_ms']['p95']:8.1f}{r['cold_ratio']:7.2f}{r['warm_ms']['p50']:11.1f}"
              f"{r['warm_ms']['p95']:8.1f}{r['warm_ratio']:7.2f}{r['equal']:8}{r['unfinished']:12}")
    if compared:
        same, primary = compared["same"], compared["primary"]
        print(f"the adapter's answers: {same['same']} of {same['n']} equal; "
              f"{primary['metric']} {primary['difference']:+.4f}, {primary['verdict']}")


def main() -> None:
    args = arguments()
    task = load_task("cerebellum")
    whole = task.cases("test")
    with tempfile.TemporaryDirectory() as temporary:
        if args.run:
            found, tokens = exported(args.run), args.run / "export"
        else:
            from scionwood.models.loading import embedded_folder

            found, tokens = {f"random {args.random}": random_file(args.random, Path(temporary))}, embedded_folder()
        results = []
        for name, path in found.items():
            with LlamaCpp(path, context=2048, threads=args.threads) as engine:
                deciding = Deciding(engine, Renderer(LightTokenizer(tokens)), task, whole, CLOCKS[args.clock])
                count = min(args.cases or len(deciding.cases), len(deciding.cases))
                cases = [deciding.cases[i * len(deciding.cases) // count] for i in range(count)]
                rows = measure(deciding, cases, lambda cases: bar(cases, name))
            compared = agreement(args.run, name) if args.run else None
            show(name, path.stat().st_size / 1e6, rows, compared)
            results.append({"file": name, "bytes": path.stat().st_size, "rows": rows, "adapter": compared})
    print(f"\nMilliseconds ({args.clock}) a decision over {count} cases, {args.threads} threads; ratios are to label scoring; "
          "equal: its answers, spelt as it spells them.")
    if args.json:
        versions = {p: version(p) for p in ("scionwood", "xllamacpp", "tokenizers", "llguidance")}
        settings = {"cases": count, "threads": args.threads, "clock": args.clock}
        files.write_json(args.json, {"settings": settings, "versions": versions, "files": results})


def bar(cases: Sequence[Case], title: str):
    """The cases, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    return track(cases, title, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


if __name__ == "__main__":
    run_script(main)
