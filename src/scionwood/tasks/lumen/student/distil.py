"""From a teacher's answers to a student that ships: split by time, fit, shrink, export, measure on what was held out."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, Callable, Mapping, Sequence

from scionwood import files
from scionwood.tasks.lumen.student import compact, forests, onnx_export, portable
from scionwood.tasks.lumen.student.assemble import EARLIER, FORESTS, allowed, steps
from scionwood.tasks.lumen.student.evaluate import compare, contradictions, figures, rivals
from scionwood.tasks.lumen.student.examples import Example, split_by_time
from scionwood.tasks.lumen.student.features import NUMBERS
from scionwood.tasks.lumen.vocabulary import PATTERNS, TOKENS, pattern_of

# Rows in a leaf at least, and whether the forests may look at the numbers; the simplest first. The dev stretch chooses.
TRIED = {"the shape alone": (64, False), "numbers, 64 rows a leaf": (64, True), "numbers, 16 rows a leaf": (16, True)}
SMALL_TREES, SMALL_LEAVES, SMALL_DEPTH = 12, 160, 10  # of the compact form: fits the budget of time and bytes
TINY = 1e-4  # the least probability that a log is taken of


def distil(examples: Sequence[Example], out: Path, about: Mapping[str, Any], trees: int = 200, seed: int = 42,
           say: Callable[[str], None] = print) -> dict[str, Any]:
    """Make a student of these examples in the folder ``out``; returns (and writes) the report.

    ``about`` says where the examples come from, for the report and the header of the compact file.
    """
    out = Path(out)
    parts = split_by_time(examples)
    say("split by time: " + ", ".join(f"{len(v)} {k}" for k, v in parts.items()) + " windows")
    chosen, tried = _choose(parts, seed)
    say(f"forests see {chosen}: the simplest that the dev stretch does not speak against (mean log-likelihoods: "
        + ", ".join(f"{k}: {v:.3f}" for k, v in tried.items()) + ")")
    leaf, numbers = TRIED[chosen]
    full = forests.fit(rows_of(parts["train"], numbers), trees, leaf, seed=seed)
    small = shrunk(full, rows_of(parts["train"], numbers), seed)
    portable.export(full, out / "student.json")
    onnx_export.export(full, out / "onnx")
    compact.export(small, out / "student.safetensors", {k: str(v) for k, v in about.items()})
    say("measuring on the held-out stretch")
    report = {"about": dict(about), "trees": trees, "chosen": chosen, "dev_log_likelihood": tried,
              "windows": {k: len(v) for k, v in parts.items()}, **measure(out, parts)}
    files.write_json(out / "report.json", report)
    return report


def rows_of(examples: Sequence[Example], numbers: bool) -> list[tuple[list[float], tuple[str, ...]]]:
    """Features and tokens. Without ``numbers`` these are all 0, so that no tree can split on them."""
    blank = [0.0] * len(NUMBERS)
    return [(e.features() if numbers else [*blank, *e.features()[len(NUMBERS):]], e.tokens) for e in examples]


def _choose(parts: Mapping[str, Sequence[Example]], seed: int) -> tuple[str, dict[str, float]]:
    """The simplest kind of forest (of 50 trees) that is no more than one standard error below the one under which the dev stretch is
    likeliest (the rule of Breiman et al. 1984, Classification and Regression Trees, 3.4.3; the error is that of the paired difference)."""
    likely = {name: log_likelihoods(forests.fit(rows_of(parts["train"], numbers), 50, leaf, seed=seed), parts["dev"])
              for name, (leaf, numbers) in TRIED.items()}
    means = {name: fmean(values) for name, values in likely.items()}
    best = max(means, key=means.__getitem__)
    for name, values in likely.items():
        less = [b - v for b, v in zip(likely[best], values)]
        if fmean(less) <= (pstdev(less) / len(less) ** 0.5 if name != best else 0.0):
            return name, means
    return best, means


def log_likelihoods(fitted: Mapping[str, Any], examples: Sequence[Example]) -> list[float]:
    """The log probability (natural) of each of the teacher's expressions under the assembly."""
    import numpy as np

    asked: dict[str, list] = {name: [] for name in FORESTS}
    for k, e in enumerate(examples):
        ids, pattern = [TOKENS.index(t) for t in e.tokens], pattern_of(e.tokens)
        options = {"pattern": range(len(PATTERNS)), "token1": range(len(TOKENS))}
        for name, (before, answer) in steps(e.tokens).items():
            classes = options.get(name) or allowed(pattern, ids[:1 if name == "token2" else 2])
            asked[name].append((k, [*e.features(), *before], answer, classes))
    total = [0.0] * len(examples)
    for name, rows in asked.items():
        if rows:
            weights = fitted[name].predict(np.array([x for _, x, _, _ in rows], np.float32))
            for w, (k, _, answer, classes) in zip(weights, rows):
                whole = sum(w[c] for c in classes)
                total[k] += math.log(max(TINY, w[answer] / whole if whole > 0 else 1 / len(classes)))
    return total


