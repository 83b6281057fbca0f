"""Files brought in: raw telemetry, recordings and published rows into a store, or a recording into a compact file."""

from __future__ import annotations

from pathlib import Path

from scionwood.errors import UserError
from scionwood.files import write_text
from scionwood.tasks.lumen.settings import Body
from scionwood.tasks.lumen.state.eisv import Feeling
from scionwood.tasks.lumen.store.card import card_place, data_card
from scionwood.tasks.lumen.store.compact import ENDING, write_compact
from scionwood.tasks.lumen.store.published import import_rows, is_rows
from scionwood.tasks.lumen.store.recorder import Recorder
from scionwood.tasks.lumen.store.recordings import read_recording


def bring(source: Path, to: Path, body: Body, session: int | None = None, made: str = "") -> str:
    """Bring ``source`` to ``to`` and say in a line what was done. ``made`` goes to the data card of a compact recording."""
    if source.is_file() and is_rows(source):
        if to.name.endswith(ENDING):
            raise UserError(f"{source}: rows hold no readings; bring them to a store (--to lumen.db)")
        return f"{to}: {import_rows(source, to)} rows added"
    readings = read_recording(source, session)
    if to.name.endswith(ENDING):
        place = card_place(to)
        count = write_compact(to, readings)
        write_text(place, data_card(to, made))
        return f"{to}: {count} readings, {to.stat().st_size:,} bytes; described in {place.name}"
    feeling = Feeling(body.state)
    recorder = Recorder(to, f"imported from {source.name}", body.state)
    try:
        count = recorder.add_all((r, feeling.next(r)) for r in readings)
    finally:
        recorder.close()
    return f"{to}: {count} readings added as session {recorder.session}" if count else f"{source}: no readings in it"
