"""Draw answers from a model, many prompts at a time: temperature, top-p, min-p, and the predictive entropy along the way."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass
from typing import Callable, Collection, Sequence

import numpy as np


ASKED = 16  # tokens between two questions whether an answer is long enough


@dataclass(frozen=True)
class Sample:
    """One drawn answer: ``ids`` without the turn end; whether it ``ended`` by itself; ``entropies`` and ``surprisals`` (tokens,)
    in nats of the model's own distribution (T = 1, before any filter), the drawn end not among them. ``drawn`` (tokens,) are the
    entropies of what was really drawn from, after temperature and filters. Where an answer may not end yet, its ends have no part
    in any of them."""

    ids: tuple[int, ...]
    ended: bool
    entropies: np.ndarray
    surprisals: np.ndarray
    drawn: np.ndarray


@dataclass(frozen=True)
class Draw:
    """How tokens are drawn. ``temperature`` 0 takes the likeliest. ``top_p`` keeps the fewest tokens that hold this much
    probability (Holtzman et al. 2020), ``min_p`` those with at least this share of the likeliest one's (Nguyen et al. 2024);
    both after the temperature, 1 and 0 keep all. No answer ends before it has ``min_tokens``."""

    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    tokens: int = 128
    min_tokens: int = 0


def probabilities(logits, draw: Draw):
    """What is drawn from: (rows, vocabulary) float64 that sum to one, from logits of that shape."""
    import torch

    if draw.temperature == 0:
        return torch.zeros_like(logits, dtype=torch.float64).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    p = (logits.double() / draw.temperature).softmax(-1)
    if draw.min_p > 0:
        p = torch.where(p >= draw.min_p * p.amax(-1, keepdim=True), p, 0.0)
    if draw.top_p < 1:
        p = p / p.sum(-1, keepdim=True)
        ordered, places = torch.sort(p, dim=-1, descending=True, stable=True)
        kept = ordered.cumsum(-1) - ordered < draw.top_p  # the token that crosses the line is kept
        p = torch.zeros_like(p).scatter_(-1, places, torch.where(kept, ordered, 0.0))
    return p / p.sum(-1, keepdim=True)


def sample(model, prompts: Sequence[Sequence[int]], ends: Collection[int], draw: Draw, seeds: Sequence[str],
           autocast: Callable = contextlib.nullcontext, on_token: Callable[[int], None] | None = None,
           enough: Callable[[list[int]], bool] | None = None) -> list[Sample]:
    """One answer to each prompt (token ids), drawn together. ``ends``: tokens that end an answer. ``enough`` is asked every ``ASKED``
    tokens with the tokens of each answer that is still needed; when all have enough, drawing stops.

    Each answer draws from a chance of its own, ``seeds[i]``, so it does not depend on the others of its batch (up to rounding).
    """
    import torch
    from transformers import DynamicCache

    from scionwood.models import decoder

    if not prompts:
        return []
    device = next(model.parameters()).device
    longest, rows = max(map(len, prompts)), len(prompts)
    ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    chances = [random.Random(s) for s in seeds]
    stop = torch.tensor(sorted(ends), dtype=torch.long, device=device)
    cache, chosen, figures = DynamicCache(), [], []
    going = torch.ones(rows, dtype=torch.bool, device=device)
    for step in range(draw.tokens + 1):
        if step == draw.tokens or not bool(going.any()):
            break
        with torch.no_grad(), autocast():
            out = model(inputs_embeds=decoder.embed(model, ids), attention_mask=mask, position_ids=positions, past_key_values=cache,
                        use_cache=True, logits_to_keep=1)
        logits = out.logits[:, -1].float()
        if step < draw.min_tokens:
            logits[:, stop] = -torch.inf
        p = probabilities(logits, draw)
        sums = p.cumsum(-1)
        at = torch.tensor([[c.random()] for c in chances], dtype=torch.float64, device=device) * sums[:, -1:]
        token = torch.searchsorted(sums, at, right=True).clamp(max=logits.shape[-1] - 1)
        log_p = logits.log_softmax(-1)
        own, drawn_from = (torch.special.entr(q).sum(-1) for q in (log_p.exp(), p))
        figures.append(torch.stack([own, -log_p.gather(-1, token)[:, 0], drawn_from.float()]))
        chosen.append(token[:, 0])
        going = going & ~torch.isin(token[:, 0], stop)
        if enough and (step + 1) % ASKED == 0:
            rows_now = torch.stack(chosen, 1).tolist()
            going = going & torch.tensor([not (go and enough(row)) for go, row in zip(going.tolist(), rows_now)], device=device)
        ids, positions = token, positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(token)], -1)
        if on_token:
            on_token(step + 1)
    drawn, series = torch.stack(chosen, 1).tolist(), torch.stack(figures, 2).double().cpu().numpy()
    return [of_row(row, series[:, i], set(ends)) for i, row in enumerate(drawn)]


def of_row(ids: list[int], series: np.ndarray, ends: set[int]) -> Sample:
    """A row up to its first end; ``series`` (3, tokens) are entropies, surprisals and the entropies of what was drawn from."""
    n = next((i for i, t in enumerate(ids) if t in ends), len(ids))
    return Sample(tuple(ids[:n]), n < len(ids), *(figures[:n].copy() for figures in series))
