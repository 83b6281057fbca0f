"""Losses at supervised positions only."""

from __future__ import annotations

NEVER = -100.0  # a log-probability below which nothing is left of a probability in float32: exp(-100) = 4e-44
CHUNK = 256  # supervised positions whose logits exist at the same time: 256 x 151,936 x 4 bytes = 156 MB


def predictive_entropy(log_p):
    """Entropy in nats (positions,) of distributions given as log-probabilities (positions, vocabulary).

    -sum p ln p with the logarithms cut at ``NEVER``. Where a token cannot come, p ln p is 0 times minus infinity, and its
    gradient is not a number: that is how training with an entropy term breaks, the sooner the fewer bits a number has. Cut
    there, value and gradient, -p (ln p + H), are exact, since exp(NEVER) is 0 beside any other probability.
    """
    return -(log_p.exp() * log_p.clamp(min=NEVER)).sum(-1)


def token_losses(logits, labels, entropy_weight: float):
    """Cross-entropy minus ``entropy_weight`` times the predictive entropy, of each position: (positions,) in float32."""
    import torch.nn.functional as F

    if not entropy_weight:
        return F.cross_entropy(logits, labels, reduction="none")
    log_p = F.log_softmax(logits.float(), -1)
    return F.nll_loss(log_p, labels, reduction="none") - entropy_weight * predictive_entropy(log_p)


def cross_entropy(logits_of, count: int, labels, divisor: float, weights=None, entropy_weight: float = 0.0):
    """Sum of token cross-entropies, each times its weight where ``weights`` (count,) is given, over ``divisor``.

    With ``entropy_weight``, each token's loss is its cross-entropy minus so many times the entropy of its prediction.
    ``logits_of(slice)`` gives the logits of a range of the ``count`` supervised positions. Positions are worked off in chunks
    that are recomputed in the backward pass, so that the logits of the whole batch never exist at once.
    """
    import torch
    import torch.nn.functional as F
    from torch.utils.checkpoint import checkpoint

    def part(lo: int, hi: int):
        if weights is None and not entropy_weight:
            return F.cross_entropy(logits_of(slice(lo, hi)), labels[lo:hi], reduction="sum")
        each = token_losses(logits_of(slice(lo, hi)), labels[lo:hi], entropy_weight)
        return (each if weights is None else each * weights[lo:hi]).sum()

    if count <= CHUNK:
        return part(0, count) / divisor
    total = torch.zeros((), device=labels.device)
    for lo in range(0, count, CHUNK):
        total = total + checkpoint(part, lo, min(lo + CHUNK, count), use_reentrant=False)
    return total / divisor


def distillation(student, teacher, labels, temperature: float, weight: float, divisor: float, weights=None, entropy_weight: float = 0.0):
    """``(1 - weight) * CE + weight * T^2 * KL(teacher || student)``, summed over positions (times ``weights``), over ``divisor``.

    With ``entropy_weight``, so many times the entropy of the student's prediction is taken off.

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
    if entropy_weight:
        each = each - entropy_weight * predictive_entropy(F.log_softmax(student.float(), -1))
    return (each if weights is None else each * weights).sum() / divisor
