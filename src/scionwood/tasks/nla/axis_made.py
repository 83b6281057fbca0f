"""An axis as a whole: made of texts or read from a file, measured, and said in words where a verbalizer is at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from scionwood.errors import UserError
from scionwood.tasks.nla.axis import FOLDS, Axis, Contrast, fit_axis
from scionwood.tasks.nla.axis_said import Spoken, contrast_states, measure, say
from scionwood.tasks.nla.directions import Direction, read_direction
from scionwood.tasks.nla.states import check_layer

if TYPE_CHECKING:
    from scionwood.tasks.nla.pair import Pair


@dataclass
class Made:
    """``direction`` with what is known of it: ``axis`` where it was made here, ``measured`` where it came from a file and texts were
    given. ``spoken`` are its words; ``native`` is the direction at the verbalizer's own layer, where the chosen one is another."""

    base: str
    at: str
    direction: Direction
    names: tuple[str, str] = ("+", "-")
    axis: Axis | None = None
    measured: dict[str, float] | None = None
    spoken: list[Spoken] = field(default_factory=list)
    native: Direction | None = None
    native_spoken: list[Spoken] = field(default_factory=list)
    av_layer: int | None = None
    notes: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """As a JSON value."""
        return {
            "base": self.base, "at": self.at, "name": self.direction.name, "layer": self.direction.layer, "norm": self.direction.norm,
            "axis": self.axis.row() if self.axis else None, "measured": self.measured, "av_layer": self.av_layer,
            "spoken": [s.row() for s in self.spoken], "native_spoken": [s.row() for s in self.native_spoken], "notes": self.notes,
        }


def make_axis(pair: "Pair", contrast: Contrast, layer: int | None, at: str, *, folds: int = FOLDS, randoms: int = 3, tokens: int = 80,
              echo: Callable[[str], None] = lambda line: None) -> Made:
    """Make an axis of texts. With ``layer`` only that one is looked at, so nothing is chosen."""
    count = pair.model.config.get_text_config().num_hidden_layers
    layers = list(range(count)) if layer is None else [check_layer(pair.model, layer)]
    echo(f"{len(contrast.texts)} texts, blocks {layers[0]} to {layers[-1]}")
    found = fit_axis(contrast_states(pair.model, pair.renderer, contrast.texts, layers, at), contrast, layers, folds)
    name = f"{contrast.names[0]} against {contrast.names[1]}"
    about = {"base": pair.name, "at": at, "positive": contrast.names[0], "negative": contrast.names[1], "test_auc": found.nested_auc}

    def of(k: int) -> Direction:
        i = layers.index(k)
        return Direction(name, found.directions[i], k, found.norms[i], about)

    made = Made(pair.name, at, of(found.layer), contrast.names, axis=found)
    if pair.av_folder:
        own = of(pair.layer) if pair.layer in layers and pair.layer != found.layer else None
        _speak(made, pair, own, randoms, tokens)
    return made


def take_direction(pair: "Pair", file: Path, contrast: Contrast | None, layer: int | None, at: str, *, randoms: int = 3,
                   tokens: int = 80) -> Made:
    """Take a direction from a file; a contrast, where there is one, measures it. It may have been made of them: the file does not say."""
    direction = read_direction(file)
    known = layer if layer is not None else direction.layer
    direction = Direction(direction.name, direction.vector, known, direction.norm, direction.about)
    sides = direction.about.get("positive", "+"), direction.about.get("negative", "-")
    made = Made(pair.name, at, direction, sides)
    if len(direction.vector) != pair.width:
        raise UserError(f"{file}: a direction of {len(direction.vector)} values, but this model's vectors have {pair.width}; name its base")
    if contrast:
        if known is None:
            raise UserError(f"{file}: does not say its layer; name it with --layer")
        states = contrast_states(pair.model, pair.renderer, contrast.texts, [check_layer(pair.model, known)], at)[:, 0]
        made.names, made.measured = contrast.names, measure(states, direction, contrast)
        made.notes.append("measured on all the texts given; if the direction was made of them, this is no held-out figure")
    if pair.av_folder:
        _speak(made, pair, None, randoms, tokens)
    elif not contrast:
        raise UserError("axis: a direction alone can only be said in words; name a verbalizer with --run or --av, or texts too")
    return made


def _speak(made: Made, pair: "Pair", native: Direction | None, randoms: int, tokens: int) -> None:
    made.av_layer = pair.layer
    made.spoken = say(pair, made.direction, randoms=randoms, tokens=tokens)
    if made.direction.layer is None:
        made.notes.append(f"the direction's file names no layer; the verbalizer reads layer {pair.layer}")
    elif made.direction.layer != pair.layer:
        made.notes.append(f"the direction is of layer {made.direction.layer}, but the verbalizer reads layer {pair.layer}: trust it less")
    if native:
        made.native, made.native_spoken = native, say(pair, native, randoms=0, tokens=tokens)
