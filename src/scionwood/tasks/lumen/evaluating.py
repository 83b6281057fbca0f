"""Score systems on a file of rows in the published format: rivals, the file's own labels, answers from a file, the adapter of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Callable, Sequence

from scionwood.errors import UserError, nearest
from scionwood.evidence.intervals import RESAMPLES, percentiles, sample, wilson
from scionwood.files import read_json, read_jsonl
from scionwood.systems.base import System, evaluate, from_text
from scionwood.task import Case, Metric, ScoredRow
from scionwood.tasks.lumen import dataset, rivals
from scionwood.tasks.lumen.task import Lumen

LABELS = "labels"
SEEDS = 20
Say = Callable[[str], None]


@dataclass(frozen=True)
class Figures:
    """One system on the rows of a file. Each figure has ``value``; ``sd`` over seeds where the system draws; ``low`` and ``high`` where
    an interval was asked for."""

    name: str
    about: str
    rows: int
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)


class Given(System):
    """Texts that are known beforehand, one per case in order; None where one is missing."""

    kind = "recorded"

    def __init__(self, name: str, task: Lumen, texts: Sequence[str | None]):
        self.name, self.task, self.texts = name, task, texts

    def predict(self, cases: Sequence[Case]) -> list:
        from scionwood.systems.base import ERROR, Prediction

        return [from_text(self.task, c, t) if t is not None else Prediction(c.id, status=ERROR, reason="no answer")
                for c, t in zip(cases, self.texts)]


def metrics_of(task: Lumen) -> list[Metric]:
    """The task's metrics, and the mean of the shapes' coherences."""

    def macro(rows: Sequence[ScoredRow]) -> float | None:
        by_shape: dict[str, list[float]] = {}
        for r in rows:
            if "coherence" in r.scores:
                by_shape.setdefault(r.case.reference["shape"], []).append(r.scores["coherence"])
        return fmean(map(fmean, by_shape.values())) if by_shape else None

    return [*task.metrics(), Metric("macro_coherence", macro, about="mean over the shapes that occur of their coherence")]


def scored(task: Lumen, cases: Sequence[Case], system: System) -> list[ScoredRow]:
    """One scored row per case."""
    return [ScoredRow(c, p.answer, p.status, task.score(c, p.answer), p.latency_ms, p.confidence)
            for c, p in zip(cases, evaluate(system, task, cases))]


def values(metrics: Sequence[Metric], rows: Sequence[ScoredRow]) -> dict[str, float]:
    """Every figure that is defined."""
    found = {m.name: m.function(m.select(rows)) for m in metrics}
    return {name: v for name, v in found.items() if v is not None}


def over_seeds(runs: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Means over seeds, with the standard deviation between them where there are several."""
    out = {}
    for name in runs[0]:
        each = [r[name] for r in runs if name in r]
        out[name] = {"value": fmean(each), **({"sd": stdev(each)} if len(each) > 1 else {})}
    return out


def with_intervals(metrics: Sequence[Metric], rows: Sequence[ScoredRow], resamples: int = RESAMPLES) -> dict[str, dict[str, Any]]:
    """Every figure that is defined; those over all shapes with a 95 % interval: Wilson for proportions, else the bootstrap over rows."""
    out: dict[str, dict[str, Any]] = {}
    for m in metrics:
        selected = m.select(rows)
        if (value := m.function(selected)) is None:
            continue
        if m.proportion:
            scores = [r.scores[m.proportion] for r in selected if m.proportion in r.scores]
            low, high = wilson(int(sum(scores)), len(scores))
        elif m.rows is None:
            low, high = percentiles(sample(m, rows, resamples=resamples).replicates)
        else:
            out[m.name] = {"value": value}
            continue
        out[m.name] = {"value": value, "low": low, "high": high}
    return out


def evaluate_file(path: Path, names: Sequence[str], seeds: int = SEEDS, say: Say = print, resamples: int = RESAMPLES) -> list[Figures]:
    """Figures of the named systems on a file of rows, in the notation of the data set; all rivals and the labels where none is named.

    A name is a rival's, "labels", a file of answers, or a run folder, alone (its first adapter) or as RUN:SYSTEM. A run answers under
    its own prompt. Raises UserError for a name that is none of these.
    """
    task = Lumen(prompt="table")
    cases = dataset.file_cases(path, task.notation)
    if not cases:
        raise UserError(f"{path}: has no rows")
    known = {r.name: r for r in task.rivals()}
    train: list[Case] = []
    out = []
    for name in names or [LABELS, *known]:
        if name in known:
            train = train or task.cases("train")
            out.append(rival_figures(task, cases, train, name, seeds))
        elif name == LABELS:
            given = Given(name, task, [task.target(c) for c in cases])
            found = over_seeds([values(metrics_of(task), scored(task, cases, given))])
            out.append(Figures(name, "the answers that the rows hold", len(cases), found))
        elif Path(name).is_file():
            rows = scored(task, cases, Given(name, task, answers_of(Path(name), cases)))
            out.append(Figures(name, "answers from the file", len(cases), with_intervals(metrics_of(task), rows, resamples)))
        else:
            out.append(run_figures(path, name, [LABELS, *known], say, resamples))
    return out


