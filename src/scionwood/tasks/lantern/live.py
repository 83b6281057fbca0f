"""A page with the curves of a lantern run while it still trains: made from its logs by another process, so that training pays nothing."""

from __future__ import annotations

import html
from importlib.resources import files as package_files
from pathlib import Path

from scionwood import files
from scionwood.errors import UserError
from scionwood.tasks.lantern.flow import PLAIN

PAGE = "training.html"

TEMPLATE = """\
<!doctype html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh}<title>{name}: training</title>
<style>
{css}</style>
</head>
<body>
<header>
<h1>{name}</h1>
<p>{state}</p>
</header>
<main>
{drawings}
</main>
</body>
</html>
"""


def logs_of(run: Path) -> dict[str, list[dict]]:
    """The log of each training of a run so far. A line that is being written is left for the next time."""
    import json

    out = {}
    for path in sorted((run / "adapter").glob("*/log.jsonl")):
        whole = path.read_text("utf-8").rpartition("\n")[0]
        out[path.parent.name] = [json.loads(line) for line in whole.split("\n") if line.strip()]
    return {name: rows for name, rows in out.items() if rows}


def write_page(run: Path, refresh: float | None = None) -> Path:
    """Write ``training.html`` into a run folder; returns its path. ``refresh``: seconds after which a browser loads it again.

    Raises UserError where nothing has been trained yet.
    """
    from scionwood.tasks.lantern import plots

    logs = logs_of(Path(run))
    if not logs:
        raise UserError(f"{run}: no training has begun in this run; start it with 'scion run'")
    figures = {"systems": {PLAIN: {"kind": "rival"}}}
    drawings = [svg for draw in (plots.diversity, plots.curves) if (svg := draw(figures, {"logs": logs}))]
    state = "; ".join(f"{name}: step {rows[-1]['step']}" for name, rows in logs.items())
    css = package_files("scionwood.evidence").joinpath("templates", "report.css").read_text("utf-8")
    page = TEMPLATE.format(name=html.escape(Path(run).resolve().name), css=css, state=html.escape(state),
                           refresh=f'<meta http-equiv="refresh" content="{refresh:g}">\n' if refresh else "",
                           drawings="\n".join(f'<figure>\n<div class="drawings">\n{d}\n</div>\n</figure>' for d in drawings))
    out = Path(run) / PAGE
    files.write_text(out, page)
    return out
