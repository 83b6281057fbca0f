"""The decoder stack, walked by hand from any layer on: what tree batches and cached trunks need."""

from __future__ import annotations


def parts(model):
    """Return ``(stack, lm_head)`` of a Qwen3 or Llama causal LM, with or without PEFT around it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.model, inner.lm_head


def embed(model, ids):
    """Token ids of shape (1, n) to layer input of shape (1, n, hidden), in float32.

    The residual stream stays in float32 where weights are bf16: products run in bf16 under autocast, sums do not lose bits.
    """
    return parts(model)[0].embed_tokens(ids).float()


def run_layers(model, hidden, positions, mask, first: int = 0, last: int | None = None, recompute: bool = False):
    """Run decoder layers ``first`` to ``last`` (exclusive) on ``hidden`` of shape (1, n, hidden).

    ``positions`` is (1, n); ``mask`` is the TreeLayout of the row (see models/attention.py).
    With ``recompute`` each layer's inner activations are computed again in the backward pass instead of being kept.
    """
    stack, _ = parts(model)
    rotary = stack.rotary_emb(hidden, positions)

    def run(layer, hidden):
        out = layer(hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotary, use_cache=False)
        return out[0] if isinstance(out, tuple) else out

    for layer in stack.layers[first:last]:
        if recompute:
            from torch.utils.checkpoint import checkpoint

            hidden = checkpoint(run, layer, hidden, use_reentrant=False)
        else:
            hidden = run(layer, hidden)
    return hidden


def states_at(model, hidden, index):
    """What the language model's head reads at the given positions of ``hidden`` (1, n, hidden): (len(index), hidden) in float32."""
    return parts(model)[0].norm(hidden[0, index]).float()


def logits_at(model, hidden, index):
    """Logits of shape (len(index), vocabulary) in float32 at the given positions of ``hidden`` (1, n, hidden) alone."""
    stack, head = parts(model)
    return head(stack.norm(hidden[0, index])).float()
