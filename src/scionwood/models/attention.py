"""Attention over a tree row: each group of sequences attends to its stem and to itself, and to nothing else.

Registered with transformers under the name ``scion_tree``. Given anything but a tree layout as its mask it is the ordinary
SDPA attention, so a model loaded with it can be used in every other way too.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from scionwood.models.trees import TreeRow

NAME = "scion_tree"
PLAIN_SCORES = 1 << 26  # scores of one product: 128 MB in bf16


class TreeLayout:
    """The groups of a row as index tensors. ``take`` (n,) says where in the groups' outputs each node's output stands."""

    def __init__(self, row: TreeRow, device):
        self.parts = []  # (stem index (p,), own index (b, l) or None, mask (b, 1, l, p + l) or None)
        seen = []
        for g in row.groups:
            stem = torch.from_numpy(g.stem).to(device)
            seen.append(g.stem)
            if not g.own.size:
                self.parts.append((stem, None, None))
                continue
            b, width = g.own.shape
            causal = torch.ones(width, width, dtype=torch.bool).tril()
            real = torch.from_numpy(np.arange(width)[None] < g.lengths[:, None])
            own = causal[None] & (real[:, None, :] | torch.eye(width, dtype=torch.bool)[None])  # padding looks at itself only
            mask = torch.cat([torch.ones(b, width, len(g.stem), dtype=torch.bool), own], -1)[:, None]
            self.parts.append((stem, torch.from_numpy(g.own).to(device), mask.to(device)))
            seen.append(g.own.ravel())
        # a node that stands in several groups has the same output in each: the first is taken
        order = np.concatenate(seen)
        nodes, first = np.unique(order, return_index=True)
        if len(nodes) != len(row.nodes):
            raise RuntimeError("a node of the row stands in no group")
        self.take = torch.from_numpy(first).to(device)


def attend(q, k, v, mask, scale: float):
    """Attention of ``q`` (b, heads, l, d) over ``k`` and ``v`` (b, heads, m, d); ``mask`` is boolean, None means causal with l = m.

    On CPUs, bf16 goes through plain products, with the softmax in float32: forward and backward of a typical group took a
    third of the time of PyTorch's fused kernel there. It holds all scores, so large ones are left to the fused kernel.
    """
    size = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else q.dtype  # what the kernel would compute in
    if q.device.type != "cpu" or dtype != torch.bfloat16 or size > PLAIN_SCORES:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
    if mask is None:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    scores = (torch.matmul(q, k.transpose(-1, -2)) * scale).masked_fill(~mask, float("-inf"))
    return torch.matmul(scores.softmax(-1, dtype=torch.float32).to(dtype), v)


def tree_attention(module, query, key, value, attention_mask, dropout: float = 0.0, scaling: float | None = None, **kwargs):
    """``query`` (1, heads, n, d), ``key`` and ``value`` (1, kv heads, n, d) -> output (1, n, heads, d)."""
    if not isinstance(attention_mask, TreeLayout):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    heads, dim = query.shape[1], query.shape[3]
    scaling = dim**-0.5 if scaling is None else scaling
    times = heads // key.shape[1]
    q, k, v = query[0], key[0].repeat_interleave(times, 0), value[0].repeat_interleave(times, 0)  # (heads, n, d)
    out = []
    for stem, own, mask in attention_mask.parts:
        qs, ks, vs = (t.index_select(1, stem)[None] for t in (q, k, v))
        out.append(attend(qs, ks, vs, None, scaling)[0])
        if own is None:
            continue
        b, width = own.shape
        # (heads, b * l, d) -> (b, heads, l, d)
        qo, ko, vo = (t.index_select(1, own.flatten()).view(heads, b, width, dim).transpose(0, 1) for t in (q, k, v))
        ko, vo = (torch.cat([s.expand(b, -1, -1, -1), o], 2) for s, o in ((ks, ko), (vs, vo)))
        o = attend(qo, ko, vo, mask, scaling)
        out.append(o.transpose(0, 1).reshape(heads, b * width, dim))
    return torch.cat(out, 1).index_select(1, attention_mask.take).transpose(0, 1)[None].contiguous(), None


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def use_tree_attention(model):
    """Switch a causal LM of transformers to ``scion_tree``; returns it."""
    model.set_attn_implementation(NAME)
    return model
