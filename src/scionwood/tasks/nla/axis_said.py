"""A direction in words: verbalized in both signs, beside random directions of the same norm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.tasks.nla import fve
from scionwood.tasks.nla.axis import Contrast, auc, dprime
from scionwood.tasks.nla.directions import Direction
from scionwood.tasks.nla.extract import LAST, MEAN, own_tokens
from scionwood.tasks.nla.states import block_states

if TYPE_CHECKING:
    from scionwood.tasks.nla.pair import Pair

AXIS, RANDOM = "axis", "random"


@dataclass(frozen=True)
class Spoken:
    """What was said of one direction. ``sign`` is 1 or -1. ``back`` is the cosine of the vector that the reconstructor makes of the
    words with the direction as it was injected, once the mean of all these reconstructions is taken off: above 0, the words point the
    right way. None without a reconstructor."""

    kind: str
    number: int
    sign: int
    said: str
    complete: bool
    back: float | None

    def row(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)


def say(pair: "Pair", direction: Direction, *, randoms: int = 3, tokens: int = 80, seed: int = 0) -> list[Spoken]:
    """Verbalize a direction and random ones of the same norm, each in both signs, greedily."""
    if len(direction.vector) != pair.width:
        raise UserError(f"direction '{direction.name}': {len(direction.vector)} values, but this model's vectors have {pair.width}")
    chance = np.random.RandomState(seed)
    noise = [chance.standard_normal(pair.width) for _ in range(randoms)]
    vectors = [(AXIS, 0, direction.vector * direction.norm)] + [
        (RANDOM, i, n / np.linalg.norm(n) * direction.norm) for i, n in enumerate(noise, 1)]
    signed = [(kind, number, sign, sign * np.asarray(v, dtype=np.float32)) for kind, number, v in vectors for sign in (1, -1)]
    values = np.stack([v for *_, v in signed])
    said = pair.av.verbalize(values, temperature=0.0, tokens=tokens, seeds=list(range(len(values))))
    texts = [s.text.strip() for s in said]
    back: list[float | None] = [None] * len(signed)
    if pair.ar_folder:
        made = fve.unit(pair.ar.reconstruct([t or " " for t in texts]))
        centred = made - made.mean(axis=0)
        cos = fve.cosines(centred, values)
        back = [round(float(c), 4) if t else None for c, t in zip(cos, texts)]
    return [Spoken(kind, number, sign, text, s.complete, b)
            for (kind, number, sign, _), text, s, b in zip(signed, texts, said, back, strict=True)]


def told(spoken: Sequence[Spoken], names: tuple[str, str] = ("+", "-")) -> str:
    """One line for each direction and sign."""
    lines = []
    for s in spoken:
        side = (names[0] if s.sign > 0 else names[1]) if s.kind == AXIS else f"random {s.number} {'+' if s.sign > 0 else '-'}"
        back = "" if s.back is None else f"  [{s.back:+.2f}]"
        lines.append(f"{side}:{back} {s.said or '(nothing)'}{'' if s.complete else ' …'}")
    return "\n".join(lines)


def contrast_states(model, renderer, texts: Sequence[str], layers: Sequence[int], at: str = LAST) -> np.ndarray:
    """States (n, layers, d) of texts as user's turns: at the template's last token, or the mean over the text's own tokens."""
    if at not in (LAST, MEAN):
        raise UserError(f"--at {at}: expected {LAST} or {MEAN}")
    found = [own_tokens(renderer, text) for text in texts]
    ids = [i for i, _ in found]
    if at == LAST:
        return np.stack(block_states(model, ids, layers))
    return np.stack([states[:, own].mean(axis=1) for states, (_, own) in zip(block_states(model, ids, layers, every=True), found)])


def measure(states: np.ndarray, direction: Direction, contrast: Contrast) -> dict[str, float]:
    """AUC and d' of a direction that was made elsewhere, on states (n, d) of all texts of a contrast."""
    scores = states.astype(np.float64) @ direction.vector.astype(np.float64)
    return {"auc": float(auc(scores, contrast.labels)), "dprime": float(dprime(scores, contrast.labels))}
