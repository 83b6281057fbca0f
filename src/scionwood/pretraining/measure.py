"""Bits per byte on held-out text: the base beside ``xz -9e`` and a 5-gram model."""

from __future__ import annotations

import lzma
import math
from pathlib import Path

import numpy as np

from scionwood.pretraining import streams
from scionwood.pretraining.ngram import NgramModel

WINDOW = 512  # tokens; the base sees nothing before its window


def nats(model, ids: list[int], first: int) -> float:
    """Negative log-likelihood of a document's tokens in nats, in windows that each open with the token ``first``."""
    import torch
    import torch.nn.functional as F

    device, total = next(model.parameters()).device, 0.0
    for start in range(0, len(ids), WINDOW):
        part = ids[start : start + WINDOW]
        x = torch.tensor([[first, *part]], device=device)
        with torch.no_grad():
            logits = model(input_ids=x, use_cache=False).logits[0, :-1].float()
        total += F.cross_entropy(logits, x[0, 1:], reduction="sum").item()
    return total


def xz_bits(texts: list[str]) -> int:
    """Size in bits of the texts as ``xz -9e`` packs them together; it gets to see all of them at once, which flatters it."""
    return 8 * len(lzma.compress("\n".join(texts).encode(), preset=9 | lzma.PRESET_EXTREME))


def trained_tokens(folder: Path, rows: list[streams.Rows]) -> np.ndarray:
    """All tokens of the rows that a run trained on, in order, as the n-gram model's training text."""
    return np.concatenate([r.row(i) for r in rows for i in range(len(r.source))]).astype(np.uint16)


def measure(model, tokenizer, known: dict[str, Path], names: list[str], limit_bytes: int, ngram: NgramModel) -> dict:
    """Bits per byte of each source's held-out text and of all of it: ``{source: {bytes, base, xz, ngram}}`` and "all"."""
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    out, everything, sums = {}, [], {"bytes": 0, "base": 0.0, "ngram": 0.0}
    for name in names:
        texts = streams.held_out_texts(name, known[name], limit_bytes)
        if not texts:
            continue
        size = sum(len(t.encode()) for t in texts)
        encoded = [e.ids for e in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]
        base = sum(nats(model, ids, end) for ids in encoded) / math.log(2)
        counted = -sum(ngram.log_probs(np.array([end, *ids], dtype=np.uint16))[1:].sum() for ids in encoded) / math.log(2)
        out[name] = {"bytes": size, "base": round(base / size, 3), "xz": round(xz_bits(texts) / size, 3), "ngram": round(counted / size, 3)}
        everything += texts
        sums = {"bytes": sums["bytes"] + size, "base": sums["base"] + base, "ngram": sums["ngram"] + counted}
    total = max(1, sums["bytes"])
    out["all"] = {"bytes": sums["bytes"], "base": round(sums["base"] / total, 3), "xz": round(xz_bits(everything) / total, 3),
                  "ngram": round(sums["ngram"] / total, 3)}
    return out
