"""Verifying a run: its figures must follow from its predictions, and its card and report from its figures."""

from __future__ import annotations

import math
from itertools import zip_longest
from pathlib import Path
from typing import Any, Callable, Iterator

from scionwood.errors import UserError
from scionwood.files import file_hash, read_json
from scionwood.task import Task

FIGURES = "figures.json"
TOLERANCE = 1e-9
ABSENT = "absent"
SHOWN = 80  # characters of a differing value that are shown


def verify(run_folder: Path, task: Task, recompute: Callable[[], dict], render: Callable[[dict], dict[str, str]]) -> list[str]:
    """Recompute and compare; returns one line per difference, none where the run holds.

    ``recompute`` computes the figures from the predictions; ``render`` turns figures into {file name: text}. Checked are the
    SHA-256 of each predictions file recorded under "files" in figures.json (and that no other .jsonl lies beside them), each
    figure to 1e-9, and each rendered file byte for byte.
    """
    run = Path(run_folder)
    recorded = read_json(run / FIGURES)
    if recorded.get("task") != task.name:
        return [f"{FIGURES}: task: '{recorded.get('task')}' recorded, '{task.name}' given"]
    files, rendered = recorded.get("files", {}), render(recorded)
    return [*check_files(run, files), *check_figures(recorded, recompute), *check_rendered(run, rendered)]


def check_files(run: Path, recorded: dict[str, str]) -> Iterator[str]:
    """Predictions that have changed, are gone, or lie in the run without being counted (a seed left out)."""
    for file, sha in recorded.items():
        found = file_hash(run / file) if (run / file).is_file() else ABSENT
        if found != sha:
            yield f"{file}: sha256: {sha or ABSENT} recorded, {found} found"
    for path in sorted((run / "predictions").glob("*.jsonl")):
        file = path.relative_to(run).as_posix()
        if file not in recorded:
            yield f"{file}: sha256: {ABSENT} recorded, {file_hash(path)} found"


def check_figures(recorded: dict, recompute: Callable[[], dict]) -> Iterator[str]:
    """Figures that differ by more than 1e-9; hashes are left to ``check_files``."""
    try:
        again = recompute()
    except UserError as e:
        yield f"{FIGURES}: cannot be recomputed: {e}"
        return
    for where, old, new in differences({**recorded, "files": None}, {**again, "files": None}):
        yield f"{FIGURES}: {where}: {_short(old)} recorded, {_short(new)} recomputed"


def check_rendered(run: Path, rendered: dict[str, str]) -> Iterator[str]:
    """Files that are not what the figures render to; the first differing line is shown."""
    for name, text in rendered.items():
        path = run / name
        found = path.read_bytes() if path.is_file() else None
        if found is None:
            yield f"{name}: {ABSENT} in the run, rendered from {FIGURES}"
        elif found != text.encode():
            lines = zip_longest(found.split(b"\n"), text.encode().split(b"\n"))
            n, old, new = next((n, a, b) for n, (a, b) in enumerate(lines, 1) if a != b)
            yield f"{name}: line {n}: {_short(_line(old))} in the file, {_short(_line(new))} rendered"


def differences(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ, as (path such as "systems.adapter.runs[0].seed", old, new); numbers to 1e-9."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), f"{where}.{key}" if where else key)
    elif isinstance(old, list) and isinstance(new, list):
        for i, (a, b) in enumerate(zip_longest(old, new, fillvalue=ABSENT)):
            yield from differences(a, b, f"{where}[{i}]")
    elif not _same(old, new):
        yield where, old, new


def _same(old: Any, new: Any) -> bool:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (old, new))
    return math.isclose(old, new, rel_tol=0, abs_tol=TOLERANCE) if numbers else type(old) is type(new) and old == new


def _line(line: bytes | None) -> str:
    return ABSENT if line is None else line.decode("utf-8", "replace")


def _short(value: Any) -> str:
    text = f"'{value}'" if isinstance(value, str) and value != ABSENT else str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
