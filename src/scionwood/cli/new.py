"""scion new: a task package of your own."""

from pathlib import Path

import typer


def new(
    name: str = typer.Argument(..., help="Name of the package, its task and its folder: letters, digits, - and _."),
    out: Path = typer.Option(Path("."), "--out", "-o", help="Where to put the folder."),
) -> None:
    """Write a small package with a task of your own, which scion run accepts at once: data, prompt, rivals, recipe, tests."""
    import shlex

    from scionwood.scaffold import write_package

    folder = write_package(name, out)
    recipe = shlex.quote(str(folder / "recipe.toml"))
    print(f"{folder}: written; {folder / 'README.md'} says how to make it yours. Go on with\n")
    print(f"pip install -e {shlex.quote(str(folder))}\nscion run {recipe}\nscion show {recipe}")
