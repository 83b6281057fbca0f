"""scion run: from a recipe to a finished card."""

from pathlib import Path
from typing import Optional

import typer

from scionwood.cli.common import quiet_libraries, recipe_path, say


def run(
    recipe: str = typer.Argument(..., help="A recipe: a TOML file, or the name of one that ships with scionwood."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Run folder (default: runs/NAME, or below SCION_RUNS)."),
    set_: list[str] = typer.Option([], "--set", "-s", metavar="KEY=VALUE", help="Override one key of the recipe, e.g. train.epochs=4."),
) -> None:
    """Run a recipe to a finished card. Stages that are done are skipped; a run that was killed goes on where it stopped."""
    from scionwood.flow import flow_for
    from scionwood.recipe import read_recipe
    from scionwood.run import Run, default_folder

    path = recipe_path(recipe)
    settings = read_recipe(path, set_)
    quiet_libraries()
    place = Run(out or default_folder(settings.name), echo=say)
    with place.lock():
        flow_for(settings, place, path.resolve().parent).all()
    from scionwood.evidence.summary import summary

    print(summary(place.path("figures.json")))
    print(f"card: {place.path('README.md')}\nreport: {place.path('report.html')}")
