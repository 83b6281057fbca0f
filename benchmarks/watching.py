"""Time the watch over a training: a step, a look, and what share of the recipe's whole training the looks take.

    python benchmarks/watching.py                                  # the recipe lantern, on the embedded base
    python benchmarks/watching.py --recipe my.toml --set train.watch.every=20

Steps and looks are timed one after the other in one process, in wall-clock and in processor time; the share is that of the recipe's
own number of steps and looks (at step 0, every train.watch.every steps, and at the end).
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path
from statistics import median

from scionwood import files
from scionwood.errors import UserError, run_script

MOST = 0.05  # what a watch may take of the training time


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="lantern", help="a recipe with train.watch.every (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key of the recipe")
    parser.add_argument("--steps", type=int, default=12, help="training steps that are timed, after one to warm up (default: %(default)s)")
    parser.add_argument("--looks", type=int, default=3, help="looks that are timed, after one to warm up (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    args = parser.parse_args()
    if args.steps < 1 or args.looks < 1:
        parser.error("--steps and --looks: at least 1")
    return args


class Clock:
    """Wall-clock and processor seconds between two calls."""

    def __init__(self):
        self.laps: list[tuple[float, float]] = []
        self.reset()

    def reset(self) -> None:
        self.at = time.perf_counter(), time.process_time()

    def lap(self, *_) -> None:
        before = self.at
        self.reset()
        self.laps.append((self.at[0] - before[0], self.at[1] - before[1]))

    def middle(self) -> tuple[float, float]:
        """The medians, the first lap left out."""
        return tuple(median(lap[i] for lap in self.laps[1:]) for i in (0, 1))


def looks_of(steps: int, every: int) -> int:
    """How many looks a training of so many steps has."""
    return 1 + math.ceil(steps / every)


def measure(args, folder: Path) -> dict:
    """Time steps and looks of the recipe's first adapter."""
    from scionwood.cli.common import recipe_path
    from scionwood.flow import flow_for
    from scionwood.models import machine
    from scionwood.recipe import read_recipe
    from scionwood.run import Run
    from scionwood.teaching import stages
    from scionwood.training.examples import build
    from scionwood.training.loop import Plan, count_steps, train

    path = recipe_path(args.recipe)
    recipe = read_recipe(path, args.set)
    if not recipe.train.watch.every:
        raise UserError(f"{args.recipe}: watches nothing; set train.watch.every")
    flow = flow_for(recipe, Run(folder, echo=print), path.resolve().parent)
    flow.prepare()
    stages.teach(flow)
    name, seed = f"adapter-{recipe.train.seeds[0]}", recipe.train.seeds[0]
    device, dtype = flow.machine
    examples = build(flow.renderer, flow.training_rows(name), recipe.train.max_length)
    plan = Plan(examples, recipe.adapter, recipe.train, seed, flow.base_hash, folder / "adapter", folder / "cache")
    planned, watch = count_steps(plan), recipe.train.watch
    plan.train = recipe.train.model_copy(update={"steps": args.steps + 1, "checkpoint_seconds": 1e9})
    steps, looks, model = Clock(), Clock(), flow.load_base()
    train(model, plan, device, dtype, on_step=steps.lap)
    look = flow.task.watch(flow.renderer, watch, flow.autocast())
    looks.reset()
    for _ in range(args.looks + 1):
        figures = look(model, 0, None)
        looks.lap()
    step, one, times = steps.middle(), looks.middle(), looks_of(planned, watch.every)
    share = [times * one[i] / (times * one[i] + planned * step[i]) for i in (0, 1)]
    return {"recipe": recipe.name, "machine": machine.describe(), "dtype": str(dtype), "steps": planned, "looks": times,
            "every": watch.every, "prompts": watch.prompts, "samples": watch.samples, "tokens": figures["tokens"],
            "step_s": step[0], "step_cpu_s": step[1], "look_s": one[0], "look_cpu_s": one[1], "share": share[0], "share_cpu": share[1], "within": share[0] <= MOST}


def told(f: dict) -> str:
    """The figures in words."""
    return (f"{f['recipe']} on {f['machine']}, {f['dtype']}: {f['steps']} steps of {f['step_s']:.3f} s "
            f"({f['step_cpu_s']:.3f} s of processor), {f['looks']} looks of {f['look_s']:.3f} s "
            f"({f['look_cpu_s']:.3f} s) at {f['tokens']} tokens\n"
            f"the watch takes {f['share']:.1%} of the training ({f['share_cpu']:.1%} of its processor time), "
            f"{'within' if f['within'] else 'more than'} the {MOST:.0%} that it may take")


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(args, Path(folder))
    print(told(figures))
    if args.json:
        files.write_json(args.json, figures)


if __name__ == "__main__":
    run_script(main)
