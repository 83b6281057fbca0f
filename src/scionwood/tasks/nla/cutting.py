"""The lower blocks of a base as a model of their own, with the same weights: what a reconstructor runs on."""

from __future__ import annotations

import copy
from typing import Sequence

import numpy as np

from scionwood.errors import UserError


def inner(model):
    """The decoder stack (embedding, blocks, norm) of a causal LM, with or without PEFT around it."""
    return (model.get_base_model() if hasattr(model, "get_base_model") else model).model


def cut(model, layer: int):
    """Blocks 0 to ``layer`` of a causal LM (K + 1 of them) with the final norm left out.

    The copy shares every weight with ``model`` and takes no memory of its own. It holds none of the model's adapters, so that a
    verbalizer and a reconstructor can sit on one base. Raises UserError where the model has no such block.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    blocks = inner(base).layers
    if not 0 <= layer < len(blocks):
        raise UserError(f"layer {layer}: this base has blocks 0 to {len(blocks) - 1}")
    # deepcopy takes what stands in the memo instead of copying it
    shared = {id(t): t for t in (*base.parameters(), *base.buffers())}
    unused = {id(block): torch.nn.Identity() for block in blocks[layer + 1 :]}
    out = copy.deepcopy(base, shared | unused)
    out.model.layers = out.model.layers[: layer + 1]
    out.model.norm = torch.nn.Identity()
    for name, module in list(out.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, last = name.rpartition(".")
            setattr(out.get_submodule(parent), last, module.get_base_layer())
    for key in ("peft_config", "_hf_peft_config_loaded"):
        out.__dict__.pop(key, None)
    config = out.config.get_text_config()
    config.num_hidden_layers = layer + 1
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: layer + 1]
    return out


def states(model, rows: Sequence[Sequence[int]], autocast):
    """The output of the last block for token rows of any length: (n, longest, hidden) in float32.

    Rows are padded on the right, which causal attention never sees. The residual stream is float32 under bf16 weights, as in
    training. ``model`` comes from ``cut``, with or without an adapter on it.
    """
    import torch

    stack = inner(model)
    device = stack.embed_tokens.weight.device
    width = max(len(r) for r in rows)
    ids = torch.tensor([[*r, *[r[-1]] * (width - len(r))] for r in rows], device=device)
    mask = torch.from_numpy(np.arange(width)[None] < np.array([len(r) for r in rows])[:, None]).to(device)
    with autocast():
        out = stack(inputs_embeds=stack.embed_tokens(ids).float(), attention_mask=mask.long(), use_cache=False)
    return out.last_hidden_state.float()