def shrunk(full: Mapping[str, Any], rows: Sequence[tuple[Sequence[float], Sequence[str]]], seed: int) -> dict[str, Any]:
    """Few small trees that are fitted to what the full forests say of the training rows, not to the teacher's draws: that is smooth, so
    little suffices."""
    import numpy as np

    asked: dict[str, list[list[float]]] = {name: [] for name in FORESTS}
    for features, tokens in rows:
        for name, (before, _) in steps(tokens).items():
            asked[name].append([*features, *before])
    out = {}
    for name, forest in full.items():
        x = np.unique(np.array(asked[name] or [[0.0] * forest.n_features_in_], np.float32), axis=0)
        out[name] = forests.fit_one(x, forest.predict(x), SMALL_TREES, 1, SMALL_DEPTH, seed, leaves=SMALL_LEAVES, bootstrap=False)
    return out


def measure(folder: Path, parts: Mapping[str, Sequence[Example]]) -> dict[str, Any]:
    """The figures of the exported student on the held-out stretch: 200 trees (read from JSON), the compact form, the rivals."""
    full, small, test = portable.JsonStudent(folder / "student.json"), compact.CompactStudent(folder / "student.safetensors"), parts["test"]
    return {
        "figures": {"full": figures(full, test), "compact": figures(small, test), **rivals(parts["train"], test)},
        "compact_against_full": compare(full, small, test),
        "contradictions": contradictions(small, test) + contradictions(full, test),
        "bytes": {"compact": (folder / "student.safetensors").stat().st_size, "json": (folder / "student.json").stat().st_size,
                  "onnx": sum(f.stat().st_size for f in (folder / "onnx").glob("*.onnx"))},
    }


def table(report: Mapping[str, Any]) -> str:
    """The figures as a table for the terminal."""
    columns = (("pattern_agreement", "pattern"), ("token1_agreement", "token 1"), ("expression_agreement", "expression"),
               ("coherence", "coherence"), ("js_tokens", "JS tokens"), ("js_patterns", "JS patterns"), ("changed_without_numbers", "changed*"))
    lines = [f"{'':10}" + "".join(f"{title:>13}" for _, title in columns)]
    for name, row in report["figures"].items():
        lines.append(f"{name:10}" + "".join(f"{row[key]:13.3f}" if key in row else f"{'':13}" for key, _ in columns))
    against = report["compact_against_full"]
    lines += ["* share of likeliest answers that change when the windows swap all their numbers "
              f"({report['windows']['test']} held-out windows)",
              f"compact against full: same answer to {against['same_answers']:.1%}; " + ", ".join(
                  f"{k} +{v['gains']} -{v['losses']} (p {v['p']:.2f})" for k, v in against.items() if isinstance(v, dict)),
              "bytes: " + ", ".join(f"{k} {v:,}" for k, v in report["bytes"].items()) + f"; contradictions: {report['contradictions']}"]
    return "\n".join(lines)
