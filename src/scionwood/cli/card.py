"""scion card: render card and report anew."""

from pathlib import Path

import typer

from scionwood.cli.common import flow_of_run, quiet_libraries


def card(
    run: Path = typer.Argument(..., help="A run folder."),
    print_: bool = typer.Option(False, "--print", help="Print the card instead of writing card and report."),
) -> None:
    """Render card and report anew from the run's figures."""
    from scionwood import files

    quiet_libraries()
    flow = flow_of_run(run, finished=True)
    rendered = flow.render(files.read_json(run / "figures.json"))
    if print_:
        print(rendered["README.md"], end="")
        return
    for name, text in rendered.items():
        files.write_text(run / name, text)
        print(run / name)
