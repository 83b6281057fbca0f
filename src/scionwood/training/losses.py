"""Losses at supervised positions only."""

from __future__ import annotations

CHUNK = 256  # supervised positions whose logits exist at the same time: 256 x 151,936 x 4 bytes = 156 MB


def cross_entropy(logits_of, count: int, labels, divisor: float, weights=None):
    """Sum of token cross-entropies, each times its weight where ``weights`` (count,) is given, over ``divisor``.

    ``logits_of(slice)`` gives the logits of a range of the ``count`` supervised positions. Positions are worked off in chunks
    that are recomputed in the backward pass, so that the logits of the whole batch never exist at once.
    """
    import torch
    import torch.nn.functional as F
    from torch.utils.checkpoint import checkpoint

    def part(lo: int, hi: int):
        if weights is None:
            return F.cross_entropy(logits_of(slice(lo, hi)), labels[lo:hi], reduction="sum")
        return (F.cross_entropy(logits_of(slice(lo, hi)), labels[lo:hi], reduction="none") * weights[lo:hi]).sum()

    if count <= CHUNK:
        return part(0, count) / divisor
    total = torch.zeros((), device=labels.device)
    for lo in range(0, count, CHUNK):
        total = total + checkpoint(part, lo, min(lo + CHUNK, count), use_reentrant=False)
    return total / divisor


def distillation(student, teacher, labels, temperature: float, weight: float, divisor: float, weights=None):
    """``(1 - weight) * CE + weight * T^2 * KL(teacher || student)``, summed over positions (times ``weights``), over ``divisor``.

    ``student`` and ``teacher`` are logits of shape (positions, vocabulary). The T^2 keeps the gradient's size independent of
    the temperature (Hinton, Vinyals and Dean, 2015). Rows that only one of two models of the same tokenizer has beyond its
    tokens (Qwen pads some vocabularies) take no part in the KL.
    """
    import torch.nn.functional as F

    hard = F.cross_entropy(student, labels, reduction="none")
    size = min(student.shape[-1], teacher.shape[-1])
    log_p, log_q = (F.log_softmax(logits[:, :size] / temperature, -1) for logits in (student, teacher))
    soft = F.kl_div(log_p, log_q, log_target=True, reduction="none").sum(-1)
    each = (1 - weight) * hard + weight * temperature**2 * soft
    return (each if weights is None else each * weights).sum() / divisor
