"""scion verify: recompute every figure of a run."""

from pathlib import Path

import typer

from scionwood.cli.common import flow_of_run, quiet_libraries


def verify(run: Path = typer.Argument(..., help="A run folder.")) -> None:
    """Recompute every figure from the predictions, render card and report anew, and fail (exit code 1) on any difference."""
    from scionwood.evidence.verify import verify as differences
    from scionwood.export.proof import changed_files

    quiet_libraries()
    flow = flow_of_run(run, finished=True)
    found, changed = differences(run, flow.task, flow.recompute, flow.render), list(changed_files(flow))
    for line in [*found, *changed]:
        print(line)
    if found:
        print(f"{run}: {len(found)} difference{'s' * (len(found) > 1)}: this card does not follow from its predictions")
    else:
        print(f"{run}: every figure, the card and the report follow from the predictions")
    if changed:
        print(f"{run}: {len(changed)} exported file{'s' * (len(changed) > 1)} changed: what lies there is not what was measured")
    if found or changed:
        raise typer.Exit(1)
