"""The plain products that bf16 attention takes on a CPU: the fused kernel's values and gradients, up to rounding."""

import contextlib

import pytest
import torch
import torch.nn.functional as F

from scionwood.models import attention

AUTOCAST = {"bf16": contextlib.nullcontext, "autocast": lambda: torch.autocast("cpu", torch.bfloat16)}


def tensors(dtype, queries=9, keys=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, n, 16, generator=g).to(dtype).requires_grad_() for n in (queries, keys, keys)]


def masks(which, queries, keys):
    """None, or the mask of a group: a stem that everybody sees, and a causal rest with padding that sees only itself."""
    if which == "causal":
        return None
    causal = torch.ones(queries, queries, dtype=torch.bool).tril()
    real = torch.arange(queries)[None] < torch.tensor([queries, queries - 3])[:, None]
    own = causal[None] & (real[:, None] | torch.eye(queries, dtype=torch.bool)[None])
    return torch.cat([torch.ones(2, queries, keys - queries, dtype=torch.bool), own], -1)[:, None]


def values_and_gradients(given, compute):
    out = compute(*given)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    return [out.float(), *(g.float() for g in torch.autograd.grad((out.float() * weights).sum(), given))]


@pytest.mark.parametrize("how", AUTOCAST)
@pytest.mark.parametrize("which", ["causal", "group"])
def test_equals_the_fused_kernel_in_float32(how, which, monkeypatch):
    keys = 9 if which == "causal" else 14
    mask = masks(which, 9, keys)
    exact = [t.detach().to(torch.bfloat16).float().requires_grad_() for t in tensors(torch.float32, 9, keys)]
    settings = {"attn_mask": mask, "is_causal": mask is None, "scale": 0.3}
    expected = values_and_gradients(exact, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **settings))

    def fused(*a, **kw):
        raise AssertionError("the fused kernel was asked")

    monkeypatch.setattr(F, "scaled_dot_product_attention", fused)
    given = tensors(torch.bfloat16 if how == "bf16" else torch.float32, 9, keys)
    with AUTOCAST[how]():
        found = values_and_gradients(given, lambda q, k, v: attention.attend(q, k, v, mask, 0.3))
    for name, a, b in zip(("value", "query", "key", "value's gradient"), found, expected):
        assert (a - b).norm() < 0.02 * b.norm(), name  # bf16 has eight bits


@pytest.mark.parametrize("dtype, limit", [(torch.float32, attention.PLAIN_SCORES), (torch.bfloat16, 2 * 3 * 9 * 9 - 1)])
def test_float32_and_large_scores_go_to_the_fused_kernel(dtype, limit, monkeypatch):
    asked, fused = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **kw: asked.append(kw) or fused(*a, **kw))
    monkeypatch.setattr(attention, "PLAIN_SCORES", limit)
    q, k, v = tensors(dtype)
    out = attention.attend(q, k, v, None, 0.3)
    assert len(asked) == 1 and asked[0]["is_causal"] and out.shape == q.shape
