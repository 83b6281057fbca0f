"""scion import: an adapter that was trained elsewhere, measured as a system."""

from pathlib import Path
from typing import Optional

import typer

from scionwood.cli.common import quiet_libraries, say


def import_(
    folder: Path = typer.Argument(..., help="An adapter folder, of mlx-lm (adapters.safetensors) or PEFT (adapter_model.safetensors)."),
    task: str = typer.Option(..., help="The task that it is measured on."),
    base: Optional[str] = typer.Option(None,
                                       help="Its base: a folder, a hub name, or 'embedded' (default: the one that the adapter names)."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Run folder (default: runs/NAME-of-the-folder, or below SCION_RUNS)."),
    set_: list[str] = typer.Option([], "--set", "-s", metavar="KEY=VALUE", help="A key of the recipe, e.g. evidence.decoder=json."),
) -> None:
    """Measure an adapter that was trained elsewhere, beside the task's rivals and its untuned base, to a finished card."""
    import re

    from scionwood.errors import UserError
    from scionwood.export.adopt import named_base, read_adapter
    from scionwood.flow import flow_for
    from scionwood.recipe import Recipe
    from scionwood.run import Run, default_folder
    from scionwood.settings import apply_sets, check

    lora, kind = read_adapter(folder)
    say(f"adapter: {kind}, rank {lora.rank}, scale {lora.scale:g}, {len(lora.layers())} layers, {', '.join(lora.targets())}")
    if not (base or lora.base):
        raise UserError(f"{folder}: does not say which base it belongs to; name it with --base")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", folder.resolve().name).lstrip("._-") or "imported"
    data = {"name": name, "task": task, "base": named_base(base or lora.base),
            "adapter": {"folder": str(folder.resolve()), "rank": lora.rank},
            "evidence": {"shuffled_control": False}, "train": {"seeds": [0]}}
    recipe = check(apply_sets(data, set_), Recipe, "scion import")
    quiet_libraries()
    run = Run(out or default_folder(name), echo=say)
    with run.lock():
        flow_for(recipe, run, Path.cwd()).all()
    from scionwood.evidence.summary import summary

    print(summary(run.path("figures.json")))
    print(f"card: {run.path('README.md')}\nreport: {run.path('report.html')}")
