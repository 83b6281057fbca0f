"""One decision of Lumen's student: the compact form that ships and the JSON form, against scikit-learn's predict in the same run.

Forests are fitted to the rules on synthetic windows, as ``scion lumen distil`` does it. The compact form is timed against scikit-learn on
the very same small forests, and on the full ones. Every side decides whole expressions (two to four forests, one after the other) for the
same windows. Rounds are short and the sides take turns; the best round of each side counts (what else runs on the machine only ever adds),
and the median stands beside it.

    python benchmarks/student.py --json student.json
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Callable, Sequence

from scionwood import files
from scionwood.errors import run_script
from scionwood.tasks.lumen.student import compact, distil, forests, portable
from scionwood.tasks.lumen.student.assemble import Scores, decide, drawing, likeliest
from scionwood.tasks.lumen.student.examples import Example, natural_windows, split_by_time, taught_by_rules

FEW = 5  # decisions of a round


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--windows", type=int, default=200, help="synthetic windows of each shape (default: %(default)s)")
    add("--trees", type=int, default=200, help="trees of the full forests (default: %(default)s)")
    add("--rounds", type=int, default=60, help="rounds that each side takes (default: %(default)s)")
    add("--numbers", action="store_true", help="let the forests look at the numbers (larger trees) even where the teacher's answers do not")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    args = parser.parse_args()
    if args.windows < 10 or args.trees < 2 or args.rounds < 1:
        parser.error("at least 10 windows, 2 trees and 1 round")
    return args


def microseconds(sides: dict[str, Callable[[Example], object]], cases: Sequence[Example], rounds: int) -> dict[str, tuple[float, float]]:
    """(best, median) microseconds of one decision of each side, over rounds in which every side decides the same few cases."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for k in range(rounds):
        some = [cases[(k * FEW + i) % len(cases)] for i in range(FEW)]
        for name, work in sides.items():
            start = time.perf_counter()
            for case in some:
                work(case)
            times[name].append((time.perf_counter() - start) / FEW * 1e6)
    return {name: (min(t), statistics.median(t)) for name, t in times.items()}


def main() -> None:
    args = arguments()
    parts = split_by_time(taught_by_rules(natural_windows(args.windows)))
    rows = distil.rows_of(parts["train"], args.numbers)
    full = forests.fit(rows, args.trees, 16 if args.numbers else 64)
    small = distil.shrunk(full, rows, 42)
    with tempfile.TemporaryDirectory() as folder:
        compact.export(small, Path(folder) / "small.safetensors")
        portable.export(full, Path(folder) / "full.json")
        size = (Path(folder) / "small.safetensors").stat().st_size
        ship, full_json = compact.CompactStudent(Path(folder) / "small.safetensors"), portable.JsonStudent(Path(folder) / "full.json")
    cases, draw = parts["test"], drawing(random.Random(0))

    def by(scores: Scores) -> Callable[[Example], object]:
        return lambda e: decide(scores, e.features(), likeliest)

    full_sklearn = forests.scorer(full)
    figures = microseconds({
        "compact": by(ship),
        "compact, drawn": lambda e: ship.decide(e.window.numbers, e.window.shape, draw),
        f"JSON, {args.trees} trees": by(full_json),
        f"scikit-learn, {distil.SMALL_TREES} trees": by(forests.scorer(small)),
        f"scikit-learn, {args.trees} trees": by(full_sklearn),
    }, cases, args.rounds)
    checked = cases[:: max(1, len(cases) // 25)]
    same = sum(decide(full_json, e.features(), likeliest) == decide(full_sklearn, e.features(), likeliest) for e in checked)
    best = figures["compact"][0]
    print(f"{'one decision':28}{'microseconds':>14}{'(median)':>12}{'times compact':>15}")
    for name, (fast, usual) in figures.items():
        print(f"{name:28}{fast:14.1f}{usual:12.1f}{fast / best:15.1f}")
    print(f"\ncompact file: {size:,} bytes; JSON and scikit-learn decide alike in {same} of {len(checked)} windows")
    if args.json:
        versions = {p: version(p) for p in ("scionwood", "scikit-learn", "numpy")}
        files.write_json(args.json, {"microseconds": figures, "bytes": size, "same": same, "of": len(checked), "versions": versions})


if __name__ == "__main__":
    run_script(main)
