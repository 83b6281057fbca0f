"""Outputs of several blocks at once, and blocks whose output is changed on the way: what axes, readings and steering look at.

"Layer K" is the output of block K, counted from 0, before the final norm; in transformers that is ``hidden_states[K + 1]``.
"""

from __future__ import annotations

import contextlib
from typing import Callable, Iterator, Sequence

import numpy as np

from scionwood.errors import UserError

BATCH = 8  # texts that are read together


def blocks_of(model):
    """The decoder blocks of a causal LM (Qwen, Llama, Gemma shaped), with or without PEFT around it."""
    from scionwood.models import decoder

    return decoder.parts(model)[0].layers


def check_layer(model, layer: int, what: str = "--layer") -> int:
    """The layer, or a UserError where the model has no such block."""
    count = len(blocks_of(model))
    if not 0 <= layer < count:
        raise UserError(f"{what} {layer}: this model has blocks 0 to {count - 1}")
    return layer


@contextlib.contextmanager
def changed(block, change: Callable) -> Iterator[None]:
    """Inside, what the block puts out is ``change(hidden)``; hidden is (batch, n, d). None leaves it as it is."""

    def hook(module, args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        new = change(hidden)
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = block.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


class _Enough(Exception):
    """Raised by a hook where nothing deeper is needed."""


def block_states(model, ids: Sequence[Sequence[int]], layers: Sequence[int], every: bool = False) -> list[np.ndarray]:
    """The output of the named blocks for each token sequence, in float32: (len(layers), d) at its last token, or with ``every``
    (len(layers), n, d) at all of them. Sequences of like length are read together; padding stands to the right, where no token sees it.
    The forward pass ends at the deepest of the blocks.
    """
    import torch

    from scionwood.models import decoder

    stack = decoder.parts(model)[0]
    device = next(model.parameters()).device
    deepest, kept = max(layers), {}

    def keep(layer):
        def take(hidden):
            kept[layer] = hidden.detach()
            if layer == deepest:
                raise _Enough

        return take

    found: list[np.ndarray | None] = [None] * len(ids)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    with contextlib.ExitStack() as hooks:
        for layer in sorted(set(layers)):
            hooks.enter_context(changed(stack.layers[layer], keep(layer)))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            longest = max(len(ids[i]) for i in batch)
            rows = torch.tensor([[*ids[i], *[0] * (longest - len(ids[i]))] for i in batch], device=device)
            mask = torch.tensor([[1] * len(ids[i]) + [0] * (longest - len(ids[i])) for i in batch], device=device)
            with torch.no_grad(), contextlib.suppress(_Enough):
                stack(input_ids=rows, attention_mask=mask, use_cache=False)
            for at, i in enumerate(batch):
                n = len(ids[i])
                take = slice(0, n) if every else n - 1
                found[i] = torch.stack([kept[layer][at, take].float() for layer in layers]).cpu().numpy()
    return found


def prompt_ids(renderer, texts: Sequence[str]) -> list[list[int]]:
    """Each text as a user's turn, up to where the answer would begin: its last token is the template's."""
    return [renderer.render([{"role": "user", "content": text}]).prompt for text in texts]
