"""scion lantern: diversity. Examples validated, curves drawn while it trains, small models set against large ones."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from scionwood.cli import lantern_duel

app = typer.Typer(help="Diversity: examples validated, curves while it trains, small models set against large ones.", no_args_is_help=True,
                  rich_markup_mode=None)

app.command("duel")(lantern_duel.duel)
app.command("rate")(lantern_duel.rate)


@app.command()
def validate(
    paths: Optional[list[Path]] = typer.Argument(None, metavar="[FILE]...", show_default=False,
                                                 help="Examples as JSON lines, or folders of them (default: those that ship)."),
    twins: Optional[Path] = typer.Option(None, "--twins", metavar="PATH", show_default=False,
                                         help="File or folder of the plain twins (default: ../twins/NAME beside each file)."),
) -> None:
    """Check hand-written examples and their twins; print one line for each fault and exit with 1 where there is any."""
    from scionwood.tasks.lantern.cases import EXAMPLES
    from scionwood.tasks.lantern.validate import validate as faults_of

    examples, matched, faults = faults_of(paths or [EXAMPLES], twins)
    for fault in faults:
        print(fault)
    print(f"{examples} examples, {matched} twins: {len(faults) or 'no'} fault{'s' * (len(faults) != 1)}")
    if faults:
        raise typer.Exit(1)


@app.command()
def curves(
    run: Path = typer.Argument(..., help="A run folder of task lantern, in training or done."),
    every: float = typer.Option(0.0, "--every", min=0.0, metavar="SECONDS", help="Draw again so often, until Ctrl-C; 0 draws once."),
) -> None:
    """Draw the curves of a run while it trains, as training.html beside its other files, from the logs alone."""
    import time

    from scionwood.tasks.lantern.live import write_page

    print(write_page(run, every or None))
    while every:
        time.sleep(every)
        write_page(run, every)
