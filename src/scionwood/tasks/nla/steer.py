"""Steering by words: edit what the verbalizer said, and add to the model what the edit means as a vector.

The edit of the words becomes AR(edited) - AR(original), both at root mean square 1, so that only what they point to counts. It is
brought to ``strength`` times the median norm of the prompt's own vectors at layer K and added to the output of block K while the
model answers. A random direction of the same norm is added in the same places: what it changes, any push of this size would.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.tasks.nla import fve
from scionwood.tasks.nla.generating import ALL, generate
from scionwood.tasks.nla.states import block_states, prompt_ids

if TYPE_CHECKING:
    from scionwood.tasks.nla.pair import Pair

UNSTEERED, STEERED, RANDOM = "unsteered", "steered", "random"


@dataclass(frozen=True)
class Answer:
    """What the model said under one edit. ``strength``: norm of what was added over the median norm at the layer. ``moved``: how
    far the prediction of the first token went from the unsteered one (Kullback-Leibler divergence in nats)."""

    kind: str
    strength: float
    text: str
    ended: bool
    moved: float


@dataclass(frozen=True)
class Steering:
    """One prompt, the words before and after the edit, and the answers. ``cosine`` is that of AR(original) and AR(edited): close
    to 1 means that the reconstructor hardly sees a difference, and then the edit has a direction but little behind it."""

    prompt: str
    base: str
    layer: int
    where: str
    original: str
    edited: str
    cosine: float
    norm: float
    answers: list[Answer]

    def row(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)


def edited_words(original: str, edited: str | None, replacements: Sequence[str]) -> str:
    """The words after the edit: given whole, or the original with each ``OLD=NEW`` put in place."""
    if edited is not None:
        if replacements:
            raise UserError("steer: name the edited words with --edited, or replacements with --replace, not both")
        return edited
    if not replacements:
        raise UserError(f"steer: name the edited words with --edited, or --replace OLD=NEW; the words are: {original}")
    words = original
    for item in replacements:
        old, sign, new = item.partition("=")
        if not sign or not old:
            raise UserError(f"--replace {item}: expected OLD=NEW")
        if old not in words:
            raise UserError(f"--replace {item}: '{old}' does not stand in the words: {words}")
        words = words.replace(old, new)
    return words


def words_of(pair: "Pair", prompt: str, tokens: int) -> str:
    """What the verbalizer says of the prompt's last token, where the model is about to answer."""
    values = block_states(pair.model, prompt_ids(pair.renderer, [prompt]), [pair.layer])[0]
    said = pair.av.verbalize(values, temperature=0.0, tokens=tokens, seeds=[0])[0].text.strip()
    if not said:
        raise UserError("steer: the verbalizer says nothing here; name the words before the edit with --original")
    return said


def edit_of(pair: "Pair", original: str, edited: str) -> tuple[np.ndarray, float]:
    """``(direction (d,) of norm 1, cosine of the two reconstructions)``."""
    if original.strip() == edited.strip():
        raise UserError("steer: the words before and after the edit are the same")
    before, after = fve.unit(pair.ar.reconstruct([original, edited]))
    change = after - before
    norm = float(np.linalg.norm(change))
    if norm < 1e-9:
        raise UserError("steer: the reconstructor makes the same vector of both; edit more of the words")
    return (change / norm).astype(np.float32), float((before * after).mean())


def steer(pair: "Pair", prompt: str, original: str, edited: str, *, strengths: Sequence[float] = (0.5,), where: str | Sequence[int] = ALL,
          tokens: int = 60, temperature: float = 0.0, randoms: int = 1, seed: int = 0) -> Steering:
    """Answer a prompt unsteered, with the edit, and with random edits of the same norm; all in one batch, under the same chances."""
    if not strengths or min(strengths) <= 0:
        raise UserError("--strength: expected numbers above 0")
    ids = prompt_ids(pair.renderer, [prompt])[0]
    if not isinstance(where, str):
        for at in where:
            if not -len(ids) <= at < len(ids):
                raise UserError(f"--at {at}: the prompt has tokens 0 to {len(ids) - 1} (or -1 to -{len(ids)} from its end)")
    direction, cosine = edit_of(pair, original, edited)
    norms = np.linalg.norm(block_states(pair.model, [ids], [pair.layer], every=True)[0][0], axis=1)
    norm = float(np.median(norms))
    chance = np.random.RandomState(seed)
    noise = [chance.standard_normal(len(direction)).astype(np.float32) for _ in range(randoms)]
    pushes = [(UNSTEERED, 0.0, direction)]
    for strength in strengths:
        pushes.append((STEERED, strength, direction))
        pushes += [(RANDOM, strength, n / np.linalg.norm(n)) for n in noise]
    edits = np.stack([strength * norm * vector for _, strength, vector in pushes])
    made = generate(pair.model, ids, pair.ends, tokens, edits=edits, layer=pair.layer, where=where, temperature=temperature, seed=seed)
    plain = made[0].first.astype(np.float64)
    answers = [
        Answer(kind, strength, pair.renderer.tokenizer.decode(list(g.ids), skip_special_tokens=True).strip(), g.ended,
               round(max(0.0, float((np.exp(plain) * (plain - g.first)).sum())), 4))
        for (kind, strength, _), g in zip(pushes, made)
    ]
    place = where if isinstance(where, str) else ", ".join(map(str, where))
    return Steering(prompt, pair.name, pair.layer, place, original, edited, round(cosine, 4), round(norm, 3), answers)


def told(steering: Steering) -> str:
    """The answers below one another."""
    lines = [f"words:  {steering.original}", f"edited: {steering.edited}",
             f"cosine of their vectors {steering.cosine:.3f}; added at layer {steering.layer} to tokens: {steering.where}; "
             f"strength 1 is {steering.norm:.1f}, the median norm there", ""]
    for a in steering.answers:
        name = a.kind if a.kind == UNSTEERED else f"{a.kind}, strength {a.strength:g}, first token moved by {a.moved:.2f} nats"
        lines += [f"{name}:", f"  {a.text or '(nothing)'}{'' if a.ended else ' …'}"]
    return "\n".join(lines)
