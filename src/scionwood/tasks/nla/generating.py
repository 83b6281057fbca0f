"""Generation by hand, several answers to one prompt at a time, each with an edit of its own to a block's output."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass
from typing import Callable, Collection, Sequence

import numpy as np

from scionwood.tasks.nla.states import blocks_of, changed

PROMPT, LAST, REPLY, ALL = "prompt", "last", "reply", "all"
WHERE = (ALL, PROMPT, LAST, REPLY)


@dataclass(frozen=True)
class Generated:
    """One answer: token ids without its end, whether it ended by itself, and the log-probabilities (vocabulary,) of its first token."""

    ids: tuple[int, ...]
    ended: bool
    first: np.ndarray


def positions_of(where: str | Sequence[int], prompt: int) -> Callable[[int], bool]:
    """Which absolute positions are edited: all, those of the prompt, from its last token on, those of the reply, or numbers."""
    if not isinstance(where, str):
        chosen = {i if i >= 0 else prompt + i for i in where}
        return lambda at: at in chosen
    return {ALL: lambda at: True, PROMPT: lambda at: at < prompt, LAST: lambda at: at >= prompt - 1, REPLY: lambda at: at >= prompt}[where]


def generate(model, prompt: Sequence[int], ends: Collection[int], tokens: int, *, edits: np.ndarray | None = None, layer: int | None = None,
             where: str | Sequence[int] = ALL, temperature: float = 0.0, seed: int = 0, on_token: Callable[[int], None] | None = None,
             ) -> list[Generated]:
    """Answers to one prompt (token ids), one for each row of ``edits`` (rows, d), which is added to the output of block ``layer``
    at the positions that ``where`` names; without edits one plain answer. ``temperature`` 0 takes the likeliest token; above, all
    rows draw with the same chances, so that they differ by their edits alone.
    """
    import torch
    from transformers import DynamicCache

    device = next(model.parameters()).device
    rows = 1 if edits is None else len(edits)
    ids = torch.tensor([list(prompt)] * rows, device=device)
    edited = positions_of(where, len(prompt))
    vector = None if edits is None else torch.from_numpy(np.asarray(edits, dtype=np.float32)).to(device)
    begin, chance, ending = 0, random.Random(seed), set(ends)

    def add(hidden):
        at = torch.tensor([edited(begin + i) for i in range(hidden.shape[1])], device=hidden.device)
        return (hidden.float() + vector[:, None, :] * at[None, :, None]).to(hidden.dtype)

    cache, chosen, first = DynamicCache(), [], None
    going = np.ones(rows, dtype=bool)
    with contextlib.ExitStack() as stack:
        if vector is not None:
            stack.enter_context(changed(blocks_of(model)[layer], add))
        for step in range(tokens):
            with torch.no_grad():
                logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
            if first is None:
                first = logits.log_softmax(-1).cpu().numpy()
            if temperature:
                sums = (logits.double() / temperature).softmax(-1).cumsum(-1)
                token = torch.searchsorted(sums, chance.random() * sums[:, -1:], right=True).clamp(max=logits.shape[-1] - 1)
            else:
                token = logits.argmax(-1, keepdim=True)
            chosen.append(token[:, 0].cpu().numpy())
            begin, ids = begin + ids.shape[1], token
            going &= ~np.isin(chosen[-1], list(ending))
            if on_token:
                on_token(step + 1)
            if not going.any():
                break
    out = []
    for row in np.stack(chosen, 1).tolist():
        n = next((i for i, t in enumerate(row) if t in ending), len(row))
        out.append(Generated(tuple(row[:n]), n < len(row), first[len(out)]))
    return out