def rival_figures(task: Lumen, cases: Sequence[Case], train: Sequence[Case], name: str, seeds: int) -> Figures:
    """A rival, fitted on the published training rows; one that draws is averaged over seeds."""
    fixed = next(r for r in task.rivals() if r.name == name)
    drawing = isinstance(fixed, (rivals.Drawn, rivals.Marginal))
    runs = []
    for seed in range(seeds if drawing else 1):
        rival = next(r for r in rivals.all_rivals(task.notation, False, 1.0, seed) if r.name == name)
        rival.fit(task, train)
        runs.append(values(metrics_of(task), scored(task, cases, rival)))
    return Figures(name, fixed.about, len(cases), over_seeds(runs))


def answers_of(path: Path, cases: Sequence[Case]) -> list[str | None]:
    """The answers of a file, one per row: rows in the published format (their assistant's text), or objects with "text".

    Objects may name their row by ``case``: its number from 1, or its id (file name and number). Without it they stand in the order of
    the rows, and there must be as many. Raises UserError for a row that is answered twice, or unknown.
    """
    from scionwood.tasks.lumen.store.published import is_rows, read_rows

    if is_rows(path):
        texts: list[str | None] = [r.answer for r in read_rows(path)]
    else:
        objects = read_json(path) if path.suffix == ".json" else read_jsonl(path)
        if not isinstance(objects, list) or not all(isinstance(o, dict) and isinstance(o.get("text"), str) for o in objects):
            raise UserError(f"{path}: every answer must be an object with \"text\"")
        if any("case" in o for o in objects):
            return _by_case(path, objects, cases)
        texts = [o["text"] for o in objects]
    if len(texts) != len(cases):
        raise UserError(f"{path}: has {len(texts)} answers to {len(cases)} rows; give one for each, or name the rows by \"case\"")
    return texts


def _by_case(path: Path, objects: Sequence[dict], cases: Sequence[Case]) -> list[str | None]:
    places = {c.id: k for k, c in enumerate(cases)} | {k + 1: k for k in range(len(cases))}
    texts: list[str | None] = [None] * len(cases)
    for o in objects:
        place = places.get(o.get("case")) if isinstance(o.get("case"), (str, int)) else None
        if place is None:
            raise UserError(f"{path}: case {o.get('case')!r} is no row of the file (known: 1 to {len(cases)}, or {cases[0].id} and so on)")
        if texts[place] is not None:
            raise UserError(f"{path}: case {o['case']!r} is answered twice")
        texts[place] = o["text"]
    return texts


def run_figures(path: Path, name: str, known: Sequence[str], say: Say, resamples: int) -> Figures:
    """The adapter of a run, or its untuned base (RUN:base), under the run's own prompt and decoding."""
    from scionwood.flow import open_flow
    from scionwood.models.loading import load_adapter

    folder, _, system = (name, "", "") if Path(name).is_dir() else name.rpartition(":")
    if not folder or not Path(folder).is_dir():
        raise UserError(f"system '{name}': no rival, no file and no run folder of that name{nearest(name, known)} "
                        f"(rivals: {', '.join(known)})")
    flow = open_flow(Path(folder), say)
    task = flow.task
    if not isinstance(task, Lumen) or task.blind:
        raise UserError(f"{folder}: a run of task '{task.name}'{' with prompt blind' if isinstance(task, Lumen) else ''}; "
                        "rows in the published format can be answered under the prompts card and table of task 'lumen' only")
    system = system or f"adapter-{flow.recipe.train.seeds[0]}"
    weights = flow.run.path("adapter", system, "best")
    if system != "base" and not (weights / "adapter_model.safetensors").exists():
        trained = sorted(p.parent.parent.name for p in flow.run.path("adapter").glob("*/best/adapter_model.safetensors"))
        raise UserError(f"{folder}: has no system '{system}'{nearest(system, trained)} (known: {', '.join(['base', *trained])})")
    base = flow.load_base(flow.measuring)
    model = base if system == "base" else load_adapter(base, weights)
    cases = dataset.file_cases(path, task.notation)
    rows = scored(task, cases, flow.system(system, "adapter", model, dtype=flow.measuring))
    return Figures(name, f"prompt {task.prompt}, {flow.decoding}", len(cases), with_intervals(metrics_of(task), rows, resamples))


COLUMNS = {"coherence": "coherence", "macro_coherence": "macro", "valid_rate": "valid", "strict_valid_rate": "strict",
           "pattern_accuracy": "pattern", "exact_rate": "exact", "diversity": "diversity", "js_distance": "JS", "js_tokens": "JS tokens", "js_patterns": "JS patterns"}


def table(found: Sequence[Figures]) -> str:
    """The figures as an aligned table, one system per line."""
    lines = [["system", *COLUMNS.values()]]
    for f in found:
        cells = [f.figures.get(name) for name in COLUMNS]
        lines.append([f.name, *("-" if c is None else _cell(c) for c in cells)])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths))).rstrip()
                     for line in lines)


def _cell(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3f}" + (f" ±{figure['sd']:.3f}" if figure.get("sd", 0) >= 0.0005 else "")
