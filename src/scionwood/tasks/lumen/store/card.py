"""The data card of a recording: what is in it, every figure computed from its file."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Sequence

from scionwood.errors import UserError
from scionwood.files import file_hash
from scionwood.tasks.lumen.sensing.readings import FIELDS, Reading
from scionwood.tasks.lumen.store.compact import ENDING, read_compact
from scionwood.tasks.lumen.trajectories.windows import GAP


TITLE = "# A recording of one machine"


def card_place(recording: Path) -> Path:
    """Where the card of a recording goes: README.md beside it, NAME.md where that is another text. Raises UserError where both are."""
    places = [recording.with_name(name) for name in ("README.md", f"{recording.name.removesuffix(ENDING)}.md")]
    for place in places:
        if not place.exists() or _is_card(place, recording):
            return place
    raise UserError(f"{places[-1]}: is no data card of {recording.name}, and must make room for it; "
                    "move it away, or name another file with --to")


def _is_card(place: Path, recording: Path) -> bool:
    text = place.read_text("utf-8", "replace")
    return text.startswith(TITLE) and f"`{recording.name}`" in text


def data_card(path: Path, made: str = "") -> str:
    """The data card of a compact recording. ``made`` says in a sentence or two what was recorded and what the machine was doing."""
    rows = list(read_compact(path))
    steps = [b.t - a.t for a, b in zip(rows, rows[1:])] or [0.0]
    usual, hours = median(steps), (rows[-1].t - rows[0].t) / 3600
    day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(rows[0].t))
    present = [name for name in FIELDS if any(r[name] is not None for r in rows)]
    reasons = {name: next(r.reasons[name] for r in rows if r[name] is None) for name in FIELDS if name not in present}
    gaps = [s for s in steps if s > GAP * usual]
    silence = f"{len(gaps)} {'silence' if len(gaps) == 1 else 'silences'} of more than {GAP:g} such steps"
    if gaps:
        silence += f", {sum(gaps) / 3600:.2f} hours in all, so that {hours - sum(gaps) / 3600:.2f} hours were heard"
    lines = [
        TITLE,
        "",
        *([made.strip(), ""] if made.strip() else []),
        f"`{path.name}` holds {len(rows):,} readings over {hours:.2f} hours from {day} UTC, one every {usual:.2f} seconds (median), with "
        f"{silence}. It takes "
        f"{path.stat().st_size:,} bytes; its SHA-256 is `{file_hash(path)}`. Nothing in it was made up or "
        "smoothed; values are rounded to what the counters tell. It names no host, user, file or address.",
        "",
        "| field | what | known | least | median | most |",
        "|:---|:---|---:|---:|---:|---:|",
        *(_row(name, rows) for name in present),
        "",
        *(["Not recorded: " + "; ".join(f"`{name}` ({why})" for name, why in reasons.items()) + ".", ""] if reasons else []),
        f"Play it with `scion lumen replay {path.name}`.",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, rows: Sequence[Reading]) -> str:
    values = [r[name] for r in rows if r[name] is not None]
    return f"| `{name}` | {FIELDS[name]} | {len(values):,} | {min(values):,.5g} | {median(values):,.5g} | {max(values):,.5g} |"
