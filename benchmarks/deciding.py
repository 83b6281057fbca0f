"""Label scoring against a loop over transformers' ``generate``, on the test cases of cerebellum with one model.

Label scoring decides among the legal answers in one pass over many cases. The loop is what a first script does: one case
at a time, greedy, key-value cache on, unconstrained, and the text is parsed. The third row, with --restricted, lets
``generate`` write legal answers only (``prefix_allowed_tokens_fn``): the same decision as label scoring by other means.
Answers are compared after the task's ``parse``; what cannot be parsed counts as different. No gate answers beforehand.

    python benchmarks/deciding.py --adapter runs/cerebellum/adapter --restricted --json deciding.json
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Callable, Sequence

from scionwood import files
from scionwood.errors import run_script
from scionwood.models.loading import EMBEDDED
from scionwood.systems.base import OK, Prediction, System, from_text
from scionwood.systems.label_scoring import LabelScorer
from scionwood.task import Case, load_task

SPARE_TOKENS = 16  # tokens that generate may write beyond the longest legal answer, for blanks between JSON tokens


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--base", default=EMBEDDED, help="a folder, a hub name, or the embedded base (default: %(default)s)")
    add("--adapter", type=Path, metavar="FOLDER", help="an adapter in PEFT format; without one, the base alone")
    add("--cases", type=int, metavar="N", help="N test cases, spread over all jobs (default: all)")
    add("--restricted", action="store_true", help="one more row: generate restricted to the legal answers")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    add("--dtype", choices=("auto", "fp32", "bf16"), default="fp32", help="(default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    args = parser.parse_args()
    if args.cases is not None and args.cases < 1:
        parser.error("--cases: at least 1")
    return args


class GenerateLoop(System):
    """Answers one case after the other with ``generate``: greedy, with the key-value cache.

    ``restricted`` allows only tokens that continue a legal answer. Prompts and legal answers come from ``scorer``.
    """

    def __init__(self, scorer: LabelScorer, max_new_tokens: int, restricted: bool = False):
        from transformers import GenerationConfig

        self.name, self.scorer, self.restricted = "generate, restricted" if restricted else "generate", scorer, restricted
        self.tokenizer = scorer.renderer.tokenizer
        self.turn_end = turn_end_of(scorer)
        # the model's own generation config may ask for sampling
        scorer.model.generation_config = GenerationConfig(
            max_new_tokens=max_new_tokens, do_sample=False, use_cache=True, eos_token_id=self.turn_end, pad_token_id=self.turn_end
        )

    def predict(self, cases: Sequence[Case]) -> list[Prediction]:
        return [from_text(self.scorer.task, case, self.write(case)) for case in track(cases, self.name)]

    def write(self, case: Case) -> str:
        import torch

        prompt, branches = self.scorer.prepare(case)

        def allowed(_, ids) -> list[int]:
            return branches.next.get(tuple(ids[len(prompt):].tolist()), [self.turn_end])

        ids = torch.tensor([prompt], device=self.scorer.device)
        with torch.no_grad(), self.scorer.autocast():
            out = self.scorer.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), prefix_allowed_tokens_fn=allowed if self.restricted else None
            )
        return self.tokenizer.decode(out[0, len(prompt):], skip_special_tokens=True)


def turn_end_of(scorer: LabelScorer) -> int:
    """The token that ends every answer."""
    return scorer.renderer.render([{"role": "user", "content": "-"}], "-").answer[-1]


def longest_answer(scorer: LabelScorer, cases: Sequence[Case]) -> int:
    """Tokens of the longest legal answer of any case, turn end included."""
    return max(len(ids) for case in cases for ids in scorer.prepare(case)[1].leaf)


def spread(cases: Sequence[Case], count: int | None) -> list[Case]:
    """``count`` cases at equal distances; all where there are no more, or where none is asked for."""
    count = min(count or len(cases), len(cases))
    return [cases[i * len(cases) // count] for i in range(count)]


def track(cases: Sequence[Case], title: str):
    """The cases, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track as bar

    return bar(cases, title, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def load(args) -> tuple[LabelScorer, list[str]]:
    """The model behind label scoring, and what was chosen for it and why."""
    from scionwood.models import loading, machine
    from scionwood.models.prompts import Renderer
    from scionwood.training.loop import autocast_for

    notes = [machine.tune_memory(), machine.limit_threads()]
    device, why_device = machine.choose_device(args.device)
    dtype, why_dtype = machine.choose_dtype(args.dtype, device)
    model = loading.load_model(args.base, device, dtype)
    if args.adapter:
        model = loading.load_adapter(model, args.adapter)
    renderer = Renderer(loading.load_tokenizer(args.base))
    scorer = LabelScorer("label scoring", "adapter" if args.adapter else "base", model, renderer, load_task("cerebellum"),
                         autocast_for(device, dtype))
    return scorer, [*notes, why_device, why_dtype]


def measure(system: System, cases: Sequence[Case], synchronise: Callable[[], None]) -> tuple[list[Prediction], float]:
    """Predictions and seconds; one case beforehand warms up."""
    system.predict(cases[:1])
    synchronise()
    start = time.perf_counter()
    predictions = system.predict(cases)
    synchronise()
    return predictions, time.perf_counter() - start


def compare(rows: list[tuple[System, list[Prediction], float]]) -> list[dict]:
    """The figures of each row: speed, its ratio to the generate loop, and agreement with label scoring."""
    scored, looped = rows[0][1], rows[1]
    return [{
        "name": system.name,
        "seconds": seconds,
        "cases_per_s": len(predictions) / seconds,
        "speed_ratio": looped[2] / seconds,
        "equal": sum(p.status == OK and p.answer == q.answer for p, q in zip(predictions, scored, strict=True)),
        "unparseable": sum(p.status != OK for p in predictions),
    } for system, predictions, seconds in rows]


def show(args, rows: list[dict], count: int, limit: int, notes: list[str]) -> None:
    print("\n".join(notes))
    print(f"base {args.base}, adapter {args.adapter or 'none'}; {count} test cases; generate may write {limit} tokens\n")
    print(f"{'':22}{'cases/s':>10}{'ratio':>8}{'equal answers':>16}{'unparseable':>14}")
    for r in rows:
        print(f"{r['name']:22}{r['cases_per_s']:10.2f}{r['speed_ratio']:8.2f}{r['equal']:>16}{r['unparseable']:>14}")
    print("\nRatios are to the generate loop; equal answers are those that label scoring gives too, after parsing.")
    if not args.adapter:
        print("Without an adapter the base has not learnt to write legal JSON: texts that cannot be parsed mostly run to the\n"
              "limit, which slows the generate loop. Name an adapter for a fair ratio, or look at the row of --restricted.")


def main() -> None:
    import torch

    args = arguments()
    scorer, notes = load(args)
    cases = spread(scorer.task.cases("test"), args.cases)
    limit = longest_answer(scorer, cases) + SPARE_TOKENS
    systems = [scorer, GenerateLoop(scorer, limit), *([GenerateLoop(scorer, limit, restricted=True)] if args.restricted else [])]
    synchronise = torch.cuda.synchronize if scorer.device.type == "cuda" else lambda: None
    rows = compare([(s, *measure(s, cases, synchronise)) for s in systems])
    show(args, rows, len(cases), limit, notes)
    if args.json:
        settings = {"base": args.base, "adapter": args.adapter and str(args.adapter), "cases": len(cases),
                    "max_new_tokens": limit, "machine": notes}
        versions = {p: version(p) for p in ("scionwood", "torch", "transformers", "peft")}
        files.write_json(args.json, {"settings": settings, "versions": versions, "rows": rows})


if __name__ == "__main__":
    run_script(main)
