"""scion fit: does it fit a small machine, and about how fast would it be?"""

from pathlib import Path
from typing import Optional

import typer


def fit(
    run: Optional[Path] = typer.Argument(None, show_default=False, help="A run folder with GGUF exports, or one GGUF file."),
    device: list[str] = typer.Option([], "--device", "-d", show_default=False,
                                     help="pi4, pi4-8, pi5, pi5-4, pi5-16, jetson-nano, orin-nano, mac8 or mac16 (default: all)."),
    params: Optional[str] = typer.Option(None, help="In place of a run: a number of parameters, such as 7B or 600M."),
    kind: str = typer.Option("q4_0", help="With --params: f16, q8_0, q4_0, q4_k_m, ..."),
    context: Optional[int] = typer.Option(None, min=1,
                                          help="Tokens that a key-value cache holds (default: for a run as it is served, else 4096 or "
                                          "the model's maximum)."),
    measure: bool = typer.Option(True, help="Generate a few tokens here, so that the speed there can be estimated."),
) -> None:
    """Print what fits, with the arithmetic: file, key-value cache, memory, tokens per second. Exit code 1 where nothing fits."""
    from scionwood.errors import UserError, nearest
    from scionwood.export.devices import DEVICES
    from scionwood.export.fit import fit as fit_one
    from scionwood.export.fit import measure as measure_one
    from scionwood.export.fit import shape_from, shape_of

    for name in device:
        if name not in DEVICES:
            raise UserError(f"--device {name}: not known{nearest(name, DEVICES)} (known: {', '.join(DEVICES)})")
    if (run is None) == (params is None):
        raise UserError("scion fit: name a run or a GGUF file, or give --params, such as --params 7B --kind q4_0")
    paths = [] if run is None else [run] if run.is_file() else sorted(run.glob("*.gguf")) or sorted((run / "export").glob("*.gguf"))
    models = [(shape_of(p), measure_one(p) if measure else None) for p in paths if not p.stem.endswith("-lora")] or (
        [(shape_from(params, kind), None)] if params else [])
    if not models:
        raise UserError(f"{run}: no GGUF file; 'scion export {run} --to gguf:q8_0' writes one")
    routes, longest = served(run) if run is not None else (None, None)
    fits = False
    for shape, speed in models:
        for name in device or DEVICES:
            told = fit_one(shape, DEVICES[name], context or longest or min(4096, shape.longest or 4096), speed, routes)
            fits = fits or told["fits"]
            print("\n".join(told["lines"]) + "\n")
    if not fits:
        raise typer.Exit(1)


def served(run: Path) -> tuple[Optional[int], Optional[int]]:
    """(routes, tokens of a cache) of a sidecar that serves this run; (None, None) for a bare GGUF file, or where that is not known."""
    from scionwood.cli.common import say
    from scionwood.errors import UserError
    from scionwood.serving.artifact import read_artifact
    from scionwood.serving.routes import routes_of
    from scionwood.task import load_task

    if not any((folder / "serving.json").exists() for folder in (run, run / "export")):
        return None, None
    try:
        artifact = read_artifact(run)
        return len(routes_of(load_task(artifact.task, **artifact.task_options))), artifact.max_length
    except UserError as e:
        say(f"{run}: one key-value cache is counted, since the sidecar's are not known ({e})")
        return None, None
