"""The recipe of a body: what is sensed, how it is felt, what is kept, and how shapes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from scionwood.settings import Settings, apply_sets, check, load
from scionwood.tasks.lumen.sensing.settings import Sensing
from scionwood.tasks.lumen.state.settings import State
from scionwood.tasks.lumen.store.settings import Keeping
from scionwood.tasks.lumen.trajectories.settings import Shapes


class Body(Settings):
    """The recipe of a body. Every table and every key may be left out."""

    sensing: Sensing = Sensing()
    state: State = State()
    store: Keeping = Keeping()
    shapes: Shapes = Shapes()


def body_of(recipe: Path | None, sets: Sequence[str] = ()) -> Body:
    """The settings of a TOML file, or the defaults, with ``key=value`` strings applied."""
    return load(recipe, Body, list(sets)) if recipe else check(apply_sets({}, list(sets)), Body, "--set")
