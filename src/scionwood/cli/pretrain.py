"""scion pretrain: train a small base from text files."""

from pathlib import Path
from typing import Optional

import typer

from scionwood.cli.common import quiet_libraries, recipe_path, say

DEVICES = ("auto", "cpu", "cuda", "mps")


def pretrain(
    recipe: str = typer.Argument(..., help="A pretraining recipe (TOML), e.g. base-cpu."),
    corpus: Path = typer.Option(..., help="A folder of *.txt or *.txt.xz files, one per source; documents parted by a line <|doc|>."),
    out: Path = typer.Option(Path("runs/base"), "--out", "-o", help="Where the run and, in model/, the finished base go."),
    from_: Optional[Path] = typer.Option(None, "--from", metavar="BASE", help="Go on from the weights and tokenizer of this base."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    set_: list[str] = typer.Option([], "--set", "-s", metavar="KEY=VALUE", help="Override one key of the recipe."),
) -> None:
    """Train a small base and its tokenizer from text, measure it on held-out text, and write its card. Resumes a killed run."""
    from scionwood.errors import UserError, nearest
    from scionwood.pretraining.run import Report, pretrain as work
    from scionwood.pretraining.settings import Pretraining
    from scionwood.run import Run
    from scionwood.settings import load

    if device not in DEVICES:
        raise UserError(f"--device {device}: not a device{nearest(device, DEVICES)} (known: {', '.join(DEVICES)})")
    settings = load(recipe_path(recipe), Pretraining, set_)
    quiet_libraries()
    with Run(out).lock():
        work(settings, corpus, out, from_, Report(say), device)
    print(out / "model")
