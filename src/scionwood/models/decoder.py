"""The decoder stack, walked by hand from any layer on: what tree batches and cached trunks need."""

from __future__ import annotations


def parts(model):
    """Return ``(stack, lm_head)`` of a Qwen3 or Llama causal LM, with or without PEFT around it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.model, inner.lm_head


def embed(model, ids):
    """Token ids of shape (1, n) to layer input of shape (1, n, hidden)."""
    return parts(model)[0].embed_tokens(ids)


def run_layers(model, hidden, positions, mask, first: int = 0, last: int | None = None):
    """Run decoder layers ``first`` to ``last`` (exclusive) on ``hidden`` of shape (1, n, hidden).

    ``positions`` is (1, n); ``mask`` is the TreeLayout of the row (see models/attention.py).
    """
    stack, _ = parts(model)
    rotary = stack.rotary_emb(hidden, positions)
    for layer in stack.layers[first:last]:
        hidden = layer(hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotary, use_cache=False)
        if isinstance(hidden, tuple):
            hidden = hidden[0]
    return hidden


def logits_at(model, hidden, index):
    """Logits of shape (len(index), vocabulary) in float32 at the given positions of ``hidden`` (1, n, hidden) alone."""
    stack, head = parts(model)
    return head(stack.norm(hidden[0, index])).float()
