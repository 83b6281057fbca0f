"""scion publish: a verified run as a repository on the Hugging Face hub."""

from pathlib import Path
from typing import Optional

import typer

from scionwood.cli.common import flow_of_run, quiet_libraries


def publish(
    run: Path = typer.Argument(..., help="A run folder with its card."),
    to: Optional[str] = typer.Option(None, metavar="NAME", show_default=False,
                                     help="Repository, as NAME or OWNER/NAME (default: the run's name, under your own)."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print each file and its size; nothing leaves this machine."),
    private: bool = typer.Option(False, "--private", help="Make a new repository private."),
) -> None:
    """Upload card, adapter, exports, student, predictions and recipe. A run that scion verify refuses is not published."""
    from scionwood.evidence.verify import verify as differences
    from scionwood.export.hub import changed_exports, layout, upload
    from scionwood.export.proof import changed_files
    from scionwood.export.source import source_of

    quiet_libraries()
    flow = flow_of_run(run, finished=True)
    source = source_of(flow)
    found = [*differences(run, flow.task, flow.recompute, flow.render), *changed_files(flow), *changed_exports(flow, source)]
    if found:
        print("\n".join(found))
        print(f"{run}: not published: {len(found)} difference{'s' * (len(found) > 1)} (see scion verify)")
        raise typer.Exit(1)
    files = layout(flow, source)
    name = to or flow.recipe.name
    for path, file in files.items():
        print(f"{file.stat().st_size:>14,}  {path}")
    print(f"{sum(f.stat().st_size for f in files.values()):>14,}  bytes in {len(files)} files for {name}")
    if dry_run:
        print("dry run: nothing was uploaded")
        return
    print(upload(files, name, private))
