"""scion compare: two systems on the same cases."""

from pathlib import Path

import typer

from scionwood.cli.common import flow_of_run, quiet_libraries


def compare(
    first: str = typer.Argument(..., help="A run folder, or RUN:SYSTEM such as runs/cerebellum:adapter-0 (default: adapter-<first seed>)."),
    second: str = typer.Argument(..., help="The same for the system to compare with, e.g. runs/cerebellum:tfidf-logistic."),
) -> None:
    """Compare two systems, of one run or of two runs of the same task, case by case: difference, interval, p and verdict."""
    from scionwood.errors import UserError
    from scionwood.evidence.pairs import compare_rows, table

    quiet_libraries()
    one, rows_one, name_one = _rows(first)
    other, rows_other, name_other = _rows(second)
    if one.task.name != other.task.name:
        raise UserError(f"compare: '{first}' is of task '{one.task.name}', '{second}' of '{other.task.name}'; only one task can be compared")
    print(table(compare_rows(one.task, rows_one, rows_other), name_one, name_other))


def _rows(name: str):
    """(flow, scored rows, label) of RUN or RUN:SYSTEM."""
    from scionwood.errors import UserError, nearest
    from scionwood.evidence.rows import scored_rows
    from scionwood.files import read_jsonl

    folder, _, system = (name, "", "") if Path(name).is_dir() else name.rpartition(":")  # C:\runs\x has a colon of its own
    folder = folder or name
    flow = flow_of_run(Path(folder))
    system = system or f"adapter-{flow.recipe.train.seeds[0]}"
    file = flow.run.path("predictions", f"{system}.jsonl")
    if not file.exists():
        known = sorted(p.stem for p in flow.run.path("predictions").glob("*.jsonl"))
        raise UserError(f"{name}: the run has no system '{system}'{nearest(system, known)} (known: {', '.join(known)})")
    return flow, scored_rows(flow.task, flow.task.cases("test"), read_jsonl(file), str(file)), f"{Path(folder).name}:{system}"
