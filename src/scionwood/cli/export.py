"""scion export: a run's adapter as files that other programs run."""

from pathlib import Path
from typing import Optional

import typer

from scionwood.cli.common import flow_of_run, quiet_libraries


def export(
    run: Path = typer.Argument(..., help="A run folder."),
    formats: list[str] = typer.Argument(None, metavar="[FORMAT]...", show_default=False, help="The same as --to."),
    to: list[str] = typer.Option([], "--to", metavar="FORMAT", show_default=False,
                                 help="gguf:KIND (f32, f16, q8_0, q4_0; with llama-quantize also q4_k_m and others), merged, lora-gguf, "
                                 "mlx or ollama; several may follow (default: gguf:f16 gguf:q8_0)."),
    adapter: Optional[str] = typer.Option(None, help="Which adapter (default: the one that did best on the dev split)."),
) -> None:
    """Write a run's adapter to RUN/export in other formats and check each file against transformers at once."""
    from scionwood.export.check import sentence
    from scionwood.export.exporter import export as export_run

    quiet_libraries()
    flow = flow_of_run(run)
    with flow.run.lock():
        done = export_run(flow, [*to, *(formats or [])] or ["gguf:f16", "gguf:q8_0"], adapter)
    for one in done:
        print(f"{flow.run.path(one.path)}  {one.bytes / 1e6:.1f} MB  {sentence(one.check)}")
    failed = [one.format for one in done if one.failed]
    if failed:
        print(f"{run}: the check of {', '.join(failed)} failed; do not ship {'it' if len(failed) == 1 else 'them'}")
        raise typer.Exit(1)
