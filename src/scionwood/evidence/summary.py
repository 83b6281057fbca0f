"""The end of ``scion run`` on the terminal: what was proved against whom, and every system on the primary metric."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterator, Sequence

from scionwood.evidence.format import ABSENT, MINUS, between, number, p_value, several, signed
from scionwood.evidence.standing import Figures, against, base, headline, ranked, strongest_rival, subject
from scionwood.files import read_json

NUMERIC = re.compile(r"[-+<\d]")
TESTED = ["difference", "95 % interval", "Holm p", "verdict", "could show"]  # the last: the smallest difference to be found


def summary(figures_path: Path) -> str:
    """Verdicts, ranking and controls as plain text. Raises UserError where the file is missing or has no system to be proved."""
    figures = read_json(figures_path)
    metric = figures["primary"]
    head = (f"{figures['task']}: {several(figures['cases'], 'test case')} from {several(figures['sources'], 'source')}; "
            f"{metric}, {figures['metrics'][metric]['better']} is better")
    return "\n\n".join(part for part in (head, verdicts(figures), ranking(figures), controls(figures)) if part)


def verdicts(figures: Figures) -> str:
    """The system to be proved against the untuned base and against the strongest rival; empty where neither was measured."""
    mine = subject(figures)
    told = [(name, entry) for name in (base(figures), strongest_rival(figures)) if name and (entry := against(figures, name))]
    return aligned([["", *TESTED], *([f"{mine} against {name}", *tested(entry)] for name, entry in told)]) if told else ""


def tested(entry: dict[str, Any]) -> list[str]:
    """One comparison under the heads ``TESTED``; "-" for what it does not have."""
    return [signed(entry["difference"]), between(entry.get("low"), entry.get("high"), signed), p_value(entry["p_holm"]),
            entry["verdict"], number(entry["detectable"])]


def ranking(figures: Figures) -> str:
    """Every system, best first; those for which the metric is not defined come last."""
    metric, order = figures["primary"], ranked(figures)
    order += [name for name in figures["systems"] if name not in order]
    return aligned([["system", "kind", metric, "95 % interval"], *(_place(figures, name, metric) for name in order)])


def _place(figures: Figures, name: str, metric: str) -> list[str]:
    """A single run has an interval; of several seeds the lowest and the highest are told instead."""
    system, mean = figures["systems"][name], headline(figures, name, metric)
    run = system["runs"][0]["figures"][metric]
    spread = between(run["low"], run["high"]) if mean.seeds == 1 else f"{between(mean.low, mean.high)} over {mean.seeds} seeds"
    return [name, system["kind"], number(mean.value), spread]


def controls(figures: Figures) -> str:
    """One line per control: at chance, or a leak."""
    return "\n".join(f"control {c['system']}: {c['verdict'] or 'no rival stands for chance'}" for c in figures["controls"])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table in plain characters, the first row its head; columns of numbers stand to the right."""
    return "\n".join(line.rstrip() for line in _lines([[plain(cell) for cell in row] for row in rows]))


def _lines(rows: list[list[str]]) -> Iterator[str]:
    columns = list(zip(*rows))
    widths = [max(map(len, column)) for column in columns]
    right = [all(NUMERIC.match(cell) for cell in column[1:]) for column in columns]
    for row in rows:
        yield "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right))


def plain(text: str) -> str:
    """Without the signs that not every terminal can print."""
    return text.replace(MINUS, "-").replace(ABSENT, "-")
